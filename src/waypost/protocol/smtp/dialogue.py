"""The state of one server session: options, input buffer, replies, and the question that the owner must answer.

`commands.py` and `incoming.py` hold the functions that work on it; `server.py` calls them and is the interface for an
owner.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, auto
from functools import lru_cache

from waypost.message.envelope import Envelope
from waypost.message.trace import Micros
from waypost.protocol.line_input import LineInput, has_bare_end
from waypost.protocol.reply import Reply
from waypost.protocol.smtp import replies
from waypost.protocol.smtp.content import ChunkReader, DotReader
from waypost.protocol.smtp.events import AuthCancelled, Closed, JunkSaid, ServerEvent

_MAX_REPLY_LINE = 510  # octets, without the CRLF


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What a server session offers, and its limits. Times are seconds, sizes octets."""

    hostname: str
    lmtp: bool = False
    dsn: bool = True  # offered; its parameters are read in any case
    submission: bool = False  # FUTURERELEASE, MT-PRIORITY and AUTH are offered
    starttls: bool = False  # offered until TLS is on
    mechanisms: tuple[str, ...] = ()  # AUTH mechanisms, offered over TLS only
    auth_required: bool = False  # MAIL before AUTH is answered 530 5.7.0
    max_message_size: int = 50 * 1024 * 1024
    max_recipients: int = 1000
    max_command_line: int = 4096
    max_transactions: int = 1000
    max_errors: int = 20
    max_junk: int = 100  # useless commands: past this limit replies are delayed, past twice the limit the session ends
    max_hold: int = 30 * 86400  # FUTURERELEASE: seconds into the future
    greeting: str = "ESMTP"


class State(IntEnum):
    """The states of a session. In CONTENT, CHUNK and AUTH it reads input other than commands.

    They are whole numbers, because a set finds a number without calling Python code.
    """

    START = auto()  # no EHLO yet
    READY = auto()
    MAIL = auto()
    RCPT = auto()
    CONTENT = auto()
    CHUNK = auto()
    BDAT = auto()  # between two BDAT commands of one message
    AUTH = auto()
    CLOSED = auto()


