"""Makes a message readable: who, when, what about, the text, and the names of what is attached.

Whatever is in a message, something can be shown, in bounded time. Nothing here makes text safe for a terminal:
whoever prints it does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from waypost.client.encoded import decode_date, decode_value
from waypost.client.html_text import text_of_html
from waypost.message.charset import decode_charset
from waypost.message.headers import HeaderBlock
from waypost.message.structure import Part, scan_structure
from waypost.message.transfer_encoding import decode_transfer

MOST_OCTETS = 8 * 1024 * 1024
"""Octets of a message that are looked at for its text."""

_SHOWN = (b"from", b"to", b"cc", b"reply-to", b"date", b"subject")
_MOST_FIELDS = 20  # of one name


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
    seen = content[:MOST_OCTETS]
    fields = tuple(_shown_fields(HeaderBlock(seen)))
    structure = scan_structure(seen)
    texts, attachments = _parts(seen, structure.root)
    plain, html = texts.get("text/plain"), texts.get("text/html")
    if plain is None and html is None and not structure.whole:
        return Readable(
            fields, seen.decode("utf-8", "replace"), (), "it has too many parts to tell; this is its source"
        )
    if plain is None and html is not None:
        return Readable(fields, text_of_html(html), attachments, "the message has only HTML; this is its text")
    problem = f"the message is longer than {MOST_OCTETS} octets" if len(content) > MOST_OCTETS else None
    return Readable(fields, plain or "", attachments, problem)


def _shown_fields(block: HeaderBlock) -> Iterator[tuple[str, str]]:
    for name in _SHOWN:
        for value in block.get_all(name)[:_MOST_FIELDS]:
            yield name.decode().title(), decode_value(value)


def _parts(content: bytes, root: Part) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the first text of each kind, and what else there is, in words. Attached messages are not looked into."""
    texts: dict[str, str] = {}
    attachments = []
    for part in root.leaves():
        kind, name = part.content_type.value, _file_name(part)
        octets = decode_transfer(content[part.body : part.end], part.encoding)
        attached = name is not None or (part.disposition is not None and part.disposition.value == "attachment")
        if not attached and kind in ("text/plain", "text/html") and kind not in texts:
            texts[kind] = decode_charset(octets, _charset(part)).replace("\r\n", "\n")
        elif attached or part.content_type.major != "text":
            shown = decode_value(name.encode("utf-8", "replace")) if name else "without a name"
            attachments.append(f"{shown} ({kind}, {len(octets)} octets)")
    return texts, tuple(attachments)


def _charset(part: Part) -> str:
    """The charset of a text; where ASCII is meant, or nothing is said, UTF-8 can do no harm."""
    charset = part.content_type.text("charset") or "us-ascii"
    return "utf-8" if charset.lower() == "us-ascii" else charset


def _file_name(part: Part) -> str | None:
    """The name that an attachment asks for; it may be anything, and no path for us."""
    if part.disposition is not None and (name := part.disposition.text("filename")) is not None:
        return name
    return part.content_type.text("name")
