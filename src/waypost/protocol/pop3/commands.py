"""The commands of a POP3 server as one table, and what each does (RFC 1939, RFC 2449, RFC 2595, RFC 5034, RFC 6856).

To add a command, write its function and its line in `COMMANDS`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from waypost.protocol.pop3 import replies
from waypost.protocol.pop3.content import LineDotStuffer, TopCutter
from waypost.protocol.pop3.dialogue import Dialogue, State
from waypost.protocol.pop3.events import (
    AuthCancelled,
    AuthResponse,
    AuthStarted,
    Leaving,
    MessageWanted,
    PasswordGiven,
    StartTls,
)
from waypost.protocol.pop3.maildrop import Maildrop
from waypost.protocol.pop3.replies import Pop3Reply
from waypost.protocol.sasl.scram import SaslError, unbase64

MAX_AUTH_LINE = 12288  # octets, as in RFC 4954 section 4: the same mechanisms send the same messages
_LINES = 1000  # of a listing, made in one piece
_HTTP = frozenset({b"GET", b"POST", b"HEAD", b"PUT", b"DELETE", b"OPTIONS", b"CONNECT", b"TRACE", b"PATCH"})


@dataclass(frozen=True, slots=True)
class Command:
    """One command: its function, the states in which it is legal, its RFC section, and whether it has an argument.

    `junk` is True for a command that a client can repeat for ever without effect; RSET does its own count.
    """

    run: Callable[[Dialogue, bytes], None]
    states: frozenset[State]
    section: str
    argument: bool = True
    junk: bool = True


class CommandRefused(Exception):
    """A command can't be run; `reply` is the answer to it."""

    def __init__(self, reply: Pop3Reply) -> None:
        super().__init__(reply.text)
        self.reply = reply


def run_command(session: Dialogue, line: bytes) -> None:  # hot: bench/pop3
    """Run one command line, given without its CRLF."""
    verb, _, argument = line.partition(b" ")
    verb = verb.upper()
    command = COMMANDS.get(verb)
    if verb != b"PASS":
        session.user = None  # PASS comes immediately after USER (RFC 1939 7)
    if command is None:
        if verb in _HTTP:  # an attack such as ALPACA sent a browser here: only HTTP will follow
            session.say(replies.NOT_HERE)
            session.close("HTTP on a mail port")
        else:
            session.error(replies.UNKNOWN_COMMAND)
    elif len(line) > session.options.max_command_line - 2 and verb != b"AUTH":
        session.error(replies.LINE_TOO_LONG)
    elif session.state not in command.states:
        session.error(replies.LOG_IN_FIRST if session.maildrop is None else replies.LOGGED_IN)
    elif not command.argument and argument.strip():
        session.error(replies.NO_ARGUMENT)
    else:
        try:
            command.run(session, argument)
        except CommandRefused as refused:
            session.error(refused.reply)
        else:
            if command.junk:
                session.count_junk()


# In both states.


def _capa(session: Dialogue, argument: bytes) -> None:
    """RFC 2449 5: the list depends on TLS alone, so it never differs between the two states."""
    lines = ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER", "UTF8 USER"]
    if session.options.starttls and not session.tls:
        lines.append("STLS")
    if session.tls:
        lines.append("USER")
        if session.mechanisms:
            lines.append("SASL " + " ".join(session.mechanisms))
    lines.append("IMPLEMENTATION Waypost")
    session.say(replies.CAPABILITIES)
    session.write("".join(line + "\r\n" for line in (*lines, ".")).encode())


def _quit(session: Dialogue, argument: bytes) -> None:
    if session.maildrop is None:
        session.say(replies.BYE)
        session.close("quit")
    else:
        session.ask(Leaving(session.maildrop.deleted))


# Before the login.


def _stls(session: Dialogue, argument: bytes) -> None:
    if session.tls:
        raise CommandRefused(replies.TLS_ACTIVE)
    if not session.options.starttls:
        raise CommandRefused(replies.NOT_OFFERED)
    # Commands that were pipelined after STLS came in plain text: they are never run (RFC 2595 4).
    session.drop_input()
    session.state = State.HANDSHAKE
    session.ask(StartTls())


def _utf8(session: Dialogue, argument: bytes) -> None:
    session.utf8 = True
    session.say(replies.UTF8_ON)


def _user(session: Dialogue, argument: bytes) -> None:
    """RFC 6856 2.2: USER and PASS may hold UTF-8, with or without the UTF8 command."""
    if not session.tls:
        raise CommandRefused(replies.NEEDS_TLS)
    user = _text(argument).strip()
    if not user:
        raise CommandRefused(replies.SYNTAX)
    session.user = user
    session.say(replies.PASSWORD_PLEASE)


def _pass(session: Dialogue, argument: bytes) -> None:
    if not session.tls:
        raise CommandRefused(replies.NEEDS_TLS)
    user, session.user = session.user, None
    if user is None:
        raise CommandRefused(replies.USER_FIRST)
    # The rest of the line is the password: spaces belong to it (RFC 1939 7).
    session.ask(PasswordGiven(user, _text(argument)))


