"""Makes a message readable: who, when, what about, the text, and the names of what is attached.

Whatever is in a message, something can be shown, in bounded time. Nothing here makes text safe for a terminal:
whoever prints it does.
"""

import email
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from email.message import Message
from html.parser import HTMLParser

from waypost.client.encoded import decode_charset, decode_date, decode_value
from waypost.message.headers import HeaderBlock

MOST_OCTETS = 8 * 1024 * 1024
"""Octets of a message that are looked at for its text."""

_SHOWN = (b"from", b"to", b"cc", b"reply-to", b"date", b"subject")
# The library's parser fails in all these ways on messages that are made to make it fail.
_LIBRARY_ERRORS = (RecursionError, ValueError, LookupError, TypeError, AttributeError, AssertionError)


@dataclass(frozen=True, slots=True)
class Summary:
    """One message of a list. `date` is None when there is none that can be read."""

    date: datetime | None
    sender: str
    subject: str


@dataclass(frozen=True, slots=True)
class Readable:
    """A message for a person. `fields` are names and decoded values; `problem` says why `text` is not its text."""

    fields: tuple[tuple[str, str], ...]
    text: str
    attachments: tuple[str, ...]
    problem: str | None = None


def summarize(header: bytes) -> Summary:
    """Return what a list shows of a message."""
    block = HeaderBlock(header)
    return Summary(
        decode_date(block.get(b"date") or b""),
        decode_value(block.get(b"from") or b""),
        decode_value(block.get(b"subject") or b""),
    )


def read_message(content: bytes) -> Readable:
    """Return a message as a person reads it."""
    block = HeaderBlock(content)
    fields = tuple(
        (name.decode().title(), decode_value(value)) for name in _SHOWN for value in block.get_all(name)[:20]
    )
    try:
        message = email.message_from_bytes(content[:MOST_OCTETS])
        texts, attachments = _parts(message)
    except _LIBRARY_ERRORS:
        raw = content[:MOST_OCTETS].decode("utf-8", "replace")
        return Readable(fields, raw, (), "the message is malformed; this is its source")
    plain, html = texts.get("text/plain"), texts.get("text/html")
    if plain is None and html is not None:
        return Readable(fields, _text_of_html(html), attachments, "the message has only HTML; this is its text")
    problem = f"the message is longer than {MOST_OCTETS} octets" if len(content) > MOST_OCTETS else None
    return Readable(fields, plain or "", attachments, problem)


def _parts(message: Message) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the first text of each kind, and what else there is, in words."""
    texts: dict[str, str] = {}
    attachments = []
    for part in _leaves(message):
        kind = part.get_content_type()
        name = part.get_filename()
        payload = part.get_payload(decode=True)
        octets = payload if isinstance(payload, bytes) else b""
        attached = part.get_content_disposition() == "attachment" or name is not None
        if not attached and kind in ("text/plain", "text/html") and kind not in texts:
            texts[kind] = decode_charset(octets, part.get_content_charset() or "utf-8").replace("\r\n", "\n")
        elif attached or not kind.startswith("text/"):
            shown = decode_value(str(name).encode("utf-8", "replace")) if name else "without a name"
            attachments.append(f"{shown} ({kind}, {len(octets)} octets)")
    return texts, tuple(attachments)


def _leaves(message: Message) -> Iterator[Message]:
    """The parts that are no multipart. What is inside of an attached message is not looked at."""
    waiting: list[Message] = [message]
    while waiting:
        part = waiting.pop()
        children = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(children, list):
            waiting.extend(child for child in reversed(children) if isinstance(child, Message))
        else:
            yield part


class _TextOfHtml(HTMLParser):
    """Collects the text of HTML: no scripts, no styles, a line for each block."""

    _SILENT = frozenset({"script", "style", "head", "title"})
    _BLOCKS = frozenset({"p", "div", "br", "tr", "li", "h1", "h2", "h3", "h4", "h5", "h6", "blockquote", "table"})

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in self._SILENT:
            self._silent += 1
        elif tag in self._BLOCKS:
            self.pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._SILENT and self._silent:
            self._silent -= 1
        elif tag == "p":
            self.pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.pieces.append(" ".join(data.split()) + (" " if data[-1:].isspace() else ""))


def _text_of_html(html: str) -> str:
    parser = _TextOfHtml()
    parser.feed(html)
    parser.close()
    lines = [line.strip() for line in "".join(parser.pieces).split("\n")]
    kept = [line for index, line in enumerate(lines) if line or (index and lines[index - 1])]
    return "\n".join(kept).strip() + "\n"
