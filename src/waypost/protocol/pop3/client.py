"""The POP3 client engine: status lines and octets in, commands out, no socket (RFC 1939, RFC 2449, RFC 5034).

The owner gives commands, several at once where the server allows it (RFC 2449 6.6), and takes their answers in
order. What a server says is never trusted: lines are bounded, an answer that nothing asked for ends the session, and
so does anything that arrives between STLS and the handshake (RFC 2595 section 4).
"""

import base64
import binascii
import re
from collections import deque
from dataclasses import dataclass
from enum import Enum, auto

from waypost.protocol.smtp.client import ClientMechanism
from waypost.protocol.smtp.content import DotReader

MAX_LINE = 16384  # octets; RFC 2449 section 4 asks for 512, SASL for more
MAX_INITIAL = 255  # octets of AUTH with an initial response (RFC 5034 section 4)

_INJECTED = "the server sent text between STLS and the handshake"
_STATUS = re.compile(rb"(\+OK|-ERR)(?: (?:\[([^\]\s]+)\] ?)?(.*))?\Z", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Answered:
    """The status line that answers the oldest command, or the greeting. `code` is that of RFC 2449 section 8."""

    ok: bool
    text: str
    code: str | None = None


@dataclass(frozen=True, slots=True)
class ContentChunk:
    """The next octets of the answer to LIST, UIDL, CAPA, TOP or RETR, without the doubled dots."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class ContentEnded:
    """The answer to LIST, UIDL, CAPA, TOP or RETR is complete."""


@dataclass(frozen=True, slots=True)
class Pop3Disconnected:
    """The session is over: close the connection. The reason is in plain words."""

    reason: str


Pop3ClientEvent = Answered | ContentChunk | ContentEnded | Pop3Disconnected


class _Awaited(Enum):
    """What the next answer belongs to."""

    LINE = auto()  # a status line alone
    CONTENT = auto()  # a status line; when it is positive, content follows
    TLS = auto()
    AUTH = auto()
    CANCELLED = auto()  # we cancelled AUTH: the answer changes nothing
    QUIT = auto()


class Pop3Client:
    """Sans-IO POP3 client session.

    The owner: `receive` bytes, take `next_event` until None, write `take_output()`. The first event answers the
    connection itself: the greeting.
    """

    def __init__(self) -> None:
        self._buffer = b""
        self._content: DotReader | None = None
        self._awaited: deque[_Awaited] = deque([_Awaited.LINE])
        self._events: deque[Pop3ClientEvent] = deque()
        self._output: list[bytes] = []
        self._mechanism: ClientMechanism | None = None
        self._bare_ends = False  # the server's lines end with LF alone
        self._ended_with_cr = False
        self._unsent: bytes | None = None  # an initial response that did not fit into its line
        self._handshake = False
        self._over = False

    # -- input and output ---------------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take bytes from the server and work through the answers in them."""
        if self._over:
            return
        if self._handshake:
            self.fail(_INJECTED)
            return
        self._buffer += self._with_crlf(data) if self._bare_ends else data
        while self._buffer and not self._over:
            if self._content is not None:
                self._take_content(self._content)
                continue
            line, end, rest = self._buffer.partition(b"\n")
            if len(line) > MAX_LINE:
                self.fail("a line of the server is too long")
            elif not end:
                return
            else:
                if not self._bare_ends and not line.endswith(b"\r"):
                    # A server that ends its answers with LF alone does so in its messages, too.
                    self._bare_ends = True
                    rest = self._with_crlf(rest)
                self._buffer = rest
                self._take_line(line)

    def receive_eof(self) -> None:
        """The server closed the connection, or it is lost."""
        self.fail("the connection was lost")

    def next_event(self) -> Pop3ClientEvent | None:
        """Return the next event; None while more input or a command is needed."""
        return self._events.popleft() if self._events else None

    def take_output(self) -> bytes:
        """Return and forget the bytes to write."""
        output, self._output = b"".join(self._output), []
        return output

    def fail(self, reason: str) -> None:
        """End the session at once; the server removes nothing, since there was no QUIT (RFC 1939 section 6)."""
        if not self._over:
            self._over = True
            self._buffer = b""
            self._events.append(Pop3Disconnected(reason))

    # -- commands -----------------------------------------------------------------------------------------

    def capabilities(self) -> None:
        """Say CAPA (RFC 2449 section 5)."""
        self._command(b"CAPA", _Awaited.CONTENT)

    def start_tls(self) -> None:
        """Say STLS (RFC 2595 section 4); after a positive answer do the handshake, then call `tls_started`."""
        self._command(b"STLS", _Awaited.TLS)

    def tls_started(self) -> None:
        """The handshake is done; ask for the capabilities again."""
        self._handshake = False

    def utf8(self) -> None:
        """Say UTF8, so that internationalised messages come unchanged (RFC 6856 section 2.1)."""
        self._command(b"UTF8")

    def authenticate(self, mechanism: ClientMechanism) -> None:
        """Log in by SASL (RFC 5034)."""
        self._mechanism = mechanism
        initial = base64.b64encode(mechanism.start()) or b"="
        line = b"AUTH " + mechanism.name.encode("ascii")
        if len(line) + 1 + len(initial) + 2 <= MAX_INITIAL:
            line += b" " + initial
        else:
            self._unsent = initial
        self._command(line, _Awaited.AUTH)

    def user(self, name: str) -> None:
        """Say USER. Raises `ValueError` for a name with a line break or a NUL."""
        self._command(b"USER " + _one_line(name))

    def password(self, password: str) -> None:
        """Say PASS. Raises `ValueError` for a password with a line break or a NUL."""
        self._command(b"PASS " + _one_line(password))

    def list(self) -> None:
        """Ask for the numbers and sizes of all messages."""
        self._command(b"LIST", _Awaited.CONTENT)

    def unique_ids(self) -> None:
        """Ask for the unique id of every message (UIDL)."""
        self._command(b"UIDL", _Awaited.CONTENT)

    def retrieve(self, number: int) -> None:
        """Ask for a whole message (RETR)."""
        self._command(b"RETR %d" % number, _Awaited.CONTENT)

    def top(self, number: int, lines: int) -> None:
        """Ask for the header of a message and the first lines of its body."""
        self._command(b"TOP %d %d" % (number, lines), _Awaited.CONTENT)

    def delete(self, number: int) -> None:
        """Mark a message: the server removes it at QUIT."""
        self._command(b"DELE %d" % number)

    def quit(self) -> None:
        """Say QUIT: the server removes the marked messages. Ends with `Pop3Disconnected`."""
        self._command(b"QUIT", _Awaited.QUIT)

    # -- inside -------------------------------------------------------------------------------------------

    def _command(self, line: bytes, awaited: _Awaited = _Awaited.LINE) -> None:
        if not self._over:
            self._output.append(line + b"\r\n")
            self._awaited.append(awaited)

    def _take_content(self, reader: DotReader) -> None:
        octets, rest = reader.feed(self._buffer)
        self._buffer = rest or b""
        if octets:
            self._events.append(ContentChunk(octets))
        if rest is not None:
            self._content = None
            self._events.append(ContentEnded())

    def _with_crlf(self, data: bytes) -> bytes:
        """Return data with CRLF for each LF. A CR that ends a piece and an LF that begins the next are one CRLF."""
        split = self._ended_with_cr and data.startswith(b"\n")
        self._ended_with_cr = data.endswith(b"\r") if data else self._ended_with_cr
        whole = data[1:] if split else data
        whole = whole.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
        return b"\n" + whole if split else whole

    def _take_line(self, line: bytes) -> None:
        line = line.removesuffix(b"\r")
        awaited = self._awaited[0] if self._awaited else None
        if awaited is _Awaited.AUTH and (line == b"+" or line.startswith(b"+ ")):
            self._take_challenge(line[2:])
            return
        match = _STATUS.match(line)
        if match is None:
            self.fail("the answer is not a POP3 answer")
            return
        code = match[2].decode("ascii", "backslashreplace").upper() if match[2] else None
        text = (match[3] or b"").decode("utf-8", "backslashreplace")
        answer = Answered(match[1].upper() == b"+OK", text, code)
        if awaited is None:
            self.fail(f"the server sent an answer that nothing asked for: {text}")
            return
        self._awaited.popleft()
        self._take_answer(answer, awaited)

    def _take_answer(self, answer: Answered, awaited: _Awaited) -> None:
        if awaited is _Awaited.CANCELLED:
            return
        if awaited is _Awaited.AUTH and answer.ok and not (self._mechanism and self._mechanism.done):
            self.fail("the server accepted the login without the proof that it knows the password")
            return
        if awaited is _Awaited.TLS and answer.ok and self._buffer:  # injected before the handshake
            self.fail(_INJECTED)
            return
        self._events.append(answer)
        if awaited is _Awaited.QUIT:
            self.fail("the session is over")
        elif not answer.ok:
            return
        elif awaited is _Awaited.CONTENT:
            self._content = DotReader()
        elif awaited is _Awaited.TLS:
            self._handshake = True

    def _take_challenge(self, encoded: bytes) -> None:
        if self._mechanism is None:
            raise AssertionError("a challenge arrived without a mechanism")
        if self._unsent is not None:
            self._output.append(self._unsent + b"\r\n")
            self._unsent = None
            return
        try:
            response = base64.b64encode(self._mechanism.step(base64.b64decode(encoded, validate=True)))
        except (ValueError, binascii.Error) as error:
            self._awaited[0] = _Awaited.CANCELLED
            self._events.append(Answered(False, f"the server's side of the login is wrong: {error}"))
            response = b"*"
        self._output.append(response + b"\r\n")


def _one_line(text: str) -> bytes:
    if any(character in text for character in "\r\n\0"):
        raise ValueError("user names and passwords must not hold a line break or a NUL")
    return text.encode()
