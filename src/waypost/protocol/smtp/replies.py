"""Every reply that a Waypost server gives (RFC 5321 4.2), with its enhanced code (RFC 3463, RFC 5248, RFC 7372)."""

from waypost.protocol.reply import Reply, reply
from waypost.protocol.session import Ending
from waypost.protocol.spans import in_words

OK = reply(250, "2.0.0", "Ok")
RESET = reply(250, "2.0.0", "Forgotten")
SENDER_OK = reply(250, "2.1.0", "Sender ok")
RECIPIENT_OK = reply(250, "2.1.5", "Recipient ok")
GO_AHEAD = reply(354, None, "Go ahead; end with <CRLF>.<CRLF>")
START_TLS = reply(220, "2.0.0", "Ready to start TLS")
BYE = reply(221, "2.0.0", "Goodbye")
HELP = reply(214, "2.0.0", "Commands: RFC 5321. Addresses are not confirmed; just send.")
CANNOT_VERIFY = reply(252, "2.5.2", "Addresses are not confirmed; send, and we will see")
AUTHENTICATED = reply(235, "2.7.0", "Welcome")

# Errors of the client.
UNKNOWN_COMMAND = reply(500, "5.5.1", "Unknown command")
LINE_TOO_LONG = reply(500, "5.5.6", "Line too long")
BARE_LINE_END = reply(554, "5.5.2", "Lines end with CRLF, and hold no bare CR, bare LF or NUL")
NOT_HERE = reply(554, "5.5.1", "This is a mail server")
SYNTAX = reply(501, "5.5.4", "Syntax error in the argument")
NO_ARGUMENT = reply(501, "5.5.4", "This command takes no argument")
NOT_IMPLEMENTED = reply(502, "5.5.1", "Not offered here")
BAD_SEQUENCE = reply(503, "5.5.1", "Not now: another command comes first")
SAY_HELLO = reply(503, "5.5.1", "Say EHLO first")
NO_VALID_RECIPIENTS = reply(554, "5.5.1", "No valid recipients")
USE_BDAT = reply(503, "5.5.1", "BINARYMIME content comes by BDAT (RFC 3030)")
DATA_OR_BDAT = reply(503, "5.5.1", "DATA can't follow BDAT; say RSET first")
TLS_ACTIVE = reply(503, "5.5.1", "TLS is on already")
TOO_MANY_ERRORS = reply(421, "4.7.0", "Too many errors")
TOO_MUCH_JUNK = reply(421, "4.7.0", "Too many commands without a message; please connect again")
TOO_MANY_TRANSACTIONS = reply(421, "4.5.3", "Enough for one session; please connect again")
EARLY_TALKER = reply(554, "5.5.1", "You spoke before the greeting")

# Content.
CONTENT_BARE_LINE_END = reply(
    550, "5.6.11", "The message holds a bare CR, a bare LF or a NUL: only CRLF ends a line (RFC 5321 2.3.8)"
)
TOO_LARGE = reply(552, "5.3.4", "The message is larger than this server takes")
HEADER_TOO_LARGE = reply(552, "5.3.4", "The header of the message is too large")
LOOP = reply(554, "5.4.6", "The message is in a loop: it has passed too many servers")

# Logins, senders and recipients.
AUTH_REQUIRED = reply(530, "5.7.0", "Authentication required")
AUTH_NEEDS_TLS = reply(538, "5.7.11", "Encryption required: say STARTTLS first")
AUTH_FAILED = reply(535, "5.7.8", "Wrong user name or password")
AUTH_CANCELLED = reply(501, "5.7.0", "Authentication cancelled")
AUTH_BASE64 = reply(501, "5.5.2", "That was no base64")
AUTH_MALFORMED = reply(501, "5.5.2", "The login can't be read: it is not what the mechanism asks for")
AUTH_BINDING = reply(504, "5.5.4", "unsupported-channel-binding-type: log in without it, or bind to another one")
AUTH_MECHANISM = reply(504, "5.5.4", "Mechanism not offered")
AUTH_DONE = reply(503, "5.5.1", "You are logged in already")
AUTH_TEMPORARY = reply(454, "4.7.0", "Logging in is not possible for the moment")
ACCOUNT_CLOSED = reply(525, "5.7.13", "This account is closed")
ACCOUNT_CHANGED = reply(421, "4.7.0", "The account was closed or has a new password since you logged in; log in again")
NOT_TRUSTED = reply(554, "5.7.1", "This port is for known devices; mail programs log in on port 465 or 587")
RELAY_DENIED = reply(550, "5.7.1", "Relaying denied: this server hosts no such domain")
NOT_QUALIFIED = reply(554, "5.1.2", "Write the domain in full, such as example.org")
NO_SUCH_USER = reply(550, "5.1.1", "No such user here")
MAILBOX_DISABLED = reply(550, "5.2.1", "This mailbox is closed")
NO_PROMISE = reply(554, "5.4.7", "Mail for this address goes on from here, and nobody can promise when it arrives")
MAILBOX_FULL = reply(452, "4.2.2", "The mailbox is full")
TOO_MANY_RECIPIENTS = reply(452, "4.5.3", "Too many recipients; send the rest in another message")
NEEDS_SMTPUTF8 = reply(553, "5.6.7", "An address outside ASCII needs the parameter SMTPUTF8")

