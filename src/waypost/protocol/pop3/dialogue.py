"""What one POP3 server session knows and says: its options, state, input buffer, replies, and the open question.

`commands.py` has functions over this; `server.py` drives them and is what an owner sees.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from waypost.protocol.pop3 import replies
from waypost.protocol.pop3.content import DotStuffer, TopCutter
from waypost.protocol.pop3.events import Closed, JunkSaid, Pop3Event
from waypost.protocol.pop3.maildrop import Maildrop
from waypost.protocol.pop3.replies import Pop3Reply


@dataclass(frozen=True, slots=True)
class Pop3Options:
    """What a server session offers and how much it bears. Lengths are octets, with CRLF."""

    hostname: str
    starttls: bool = False  # STLS is offered until TLS is on
    max_command_line: int = 1024  # RFC 2449 section 4 asks for 255
    max_errors: int = 20
    max_answers: int = 1 << 30  # that may wait to be taken; an owner who sets it lets others work in between
    max_junk: int = 100  # commands that lead to nothing; answers wait past it, and past twice it the session ends


class State(Enum):
    """Where a session stands (RFC 1939 3). SENDING, HANDSHAKE and CLOSED read no commands."""

    AUTHORIZATION = auto()
    AUTH = auto()  # inside a SASL exchange
    TRANSACTION = auto()
    SENDING = auto()  # a message goes out
    HANDSHAKE = auto()  # STLS was said; TLS is not on yet
    CLOSED = auto()


class Dialogue:
    """The state of one session. Everything here is the engine's own; no owner touches it."""

    __slots__ = (
        "buffer",
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
        "position",
        "question",
        "state",
        "stuffer",
        "tls",
        "user",
        "utf8",
    )

    def __init__(self, options: Pop3Options, *, tls: bool, mechanisms: tuple[str, ...]) -> None:
        self.options = options
        self.tls = tls
        self.mechanisms = mechanisms
        self.buffer = b""
        self.position = 0  # what stands before it in the buffer is done with
        self.output: list[bytes] = []
        self.output_size = 0
        self.events: deque[Pop3Event] = deque()
        self.question: Pop3Event | None = None  # what the owner has not answered yet
        self.state = State.AUTHORIZATION
        self.user: str | None = None  # between USER and PASS
        self.utf8 = False
        self.maildrop: Maildrop | None = None  # from the login on
        self.stuffer = DotStuffer()
        self.cutter: TopCutter | None = None  # of TOP
        self.listing: Iterator[bytes] | None = None  # of LIST or UIDL, what was not written yet
        self.errors = 0
        self.junk = 0  # commands since the login that led to nothing

    # Input.

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer."""
        if self.state in (State.CLOSED, State.HANDSHAKE):
            return
        rest = self.buffer[self.position :]
        self.buffer = rest + data if rest else data
        self.position = 0

    def drop_input(self) -> None:
        """Forget what was received and not handled."""
        self.buffer, self.position = b"", 0

    def line(self, limit: int) -> bytes | None:  # hot: bench/pop3
        """Return the next line without its CRLF; None when there is none (or the session was closed for it)."""
        buffer, position = self.buffer, self.position
        end = buffer.find(b"\r\n", position)
        whole = end >= 0
        line = buffer[position:end] if whole else buffer[position:]
        if not whole and _has_lf_alone(line) and len(line) <= limit:
            lines = line.count(b"\n")
            if self.state is State.AUTH and lines == 1:  # base64, and the client waits: nothing can hide in it
                self.drop_input()
                return line[:-1]
            if self.state is not State.AUTH:
                self._refuse_lines(lines)
                return None
        # A CR at the end of an unfinished line may still get its LF.
        if b"\n" in line or b"\0" in line or b"\r" in (line if whole else line[:-1]):
            self.say(replies.BARE_LINE_END)
            self.close("a bare CR, bare LF or NUL in a command")
            return None
        if len(line) > limit - 2 + (not whole):
            # What follows a line without an end can't be told from commands.
            self.say(replies.LINE_TOO_LONG)
            self.close("a line that is too long")
            return None
        if not whole:
            return None
        self.position = end + 2
        if self.position == len(buffer):
            self.drop_input()
        return line

    def _refuse_lines(self, count: int) -> None:
        """Answer lines that all end with LF, and that nothing follows. None of them is run."""
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
        """Count commands that lead to nothing: past the limit the client waits, past twice the limit it must go.

        A client may ask for the size, the unique id and the top of each message, and once more.
        """
        self.junk += commands
        limit = self.options.max_junk + (0 if self.maildrop is None else 4 * self.maildrop.total)
        if self.junk > 2 * limit:
            self.say(replies.TOO_MUCH_JUNK)
            self.close("too many commands that lead to nothing")
        elif self.junk > limit:
            self.events.append(JunkSaid())

    def close(self, reason: str) -> None:
        """End the session; the owner writes what is left and closes."""
        if self.state is not State.CLOSED:
            self.state = State.CLOSED
            self.question = None
            self.listing = None
            self.drop_input()
            self.events.append(Closed(reason))


def _has_lf_alone(lines: bytes) -> bool:
    """True for whole lines that all end with LF."""
    return lines.endswith(b"\n") and b"\r" not in lines and b"\0" not in lines
