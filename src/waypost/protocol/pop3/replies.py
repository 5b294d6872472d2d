"""Every status line that the POP3 server gives (RFC 1939 3), with its response code (RFC 2449 8, RFC 3206)."""

from dataclasses import dataclass

from waypost.protocol.spans import in_words


@dataclass(frozen=True, slots=True)
class Pop3Reply:
    """A status line: `+OK text`, or `-ERR [CODE] text`. `text` is printable ASCII."""

    positive: bool
    text: str
    code: str | None = None

    @property
    def line(self) -> bytes:
        """The octets on the wire."""
        code = f"[{self.code}] " if self.code else ""
        return f"{'+OK' if self.positive else '-ERR'} {code}{self.text}\r\n".encode("ascii")


def ok(text: str) -> Pop3Reply:
    """Return a positive status."""
    return Pop3Reply(True, text)


def err(text: str, code: str | None = None) -> Pop3Reply:
    """Return a negative status."""
    return Pop3Reply(False, text, code)


BYE = ok("Goodbye")
NOOP = ok("Nothing done")
START_TLS = ok("Begin TLS")
PASSWORD_PLEASE = ok("Now the password")
UTF8_ON = ok("UTF-8 it is")
CAPABILITIES = ok("What is offered")

# Errors of the client.
UNKNOWN_COMMAND = err("Unknown command")
LOG_IN_FIRST = err("Log in first")
LOGGED_IN = err("You are logged in already")
NO_ARGUMENT = err("This command takes no argument")
SYNTAX = err("Syntax error in the argument")
LINE_TOO_LONG = err("Line too long")
BARE_LINE_END = err("Lines end with CRLF, and hold no bare CR, bare LF or NUL")
NO_UTF8 = err("That was no UTF-8")
USER_FIRST = err("Say USER first")
NO_SUCH_MESSAGE = err("No such message")
TOO_MANY_ERRORS = err("Too many errors")
TOO_MUCH_JUNK = err("Too many commands that lead to nothing; please connect again")
NOT_HERE = err("This is a mail server")
TLS_ACTIVE = err("TLS is on already")
NOT_OFFERED = err("Not offered here")

# The login.
NEEDS_TLS = err("Encryption required: say STLS first")
MECHANISM = err("Mechanism not offered")
AUTH_CANCELLED = err("Authentication cancelled")
AUTH_BASE64 = err("That was no base64")
AUTH_MALFORMED = err("That is no message of this mechanism")
AUTH_BINDING = err("unsupported-channel-binding-type: log in without it, or bind to another one")
AUTH_FAILED = err("Wrong user name or password", "AUTH")
AUTH_UNAVAILABLE = err("Logging in is not possible for the moment", "SYS/TEMP")
IN_USE = err("Another session has this mailbox open", "IN-USE")

# Trouble on our side, and ends of a session.
INTERNAL = err("Something went wrong on our side; please try later", "SYS/TEMP")
NOT_REMOVED = err("The messages could not be removed; they are all still here", "SYS/TEMP")
SHUTTING_DOWN = err("The service is stopping; please connect again", "SYS/TEMP")
ACCOUNT_CHANGED = err("The account was closed or has a new password since you logged in; log in again")
ENDED_BY_OPERATOR = err("The operator of this server has ended the session", "SYS/TEMP")
TLS_FAILED = err("TLS is not available for the moment", "SYS/TEMP")


def greeting(hostname: str) -> Pop3Reply:
    """Return the greeting: without angle brackets, which would offer APOP (RFC 1939 7)."""
    return ok(f"{hostname} POP3 ready")


def throttled(seconds: int) -> Pop3Reply:
    """Return the refusal of a login from a network with too many failures; a later try may succeed (RFC 3206 4)."""
    return err(f"Too many failed logins; please try again in {in_words(seconds)}", "SYS/TEMP")


def contents(messages: int, octets: int) -> Pop3Reply:
    """Return the reply that says what a maildrop holds: after a login, after RSET, and before a listing."""
    return ok(f"{messages} messages ({octets} octets)")


def message(size: int) -> Pop3Reply:
    """Return the status line that comes before a message."""
    return ok(f"{size} octets")
