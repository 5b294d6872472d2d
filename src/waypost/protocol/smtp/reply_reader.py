"""Reads replies of an SMTP or LMTP server from bytes (RFC 5321 4.2, RFC 2034): for the client engine only.

Whatever a peer sends, memory and work stay bounded: a reply that is too long or malformed raises `ReplyError`, and
nothing after it is read; of a long text only the beginning is kept. A line may end with LF alone. This is safe, because
a reply is found by its code; and if an acceptance were not understood, the message would be sent again and again.
Characters that are not printable are escaped here, so that they can't fool a reader of logs, journals and reports.
"""

import re

from waypost.message.escape import escape
from waypost.protocol.reply import Reply

MAX_LINE = 4096  # octets; RFC 5321 4.5.3.1.5 asks for 512
MAX_LINES = 256
MAX_REPLY = 32768  # octets of all its lines
MAX_WORDS = 4096
"""Octets of text that are kept of one reply. A server may write `MAX_REPLY` for each of a thousand recipients."""

_LEAST_WORDS = 64  # octets that are kept of each line, whatever came before it: a keyword of EHLO, an enhanced code

# RFC 5321 4.2: a code, then "-" when more lines follow; 4.2.1 lets the text be missing. In a code that RFC 5321 does
# not list, the first digit decides (4.3.2): some servers say 571.
_LINE = re.compile(rb"([2-5][0-9][0-9])(?:([ \t-])([^\0]*))?\Z", re.DOTALL)
# RFC 2034 section 4, RFC 3463 section 2
_ENHANCED = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})(?: |\Z)")


class ReplyError(ValueError):
    """The peer does not speak SMTP; the message says how, in plain words."""


class ReplyReader:
    """Turns bytes into `Reply` values, whatever the pieces in which they arrive."""

    __slots__ = ("_buffer", "_code", "_lines", "_position", "_room", "_size")

    def __init__(self) -> None:
        self._buffer = b""
        self._position = 0
        self._code = 0
        self._size = 0
        self._room = MAX_WORDS
        self._lines: list[str] = []

    def receive(self, data: bytes) -> None:
        """Take bytes from the peer; `next` reads them."""
        self._buffer = self._buffer[self._position :] + data if self._buffer else data
        self._position = 0

    @property
    def buffered(self) -> bool:
        """True while bytes were received that no complete reply has consumed."""
        return bool(self._buffer) or bool(self._lines)

    def next(self) -> Reply | None:  # hot: bench/relay
        """Return the next whole reply; None when more bytes are needed. Raises `ReplyError`."""
        while True:
            buffer, position = self._buffer, self._position
            end = buffer.find(b"\n", position) + 1
            if not end:
                if len(buffer) - position > MAX_LINE:
                    raise ReplyError("a line of the reply is too long")
                return None
            self._position = end
            if end == len(buffer):
                self._buffer, self._position = b"", 0
            finished = self._take_line(buffer[position:end])
            if finished is not None:
                return finished

    def _take_line(self, line: bytes) -> Reply | None:
        self._size += len(line)
        if len(line) > MAX_LINE:
            raise ReplyError("a line of the reply is too long")
        match = _LINE.match(line[:-2] if line.endswith(b"\r\n") else line[:-1])
        if match is None:
            raise ReplyError("the answer is not an SMTP reply")
        code = int(match.group(1))
        if self._lines and code != self._code:  # RFC 5321 4.2.1
            raise ReplyError("the lines of one reply have different codes")
        self._code = code
        words = (match.group(3) or b"")[: max(self._room, _LEAST_WORDS)]
        self._room -= len(words)
        self._lines.append(_words(words))
        if match.group(2) == b"-":
            if len(self._lines) >= MAX_LINES or self._size > MAX_REPLY:
                raise ReplyError("the reply is too long")
            return None
        lines, self._lines, self._size, self._room = self._lines, [], 0, MAX_WORDS
        return _reply(code, lines)


def _words(octets: bytes) -> str:
    """Return printable text: octets that are not UTF-8, and characters that are not printable, become escapes."""
    text = octets.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else " " if character == "\t" else escape(character) for character in text
    )


def _reply(code: int, lines: list[str]) -> Reply:
    match = _ENHANCED.match(lines[-1])
    if match is None or int(match.group(1)) != code // 100:  # RFC 2034 4: the classes agree
        return Reply(code, None, tuple(lines))
    enhanced = match.group(0).rstrip()
    return Reply(code, enhanced, tuple(line.removeprefix(enhanced).removeprefix(" ") for line in lines))