class Dialogue(LineInput):
    """The state of one session. It belongs to the engine; an owner never touches it."""

    __slots__ = (
        "auth_done",
        "chunks",
        "closed",
        "content",
        "discarding",
        "envelope",
        "errors",
        "events",
        "extended",
        "follows",
        "junk",
        "last_chunk",
        "now",
        "options",
        "output",
        "overshoot",
        "question",
        "refusal",
        "state",
        "tls",
        "transactions",
    )

    def __init__(self, options: ServerOptions, *, now: Callable[[], Micros], tls: bool) -> None:
        super().__init__()
        self.options = options
        self.now = now
        self.tls = tls
        self.output: list[bytes] = []
        self.events: deque[ServerEvent] = deque()
        self.question: Callable[[Reply], None] | None = None  # takes the owner's answer
        self.state = State.START
        self.follows = State.START  # the state after the running command, when it succeeds
        self.closed = False  # the same as state CLOSED; it is read often
        self.envelope: Envelope | None = None
        self.extended = False
        self.auth_done = False
        self.content: DotReader | None = None
        self.chunks: ChunkReader | None = None
        self.last_chunk = False
        self.discarding = 0  # octets of a refused BDAT that are still to come
        self.refusal: Reply | None = None  # the reply to the end of the content
        self.errors = 0
        self.junk = 0  # commands since the last message or login that led to nothing
        self.overshoot = 0  # recipients past the limit, in this transaction
        self.transactions = 0

    # Input.

    def line(self, limit: int) -> bytes | None:  # hot: bench/accept
        """Return the next line without its CRLF; None when no line is complete, or the line closed the session."""
        while (line := self.take_line()) is not None:
            if has_bare_end(line):
                self.say(replies.BARE_LINE_END)
                self.close("a bare CR, bare LF or NUL in a command")
                return None
            if len(line) <= limit - 2:
                return line
            self.error(replies.LINE_TOO_LONG)
            if self.state is State.AUTH:  # RFC 4954 section 4: the line was a response, so the exchange has failed
                self.state = State.READY
                self.events.append(AuthCancelled())
                return None
            if self.closed:
                return None
        return self._unended(limit)

    def _unended(self, limit: int) -> bytes | None:
        """Handle input in which no line ends with CRLF yet; return a line that may end with LF alone."""
        if self.unread > limit:
            # What follows can't be told from commands: the session ends (RFC 5321 4.5.3.1.4).
            self.say(replies.LINE_TOO_LONG)
            self.close("a line without an end")
        elif self.buffer.find(b"\n", self.position) >= 0:
            lines = self.lines_with_lf()
            if self.state is State.AUTH and lines == 1:  # base64, and the client waits: no command can hide in it
                return self.take_rest()[:-1]
            if self.state is not State.AUTH and lines:
                self._refuse_lines(lines)
                return None
            self.say(replies.BARE_LINE_END)
            self.close("a bare LF in a command")
        return None

    def _refuse_lines(self, count: int) -> None:
        """Refuse lines that all end with LF. None of them is run."""
        self.drop_input()
        for _ in range(count):
            self.error(replies.BARE_LINE_END)
            if self.closed:
                return

    # Output.

    def ask(self, event: ServerEvent, answered: Callable[[Reply], None]) -> None:
        """Put a question to the owner; nothing more is read until it is answered."""
        self.events.append(event)
        self.question = answered

    def say(self, reply: Reply) -> None:
        """Write a reply; its text may be outside ASCII only in a transaction with SMTPUTF8 (RFC 6531 3.7.4)."""
        self.output.append(reply_octets(reply, self.envelope is not None and self.envelope.smtputf8))

    def error(self, reply: Reply) -> None:
        """Write a refusal, and count it; too many end the session."""
        self.say(reply)
        self.errors += 1
        if reply.code == 421:
            self.close(str(reply))
        elif self.errors > self.options.max_errors:
            self.say(replies.TOO_MANY_ERRORS)
            self.close("too many errors")
        else:
            self.count_junk()

    def count_junk(self, commands: int = 1) -> None:
        """Count useless commands: past the limit replies are delayed, past twice the limit the session ends."""
        self.junk += commands
        if self.junk > 2 * self.options.max_junk:
            self.say(replies.TOO_MUCH_JUNK)
            self.close("too many commands without a message")
        elif self.junk > self.options.max_junk:
            self.events.append(JunkSaid())

    def got_somewhere(self) -> None:
        """A message was accepted, or the client has logged in: count useless commands from zero again."""
        self.junk = 0

    def close(self, reason: str) -> None:
        """End the session; the owner writes the remaining output and closes the connection."""
        if not self.closed:
            self.state = State.CLOSED
            self.closed = True
            self.drop_input()
            self.events.append(Closed(reason))

    # The transaction.

    def end_transaction(self) -> None:
        """Forget the envelope and wait for the next MAIL."""
        self.forget_envelope()
        if not self.closed:
            self.state = State.READY

    def forget_envelope(self) -> None:
        """Forget all that belongs to a transaction."""
        self.envelope = None
        self.content = None
        self.chunks = None
        self.refusal = None
        self.overshoot = 0


@lru_cache(maxsize=256)
def reply_octets(reply: Reply, utf8: bool = False) -> bytes:
    """Return a reply in wire form, its lines cut to the length that a client must accept (RFC 5321 4.5.3.1.5)."""
    status = f"{reply.enhanced} " if reply.enhanced else ""
    last = len(reply.lines) - 1
    lines = []
    for number, line in enumerate(reply.lines):
        text = f"{reply.code}{' ' if number == last else '-'}{status}{line}"
        octets = text.encode() if utf8 else text.encode("ascii", "backslashreplace")
        if len(octets) > _MAX_REPLY_LINE:
            octets = octets[:_MAX_REPLY_LINE].decode(errors="ignore").encode()
        lines.append(octets + b"\r\n")
    return b"".join(lines)
