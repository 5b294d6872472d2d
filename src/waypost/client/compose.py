"""Composes a message: a person's text becomes an envelope and the octets of RFC 5322 and MIME (RFC 2045).

The content is encoded as ASCII, so that every server accepts it; only an address outside ASCII makes it a message of
RFC 6532. Bcc recipients are only in the envelope.
"""

import mimetypes
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from pathlib import Path

from waypost.client.errors import ClientError
from waypost.client.fields import people_field, text_field
from waypost.client.people import Person, parse_people
from waypost.message.envelope import BodyType, Envelope, Recipient
from waypost.protocol.smtp.outgoing import scan

_POLICY = SMTP.clone(cte_type="7bit")
_FIELD_NAME = re.compile(r"[!-9;-~]+\Z")  # RFC 5322 3.6.8
_PEOPLE_FIELDS = frozenset({"reply-to", "sender", "disposition-notification-to", "mail-followup-to"})
_OPTIONS = {"from": "--from", "to": "--to", "cc": "--cc", "bcc": "--bcc", "subject": "--subject"}
_OWN = frozenset({"mime-version", "return-path", "received"})


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file that goes with a message. `kind` is its MIME type: `image/png`."""

    name: str
    kind: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Draft:
    """The text and data that a person gave. `fields` are further header fields, as name and value."""

    sender: Person
    to: tuple[Person, ...] = ()
    cc: tuple[Person, ...] = ()
    bcc: tuple[Person, ...] = ()
    subject: str = ""
    text: str | None = None
    html: str | None = None
    attachments: tuple[Attachment, ...] = ()
    fields: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Composed:
    """A message that is ready to be sent."""

    envelope: Envelope
    content: bytes


def read_attachment(path: Path) -> Attachment:
    """Read a file, and guess its type by its name. Raises `ClientError`."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ClientError(f"{path}: {error.strerror}") from None
    kind, encoding = mimetypes.guess_type(path.name)
    # A compressed file does not have the type of its content; messages must not be in base64 (RFC 2046 5.2.1).
    if kind is None or encoding is not None or kind.partition("/")[0] in ("message", "multipart"):
        kind = "application/octet-stream"
    name = "".join(character if character.isprintable() else "_" for character in path.name)
    return Attachment(name, kind, data)


def parse_field(line: str) -> tuple[str, str]:
    """Read a further header field, `X-Name: value`. Raises `ClientError`."""
    name, colon, value = line.partition(":")
    name = name.strip()
    if not colon or not _FIELD_NAME.match(name):
        raise ClientError(f"{line!r} is not a header field: write 'Name: value'")
    if name.lower() in _OPTIONS:
        raise ClientError(f"{name}: use {_OPTIONS[name.lower()]} for it")
    if name.lower() in _OWN or name.lower().startswith("content-"):
        raise ClientError(f"{name}: this field can't be set by hand")
    return name, value.strip()


def compose(draft: Draft, *, now: datetime, unique: Callable[[], str]) -> Composed:
    """Return the message. `now` has a time zone; `unique` gives the left part of a Message-ID, new each time.

    Raises `ClientError` for what can't be sent.
    """
    people = (*draft.to, *draft.cc, *draft.bcc)
    if not people:
        raise ClientError("the message has no recipient: give --to, --cc or --bcc")
    recipients = tuple({person.address.key: Recipient(person.address) for person in people}.values())
    try:
        content = b"".join(_header(draft, now, unique)) + _body(draft)
    except ValueError as error:  # a line break in a header field
        raise ClientError(str(error)) from None
    utf8 = not all(person.address.local.isascii() for person in (draft.sender, *people))
    body = BodyType.EIGHT_BIT if scan(content).eight_bit else BodyType.SEVEN_BIT
    envelope = Envelope(draft.sender.address, recipients, body=body, smtputf8=utf8, size=len(content))
    return Composed(envelope, content)


def _header(draft: Draft, now: datetime, unique: Callable[[], str]) -> Iterable[bytes]:
    further = {name.lower() for name, _ in draft.fields}
    if "date" not in further:
        yield text_field("Date", format_datetime(now))
    yield people_field("From", [draft.sender])
    for name, people in (("To", draft.to), ("Cc", draft.cc)):
        if people:
            yield people_field(name, people)
    yield text_field("Subject", draft.subject)
    if "message-id" not in further:
        yield text_field("Message-ID", f"<{unique()}@{draft.sender.address.domain_key or 'localhost'}>")
    for name, value in draft.fields:
        if name.lower() in _PEOPLE_FIELDS:
            yield people_field(name, parse_people([value]))
        else:
            yield text_field(name, value)


def _body(draft: Draft) -> bytes:
    """The MIME fields, the blank line and the body."""
    message = EmailMessage(policy=_POLICY)
    if draft.html is None:
        message.set_content(_lines(draft.text or ""))
    elif draft.text:
        message.set_content(_lines(draft.text))
        message.add_alternative(_lines(draft.html), subtype="html")
    else:
        message.set_content(_lines(draft.html), subtype="html")
    for attachment in draft.attachments:
        main, _, sub = attachment.kind.partition("/")
        message.add_attachment(attachment.data, maintype=main, subtype=sub, filename=attachment.name)
    return message.as_bytes()


def _lines(text: str) -> str:
    """The text with line ends of one kind, and the last line ended."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text if text.endswith("\n") or not text else text + "\n"
