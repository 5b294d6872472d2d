"""The state of one POP3 server session: options, input buffer, replies, and the question that the owner must answer.

`commands.py` holds the functions that work on it; `server.py` calls them and is the interface for an owner.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from waypost.protocol.line_input import LineInput, has_bare_end
from waypost.protocol.pop3 import replies
from waypost.protocol.pop3.content import LineDotStuffer, TopCutter
from waypost.protocol.pop3.events import Closed, JunkSaid, Pop3Event
from waypost.protocol.pop3.maildrop import Maildrop
from waypost.protocol.pop3.replies import Pop3Reply


@dataclass(frozen=True, slots=True)
class Pop3Options:
    """What a server session offers, and its limits. Lengths are octets, with CRLF."""

    hostname: str
    starttls: bool = False  # STLS is offered until TLS is on
    max_command_line: int = 1024  # RFC 2449 section 4 asks for 255
    max_errors: int = 20
    max_answers: int = 1 << 30  # in the output, after which the owner takes them and lets other sessions run
    max_junk: int = 100  # useless commands: past this limit answers are delayed, past twice the limit the session ends


class State(Enum):
    """The states of a session (RFC 1939 3). In SENDING, HANDSHAKE and CLOSED it reads no commands."""

    AUTHORIZATION = auto()
    AUTH = auto()  # inside a SASL exchange
    TRANSACTION = auto()
    SENDING = auto()  # a message goes out
    HANDSHAKE = auto()  # STLS was said; TLS is not on yet
    CLOSED = auto()


class Dialogue(LineInput):
    """The state of one session. It belongs to the engine; an owner never touches it."""

    __slots__ = (
        "cutter",
        "errors",
        "events",
        "junk",
        "listing",
        "maildrop",
        "mechanisms",
        "options",
        "output",
        "output_size",
        "question",
        "state",
        "stuffer",
        "tls",
        "user",
        "utf8",
    )

    def __init__(self, options: Pop3Options, *, tls: bool, mechanisms: tuple[str, ...]) -> None:
        super().__init__()
        self.options = options
        self.tls = tls
        self.mechanisms = mechanisms
        self.output: list[bytes] = []
        self.output_size = 0
        self.events: deque[Pop3Event] = deque()
        self.question: Pop3Event | None = None  # what the owner has not answered yet
        self.state = State.AUTHORIZATION
        self.user: str | None = None  # between USER and PASS
        self.utf8 = False
        self.maildrop: Maildrop | None = None  # from the login on
        self.stuffer = LineDotStuffer()
        self.cutter: TopCutter | None = None  # of TOP
        self.listing: Iterator[bytes] | None = None  # the part of LIST or UIDL that was not written yet
        self.errors = 0
        self.junk = 0  # commands since the login that led to nothing

    # Input.

    def line(self, limit: int) -> bytes | None:  # hot: bench/pop3
        """Return the next line without its CRLF; None when no line is complete, or the line closed the session."""
        line = self.take_line()
        if line is None:
            return self._unended(limit)
        if has_bare_end(line):
            self._end(replies.BARE_LINE_END, "a bare CR, bare LF or NUL in a command")
        elif len(line) > limit - 2:
            self._end(replies.LINE_TOO_LONG, "a line that is too long")
        else:
            return line
        return None

    def _unended(self, limit: int) -> bytes | None:
        """Handle input in which no line ends with CRLF yet; return a line that may end with LF alone."""
        lines = self.lines_with_lf() if self.unread <= limit else 0
        if lines and self.state is not State.AUTH:
            self._refuse_lines(lines)
        elif lines == 1:  # one line of base64, and the client waits: no command can hide in it
            return self.take_rest()[:-1]
        elif has_bare_end(self.buffer[self.position :].removesuffix(b"\r")):  # a CR at its end may still get its LF
            self._end(replies.BARE_LINE_END, "a bare CR, bare LF or NUL in a command")
        elif self.unread >= limit:  # what follows it can't be told from commands
            self._end(replies.LINE_TOO_LONG, "a line that is too long")
        return None

    def _end(self, reply: Pop3Reply, reason: str) -> None:
        self.say(reply)
        self.close(reason)

    def _refuse_lines(self, count: int) -> None:
        """Refuse lines that all end with LF and that nothing follows. None of them is run."""
        self.drop_input()
        for _ in range(count):
            self.error(replies.BARE_LINE_END)
            if self.state is State.CLOSED:
                return

    # Output.

    def ask(self, event: Pop3Event) -> None:
        """Put a question to the owner; nothing more is read until it is answered."""
        self.events.append(event)
        self.question = event

    def write(self, data: bytes) -> None:
        """Write octets."""
        self.output.append(data)
        self.output_size += len(data)

    def say(self, reply: Pop3Reply) -> None:
        """Write a status line."""
        self.write(reply.line)

    def error(self, reply: Pop3Reply) -> None:
        """Write a refusal, and count it; too many end the session."""
        self.say(reply)
        self.errors += 1
        if self.errors > self.options.max_errors:
            self.say(replies.TOO_MANY_ERRORS)
            self.close("too many errors")
        else:
            self.count_junk()

    def count_junk(self, commands: int = 1) -> None:
        """Count useless commands: past the limit answers are delayed, past twice the limit the session ends.

        The limit grows by four for each message: a client may ask for its size, its unique id, its top, and one more.
        """
        self.junk += commands
        limit = self.options.max_junk + (0 if self.maildrop is None else 4 * self.maildrop.total)
        if self.junk > 2 * limit:
            self.say(replies.TOO_MUCH_JUNK)
            self.close("too many commands that lead to nothing")
        elif self.junk > limit:
            self.events.append(JunkSaid())

    def close(self, reason: str) -> None:
        """End the session; the owner writes the remaining output and closes the connection."""
        if self.state is not State.CLOSED:
            self.state = State.CLOSED
            self.question = None
            self.listing = None
            self.drop_input()
            self.events.append(Closed(reason))