# Trouble on our side, and ends of a session.
STORAGE_FULL = reply(452, "4.3.1", "No space left for the moment; please try later")
MEMORY_FULL = reply(452, "4.3.1", "Too much arrives at once; please try later")
INTERNAL = reply(451, "4.3.0", "Something went wrong on our side; please try later")
SHUTTING_DOWN = reply(421, "4.3.2", "The service is stopping; please connect again")
TIMED_OUT = reply(421, "4.4.2", "You were silent for too long")
ENDED_BY_OPERATOR = reply(421, "4.3.2", "The operator of this server has ended the session")
TOO_MANY_CONNECTIONS = reply(421, "4.7.0", "Too many connections from your network; please try later")
SERVER_BUSY = reply(421, "4.3.2", "Too many connections; please try later")
TLS_FAILED = reply(454, "4.7.0", "TLS is not available for the moment")

FAREWELLS = {
    Ending.TIMED_OUT: TIMED_OUT,
    Ending.STOPPING: SHUTTING_DOWN,
    Ending.ACCOUNT_CHANGED: ACCOUNT_CHANGED,
    Ending.BY_OPERATOR: ENDED_BY_OPERATOR,
}
"""The reply to the client when our side ends a session (RFC 5321 3.8)."""


def queued(trace: str) -> Reply:
    """Return the acceptance of a message; the trace id is its last word."""
    return reply(250, "2.0.0", f"Ok: queued as {trace}")


def queued_with_priority(priority: int, trace: str) -> Reply:
    """Return the acceptance of a message whose priority was changed; the new one comes first (RFC 6710, RFC 5248)."""
    return reply(250, "2.3.6", f"{priority} is the new priority; queued as {trace}")


def syntax(problem: str) -> Reply:
    """Return a syntax error that says what is wrong."""
    return reply(501, "5.5.4", problem)


def bad_sender(problem: str) -> Reply:
    """Return the refusal of a malformed reverse-path."""
    return reply(501, "5.1.7", problem)


def bad_recipient(problem: str) -> Reply:
    """Return the refusal of a malformed forward-path."""
    return reply(501, "5.1.3", problem)


def unknown_parameter(keyword: str) -> Reply:
    """Return the refusal of a parameter that was not offered (RFC 5321 4.1.1.11)."""
    return reply(555, "5.5.4", f"Parameter {keyword} is not offered")


def too_large(limit: int) -> Reply:
    """Return the refusal of a declared size (RFC 1870 6.1)."""
    return reply(552, "5.3.4", f"The message is larger than this server takes: {limit} octets")


def not_your_address(account: str, address: str) -> Reply:
    """Return the refusal of a sender that is not the account's own."""
    return reply(553, "5.7.1", f"{account} may not send as {address}")


def not_a_named_sender(address: str) -> Reply:
    """Return the refusal of a sender that was not named for the devices of a network."""
    return reply(553, "5.7.1", f"Devices of this network may not send as {address}")


def malformed_message(problem: str) -> Reply:
    """Return the refusal of a message whose structure is wrong (RFC 6409 6)."""
    return reply(554, "5.6.0", problem)


def spent(what: str) -> Reply:
    """Return the refusal of an account that has used up what it may send (RFC 5321 4.2.3)."""
    return reply(452, "4.7.1", f"You have reached the limit of {what}; please try later")


def throttled(seconds: int) -> Reply:
    """Return the refusal of a login from a network with too many failures (RFC 4954 6)."""
    return reply(454, "4.7.0", f"Too many failed logins; please try again in {in_words(seconds)}")
