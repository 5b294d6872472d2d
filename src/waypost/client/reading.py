"""Makes a message readable: sender, date, subject, the text, and the names of attachments.

Something can be shown of any message, in bounded time. This code does not make text safe for a terminal; the code that
prints it does.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from waypost.client.encoded import decode_date, decode_value
from waypost.client.html_text import MOST_CHARACTERS
from waypost.client.shown_parts import shown_parts
from waypost.message.headers import HeaderBlock, fields_end
from waypost.message.structure import scan_structure

MOST_OCTETS = 8 * 1024 * 1024
"""The most octets of a message that are read for its text."""

_SHOWN = (b"from", b"to", b"cc", b"reply-to", b"date", b"subject")
_MOST_FIELDS = 20  # of one name


@dataclass(frozen=True, slots=True)
class Summary:
    """One message of a list. `date` is None when it is missing or can't be read."""

    date: datetime | None
    sender: str
    subject: str


@dataclass(frozen=True, slots=True)
class Readable:
    """A message for a person. `fields` are names and decoded values; `problem` says why `text` is not its full text."""

    fields: tuple[tuple[str, str], ...]
    text: str
    attachments: tuple[str, ...]
    problem: str | None = None


def summarize(header: bytes) -> Summary:
    """Return the data of a message that a list shows."""
    block = HeaderBlock(header)
    return Summary(
        decode_date(block.get(b"date") or b""),
        decode_value(block.get(b"from") or b""),
        decode_value(block.get(b"subject") or b""),
    )


def read_message(content: bytes) -> Readable:
    """Return a message in readable form."""
    seen = _with_header(content[:MOST_OCTETS])
    fields = tuple(_shown_fields(HeaderBlock(seen)))
    structure = scan_structure(seen)
    shown = shown_parts(seen, structure.root, _header_text)
    if not shown.texts and not structure.whole:
        return Readable(fields, seen.decode("utf-8", "replace"), (), "it has too many parts; this is its source")
    problems = []
    if len(content) > MOST_OCTETS:
        problems.append(f"the message is longer than {MOST_OCTETS} octets")
    elif shown.cut:
        problems.append(f"its HTML is longer than {MOST_CHARACTERS} characters, and the end is not shown")
    if shown.html and not shown.plain:
        problems.append("the message has only HTML; this is its text")
    return Readable(fields, shown.text, tuple(shown.listed), "; ".join(problems) or None)


def _with_header(content: bytes) -> bytes:
    """Return a message whose body begins after a blank line, even if the message lacks one.

    If no line before the blank line is a field, all of it is text. Without a blank line, the text begins at the first
    line that is not a field.
    """
    end = fields_end(content)
    if end and not HeaderBlock(content[:end]).fields:
        end = 0
    if content.startswith(b"\r\n\r\n" if end else b"\r\n", end):
        return content
    return content[:end] + (b"\r\n\r\n" if end else b"\r\n") + content[end:].removeprefix(b"\r\n")


def _header_text(header: bytes) -> str:
    return "".join(f"{name}: {value}\n" for name, value in _shown_fields(HeaderBlock(header)))


def _shown_fields(block: HeaderBlock) -> Iterator[tuple[str, str]]:
    for name in _SHOWN:
        for value in block.get_all(name)[:_MOST_FIELDS]:
            yield name.decode().title(), decode_value(value)
