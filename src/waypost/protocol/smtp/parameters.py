"""The arguments of MAIL and RCPT: a path and ESMTP parameters, read into envelope values (RFC 5321 4.1.2)."""

import re
from collections.abc import Callable
from datetime import datetime
from typing import Literal

from msgspec.structs import replace

from waypost.message.address import AddressError, parse_path
from waypost.message.envelope import (
    BodyType,
    DeliverBy,
    Envelope,
    Notify,
    OriginalRecipient,
    Recipient,
    Ret,
)
from waypost.message.trace import Micros
from waypost.protocol.reply import Reply
from waypost.protocol.smtp import replies
from waypost.protocol.smtp.xtext import decode_xtext

_PARAMETER = re.compile(r"([A-Za-z0-9][A-Za-z0-9-]*)(?:=([^\s=\x00-\x1f\x7f]+))?\Z")
_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+")
_SECOND = 1_000_000


class ParameterRefused(Exception):
    """The command is refused; `reply` says why."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(str(reply))
        self.reply = reply


def decode_line(line: bytes) -> str:
    """Return a command line as text. Raises `ParameterRefused` when it is not UTF-8."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise ParameterRefused(replies.syntax("The line is not UTF-8")) from None


def split_parameters(text: str) -> dict[str, str | None]:
    """Return the parameters after a path, keywords in upper case. Raises `ParameterRefused`."""
    found: dict[str, str | None] = {}
    if text and not text[0].isspace():
        raise ParameterRefused(replies.syntax("A space is missing behind the path"))
    for word in text.split():
        match = _PARAMETER.match(word)
        if match is None:
            raise ParameterRefused(replies.syntax("A parameter is not well formed"))
        keyword = match[1].upper()
        if keyword in found:
            raise ParameterRefused(replies.syntax(f"Parameter {keyword} is given twice"))
        found[keyword] = match[2]
    return found


def parse_mail(text: str, *, smtputf8: bool, submission: bool, max_hold: int, now: Micros) -> Envelope:
    """Read `<path> parameters` of MAIL FROM. Raises `ParameterRefused`."""
    try:
        path, end = parse_path(text, utf8=True)
    except AddressError as error:
        raise ParameterRefused(replies.bad_sender(f"The sender's address: {error}")) from None
    if path is not None and not path.domain:
        raise ParameterRefused(replies.bad_sender("The sender's address has no domain"))
    envelope = Envelope(reverse_path=path)
    for keyword, value in split_parameters(text[end:]).items():
        read = _MAIL.get(keyword) or (_SUBMISSION.get(keyword) if submission else None)
        if read is None or (keyword == "SMTPUTF8" and not smtputf8):
            raise ParameterRefused(replies.unknown_parameter(keyword))
        envelope = read(envelope, value, now, max_hold)
    if path is not None and not path.is_ascii and not envelope.smtputf8:
        raise ParameterRefused(replies.NEEDS_SMTPUTF8)
    return envelope


def parse_rcpt(text: str, *, smtputf8: bool) -> Recipient:
    """Read `<path> parameters` of RCPT TO. Raises `ParameterRefused`."""
    try:
        path, end = parse_path(text, utf8=True)
    except AddressError as error:
        raise ParameterRefused(replies.bad_recipient(f"The recipient's address: {error}")) from None
    if path is None:
        raise ParameterRefused(replies.bad_recipient("The null path is no recipient"))
    if not path.is_ascii and not smtputf8:
        raise ParameterRefused(replies.NEEDS_SMTPUTF8)
    recipient = Recipient(path)
    for keyword, value in split_parameters(text[end:]).items():
        read = _RCPT.get(keyword)
        if read is None:
            raise ParameterRefused(replies.unknown_parameter(keyword))
        recipient = read(recipient, value)
    return recipient


def _notify(recipient: Recipient, value: str | None) -> Recipient:
    """RFC 3461 4.1: NEVER alone, or a list of the three conditions."""
    words = (value or "").upper().split(",")
    if words == ["NEVER"]:
        return replace(recipient, notify=Notify.NEVER)
    notify = Notify.NEVER
    for word in words:
        if word not in ("SUCCESS", "FAILURE", "DELAY") or notify & Notify[word]:
            raise ParameterRefused(replies.syntax("NOTIFY is NEVER, or a list of SUCCESS, FAILURE and DELAY"))
        notify |= Notify[word]
    return replace(recipient, notify=notify)


def _orcpt(recipient: Recipient, value: str | None) -> Recipient:
    return replace(recipient, original=_original(value))


def _original(value: str | None) -> OriginalRecipient:
    """RFC 3461 4.2: `rfc822;bob@example.org`, in xtext; RFC 6533 section 3: `utf-8;` with its own escapes."""
    kind, separator, text = (value or "").partition(";")
    if not separator or not _ATOM.fullmatch(kind) or not text or len(value or "") > 500:
        raise ParameterRefused(replies.syntax("ORCPT is type;address, such as rfc822;bob@example.org"))
    if kind.lower() == "utf-8":
        text = re.sub(r"\\x\{([0-9A-Fa-f]{1,6})\}", _character, text)
        if not text.isprintable():
            raise ParameterRefused(replies.syntax("ORCPT holds what can't be an address"))
        return OriginalRecipient("utf-8", text)
    try:
        return OriginalRecipient(kind, _printable(decode_xtext(text)))
    except ValueError:
        raise ParameterRefused(replies.syntax("ORCPT is not xtext (RFC 3461 4)")) from None


def _character(found: re.Match[str]) -> str:
    number = int(found[1], 16)
    return chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else "\0"


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("a control character")
    return text