def _auth(session: Dialogue, argument: bytes) -> None:
    if not session.tls:
        raise CommandRefused(replies.NEEDS_TLS)
    words = argument.split()
    if not 1 <= len(words) <= 2:
        raise CommandRefused(replies.SYNTAX)
    mechanism = words[0].decode("ascii", "replace").upper()
    if mechanism not in session.mechanisms:
        raise CommandRefused(replies.MECHANISM)
    initial: bytes | None = None
    if len(words) == 2:
        try:
            initial = b"" if words[1] == b"=" else unbase64(words[1])
        except SaslError:
            raise CommandRefused(replies.AUTH_BASE64) from None
    session.state = State.AUTH
    session.ask(AuthStarted(mechanism, initial))


def read_auth(session: Dialogue, line: bytes) -> None:
    """Read the client's answer to a challenge (RFC 5034 4)."""
    try:
        if line != b"*":
            session.ask(AuthResponse(unbase64(line)))
            return
        reply = replies.AUTH_CANCELLED
    except SaslError:
        reply = replies.AUTH_BASE64
    session.state = State.AUTHORIZATION
    session.events.append(AuthCancelled())
    session.error(reply)


# After the login.


def _stat(session: Dialogue, argument: bytes) -> None:
    maildrop = _maildrop(session)
    session.say(replies.ok(f"{maildrop.count} {maildrop.octets}"))


def _list(session: Dialogue, argument: bytes) -> None:
    _listing(session, argument, _maildrop(session).scan_line)


def _uidl(session: Dialogue, argument: bytes) -> None:
    _listing(session, argument, _maildrop(session).unique_line)


def _listing(session: Dialogue, argument: bytes, line: Callable[[int], bytes]) -> None:
    maildrop = _maildrop(session)
    if argument.strip():
        session.write(b"+OK " + line(_index(session, argument)))
        return
    session.say(replies.contents(maildrop.count, maildrop.octets))
    session.listing = _pieces(maildrop, line)


def _pieces(maildrop: Maildrop, line: Callable[[int], bytes]) -> Iterator[bytes]:
    """Yield a listing in pieces, so that a mailbox of a million messages does not hold up the event loop."""
    present = maildrop.present()
    for start in range(0, len(present), _LINES):
        yield b"".join([line(index) for index in present[start : start + _LINES]])
    yield b".\r\n"


def _retr(session: Dialogue, argument: bytes) -> None:
    _send(session, _index(session, argument), None)


def _top(session: Dialogue, argument: bytes) -> None:
    words = argument.split()
    if len(words) != 2:
        raise CommandRefused(replies.SYNTAX)
    _send(session, _index(session, words[0]), _number(words[1]))


def _send(session: Dialogue, index: int, lines: int | None) -> None:
    session.stuffer = LineDotStuffer()
    session.cutter = None if lines is None else TopCutter(lines)
    session.state = State.SENDING
    session.ask(MessageWanted(index, lines))


def _dele(session: Dialogue, argument: bytes) -> None:
    index = _index(session, argument)
    _maildrop(session).delete(index)
    session.say(replies.ok(f"Message {index + 1} will be removed"))


def _noop(session: Dialogue, argument: bytes) -> None:
    session.say(replies.NOOP)


def _rset(session: Dialogue, argument: bytes) -> None:
    maildrop = _maildrop(session)
    marked = len(maildrop.deleted)
    maildrop.reset()
    session.say(replies.contents(maildrop.count, maildrop.octets))
    session.count_junk(1 + marked)


# Arguments.


def _maildrop(session: Dialogue) -> Maildrop:
    assert session.maildrop is not None
    return session.maildrop


def _index(session: Dialogue, argument: bytes) -> int:
    index = _maildrop(session).index(_number(argument.strip()))
    if index is None:
        raise CommandRefused(replies.NO_SUCH_MESSAGE)
    return index


def _number(word: bytes) -> int:
    if not word.isdigit() or len(word) > 9:
        raise CommandRefused(replies.SYNTAX)
    return int(word)


def _text(argument: bytes) -> str:
    try:
        return argument.decode()
    except UnicodeDecodeError:
        raise CommandRefused(replies.NO_UTF8) from None


_BEFORE = frozenset({State.AUTHORIZATION})
_AFTER = frozenset({State.TRANSACTION})

COMMANDS = {
    b"CAPA": Command(_capa, _BEFORE | _AFTER, "RFC 2449 5", argument=False),
    b"QUIT": Command(_quit, _BEFORE | _AFTER, "RFC 1939 4, RFC 1939 6", argument=False, junk=False),
    b"STLS": Command(_stls, _BEFORE, "RFC 2595 4", argument=False, junk=False),
    b"UTF8": Command(_utf8, _BEFORE, "RFC 6856 2.1", argument=False),
    b"USER": Command(_user, _BEFORE, "RFC 1939 7"),
    b"PASS": Command(_pass, _BEFORE, "RFC 1939 7", junk=False),
    b"AUTH": Command(_auth, _BEFORE, "RFC 5034 4", junk=False),
    b"STAT": Command(_stat, _AFTER, "RFC 1939 5", argument=False),
    b"LIST": Command(_list, _AFTER, "RFC 1939 5"),
    b"RETR": Command(_retr, _AFTER, "RFC 1939 5", junk=False),
    b"DELE": Command(_dele, _AFTER, "RFC 1939 5", junk=False),
    b"NOOP": Command(_noop, _AFTER, "RFC 1939 5", argument=False),
    b"RSET": Command(_rset, _AFTER, "RFC 1939 5", argument=False, junk=False),
    b"TOP": Command(_top, _AFTER, "RFC 1939 7"),
    b"UIDL": Command(_uidl, _AFTER, "RFC 1939 7"),
}