def _size(envelope: Envelope, value: str | None, now: Micros, max_hold: int) -> Envelope:
    """RFC 1870 section 3."""
    if value is None or not value.isdecimal() or len(value) > 20:
        raise ParameterRefused(replies.syntax("SIZE is a number of octets"))
    return replace(envelope, size=int(value))


def _body(envelope: Envelope, value: str | None, now: Micros, max_hold: int) -> Envelope:
    """RFC 6152 section 2, RFC 3030 section 3."""
    try:
        return replace(envelope, body=BodyType((value or "").upper()))
    except ValueError:
        raise ParameterRefused(replies.syntax("BODY is 7BIT, 8BITMIME or BINARYMIME")) from None


def _smtputf8(envelope: Envelope, value: str | None, now: Micros, max_hold: int) -> Envelope:
    """RFC 6531 section 3.4: the parameter has no value."""
    if value is not None:
        raise ParameterRefused(replies.syntax("SMTPUTF8 takes no value"))
    return replace(envelope, smtputf8=True)


def _ret(envelope: Envelope, value: str | None, now: Micros, max_hold: int) -> Envelope:
    """RFC 3461 section 4.3."""
    try:
        return replace(envelope, ret=Ret((value or "").upper()))
    except ValueError:
        raise ParameterRefused(replies.syntax("RET is FULL or HDRS")) from None


def _envid(envelope: Envelope, value: str | None, now: Micros, max_hold: int) -> Envelope:
    """RFC 3461 section 4.4: xtext of printable ASCII, at most 100 characters."""
    try:
        envid = decode_xtext(value or "")
    except ValueError:
        raise ParameterRefused(replies.syntax("ENVID is not xtext (RFC 3461 4)")) from None
    if not envid or not envid.isascii() or not envid.isprintable() or len(value or "") > 100:
        raise ParameterRefused(replies.syntax("ENVID is 1 to 100 printable characters"))
    return replace(envelope, envid=envid)


def _auth(envelope: Envelope, value: str | None, now: Micros, max_hold: int) -> Envelope:
    """RFC 4954 section 5: the submitter that a client names is not believed; it counts as `AUTH=<>`."""
    try:
        decode_xtext(value or "")
    except ValueError:
        raise ParameterRefused(replies.syntax("AUTH is not xtext (RFC 3461 4)")) from None
    if not value:
        raise ParameterRefused(replies.syntax("AUTH= needs a mailbox or <>"))
    return envelope


def _hold(envelope: Envelope, until: Micros, now: Micros, max_hold: int) -> Envelope:
    if envelope.hold_until is not None:
        raise ParameterRefused(replies.syntax("Either HOLDFOR or HOLDUNTIL, not both"))
    if until > now + max_hold * _SECOND:
        raise ParameterRefused(replies.syntax(f"Held for {max_hold} seconds at most"))
    return replace(envelope, hold_until=max(until, now))


def _holdfor(envelope: Envelope, value: str | None, now: Micros, max_hold: int) -> Envelope:
    """RFC 4865 section 4: seconds from now."""
    if value is None or not re.fullmatch(r"[1-9]\d{0,8}", value):
        raise ParameterRefused(replies.syntax("HOLDFOR is a number of seconds"))
    return _hold(envelope, now + int(value) * _SECOND, now, max_hold)


def _holduntil(envelope: Envelope, value: str | None, now: Micros, max_hold: int) -> Envelope:
    """RFC 4865 section 4: an internet date-time of RFC 3339 in UTC or with an offset."""
    try:
        moment = datetime.fromisoformat((value or "").upper().replace("Z", "+00:00"))
        if moment.tzinfo is None:
            raise ValueError
    except ValueError:
        raise ParameterRefused(replies.syntax("HOLDUNTIL is a time such as 2026-11-24T18:00:00Z")) from None
    return _hold(envelope, int(moment.timestamp() * _SECOND), now, max_hold)


def _by(envelope: Envelope, value: str | None, now: Micros, max_hold: int) -> Envelope:
    """RFC 2852 section 4: `seconds;R` or `seconds;N`, with T for a trace; R needs a positive time."""
    match = re.fullmatch(r"([+-]?\d{1,9});([RN])(T?)", (value or "").upper())
    if match is None:
        raise ParameterRefused(replies.syntax("BY is seconds;R or seconds;N, such as 3600;R"))
    seconds = int(match[1])
    if match[2] == "R" and seconds <= 0:
        raise ParameterRefused(replies.syntax("BY with R needs a time in the future"))
    mode: Literal["R", "N"] = "R" if match[2] == "R" else "N"
    return replace(envelope, deliver_by=DeliverBy(now + seconds * _SECOND, mode, bool(match[3])))


def _priority(envelope: Envelope, value: str | None, now: Micros, max_hold: int) -> Envelope:
    """RFC 6710 section 3: -9 to 9."""
    if value is None or not re.fullmatch(r"-?[1-9]|0", value):
        raise ParameterRefused(replies.syntax("MT-PRIORITY is a number from -9 to 9"))
    return replace(envelope, priority=int(value))


# To add a parameter, write its reader, which takes the envelope or recipient so far, and its line in a table.
_Reader = Callable[[Envelope, str | None, Micros, int], Envelope]
_MAIL: dict[str, _Reader] = {
    "SIZE": _size,
    "BODY": _body,
    "SMTPUTF8": _smtputf8,
    "RET": _ret,
    "ENVID": _envid,
    "AUTH": _auth,
    "BY": _by,
}
_SUBMISSION: dict[str, _Reader] = {
    "HOLDFOR": _holdfor,
    "HOLDUNTIL": _holduntil,
    "MT-PRIORITY": _priority,
}
_RCPT: dict[str, Callable[[Recipient, str | None], Recipient]] = {
    "NOTIFY": _notify,
    "ORCPT": _orcpt,
}
