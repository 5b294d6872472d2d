"""What MAIL and RCPT say to one server, decided before anything is sent (RFC 5321 4.1.1.2 and 4.1.1.3).

Nothing is sent to a server that lacks an extension which the message needs: the recipients concerned fail permanently
here. Pure: envelope, facts and capabilities in, lines out.
"""

import msgspec

from waypost.message.address import Address, AddressError
from waypost.message.envelope import BodyType, DeliverBy, Envelope, Notify, OriginalRecipient, Recipient
from waypost.message.trace import Micros
from waypost.protocol.reply import Reply, reply
from waypost.protocol.smtp.capabilities import Capabilities
from waypost.protocol.smtp.outgoing import ContentFacts
from waypost.protocol.smtp.xtext import encode_xtext

_SECOND = 1_000_000

# RFC 6531 3.5: 5.6.7 is about an address, 5.6.9 about the header.
LACKS_SMTPUTF8_ADDRESS = reply(553, "5.6.7", "The next server does not take addresses outside ASCII (SMTPUTF8)")
LACKS_SMTPUTF8_HEADER = reply(550, "5.6.9", "The next server does not take headers outside ASCII (SMTPUTF8)")
LACKS_8BITMIME = reply(554, "5.6.3", "The next server does not take 8-bit content (8BITMIME)")
LACKS_BINARYMIME = reply(554, "5.6.3", "The next server does not take binary content (BINARYMIME)")
UNCLEAN_CONTENT = reply(554, "5.6.1", "The message holds a bare CR, a bare LF or a NUL, which no server may take")
TOO_LARGE = reply(552, "5.3.4", "The message is larger than the next server takes")
LACKS_DELIVERBY = reply(
    554, "5.3.3", "The next server does not know DELIVERBY, and the sender asked for a return rather than delay"
)
DEADLINE_PASSED = reply(554, "5.4.7", "The time by which the sender wanted delivery is over")
TOO_LITTLE_TIME = reply(554, "5.4.7", "The next server promises nothing within the time that is left for delivery")
UNWRITABLE_ADDRESS = reply(553, "5.1.3", "The address can't be written on one line of SMTP")


class CommandPlan(msgspec.Struct, frozen=True):
    """The lines of one transaction. `rcpt[i]` is None where `refused[i]` is the outcome of the recipient."""

    mail: bytes
    rcpt: tuple[bytes | None, ...]
    refused: tuple[Reply | None, ...]
    binary: bool


class Refusal(msgspec.Struct, frozen=True):
    """Nothing may be sent: `reply` is the outcome of every recipient."""

    reply: Reply


def plan_transaction(
    envelope: Envelope,
    recipients: tuple[Recipient, ...],
    facts: ContentFacts,
    server: Capabilities,
    now: Micros,
) -> CommandPlan | Refusal:  # hot: bench/relay
    """Return the command lines (with CRLF) of a transaction, or why it can't take place."""
    binary = envelope.body is BodyType.BINARY and server.binary
    refusal = _refusal(envelope, recipients, facts, server, binary, now)
    if refusal is not None:
        return Refusal(refusal)
    utf8 = server.smtputf8 and (envelope.smtputf8 or _needs_utf8(envelope.reverse_path, recipients))
    path = _path(envelope.reverse_path, utf8)
    if path is None:
        return Refusal(LACKS_SMTPUTF8_ADDRESS)
    mail = f"MAIL FROM:<{path}>" + _mail_parameters(envelope, facts, server, binary, now)
    mail_line = _line(mail + " SMTPUTF8" if utf8 else mail)
    if mail_line is None:
        return Refusal(UNWRITABLE_ADDRESS)
    rcpt: list[bytes | None] = []
    refused: list[Reply | None] = []
    for recipient in recipients:
        line, why = _rcpt(recipient, utf8, server)
        rcpt.append(line)
        refused.append(why)
    return CommandPlan(mail_line, tuple(rcpt), tuple(refused), binary)


def _refusal(
    envelope: Envelope,
    recipients: tuple[Recipient, ...],
    facts: ContentFacts,
    server: Capabilities,
    binary: bool,
    now: Micros,
) -> Reply | None:
    if server.size and facts.size > server.size:  # RFC 1870 section 6.3
        return TOO_LARGE
    # Checked before 8BITMIME, which SMTPUTF8 implies: this reply names something that the sender can change.
    if envelope.smtputf8 and not server.smtputf8 and not facts.header_ascii:
        in_ascii = any(recipient.address.local.isascii() for recipient in recipients)
        return LACKS_SMTPUTF8_HEADER if in_ascii else LACKS_SMTPUTF8_ADDRESS
    if not binary:
        if not facts.line_clean:
            return LACKS_BINARYMIME if envelope.body is BodyType.BINARY else UNCLEAN_CONTENT
        if facts.eight_bit and not server.eight_bit:  # RFC 6152 section 3
            return LACKS_8BITMIME
    by = envelope.deliver_by
    if by is not None and by.mode == "R":  # RFC 2852 section 4
        if by.deadline <= now:
            return DEADLINE_PASSED
        if not server.offers("DELIVERBY"):
            return LACKS_DELIVERBY
        if (by.deadline - now) // _SECOND < server.deliver_by:  # its min-by-time
            return TOO_LITTLE_TIME
    return None


def _needs_utf8(reverse_path: Address | None, recipients: tuple[Recipient, ...]) -> bool:
    if reverse_path is not None and not reverse_path.local.isascii():
        return True
    return any(not recipient.address.local.isascii() for recipient in recipients)


def _path(address: Address | None, utf8: bool) -> str | None:
    """The address as it stands between the angle brackets; None when it needs SMTPUTF8 and may not."""
    if address is None:
        return ""
    if utf8 or address.is_ascii:
        return str(address)
    if not address.local.isascii():
        return None
    try:
        return str(address.at(address.domain_key))  # every U-label has an A-label (RFC 5890)
    except AddressError:
        return None


def _mail_parameters(envelope: Envelope, facts: ContentFacts, server: Capabilities, binary: bool, now: Micros) -> str:
    parameters = ""
    if server.offers("SIZE"):
        parameters += f" SIZE={facts.size}"
    if binary:
        parameters += " BODY=BINARYMIME"
    elif facts.eight_bit:
        parameters += " BODY=8BITMIME"
    if server.dsn:
        if envelope.ret is not None:
            parameters += f" RET={envelope.ret}"
        if envelope.envid is not None:
            parameters += f" ENVID={encode_xtext(envelope.envid)}"
    if envelope.priority and server.offers("MT-PRIORITY"):
        parameters += f" MT-PRIORITY={envelope.priority}"
    if envelope.deliver_by is not None and server.offers("DELIVERBY"):
        parameters += _by(envelope.deliver_by, now)
    if envelope.hold_until is not None and envelope.hold_until > now and server.offers("FUTURERELEASE"):
        seconds = -(-(envelope.hold_until - now) // _SECOND)
        if seconds <= server.max_hold:  # RFC 4865 section 4; longer than that, it goes out early
            parameters += f" HOLDFOR={seconds}"
    return parameters


def _by(by: DeliverBy, now: Micros) -> str:
    # RFC 2852 section 4: by-time is what is left, in whole seconds; negative only in mode N, 0 never in mode R.
    left = (by.deadline - now) // _SECOND
    if by.mode == "R":
        left = max(left, 1)
    left = max(-999_999_999, min(left, 999_999_999))
    return f" BY={left};{by.mode}{'T' if by.trace else ''}"


def _rcpt(recipient: Recipient, utf8: bool, server: Capabilities) -> tuple[bytes | None, Reply | None]:
    path = _path(recipient.address, utf8)
    if path is None:
        return None, LACKS_SMTPUTF8_ADDRESS
    text = f"RCPT TO:<{path}>"
    if server.dsn:
        if recipient.notify is not None:
            text += f" NOTIFY={_notify(recipient.notify)}"
        if recipient.original is not None:
            text += f" ORCPT={_orcpt(recipient.original)}"
    line = _line(text)
    return (line, None) if line is not None else (None, UNWRITABLE_ADDRESS)


def _notify(notify: Notify) -> str:
    return ",".join(kind.name or "" for kind in Notify if kind & notify) or "NEVER"


def _orcpt(original: OriginalRecipient) -> str:
    kind, address = original.kind, original.address
    if kind.lower() != "utf-8" and address.isascii():
        return f"{kind};{encode_xtext(address)}"
    # RFC 6533 section 3: the form in which a utf-8 address passes every server.
    coded = (
        character if "!" <= character <= "~" and character not in "\\+=" else f"\\x{{{ord(character):X}}}"
        for character in address
    )
    return "utf-8;" + "".join(coded)


def _line(text: str) -> bytes | None:
    if "\r" in text or "\n" in text or "\0" in text:
        return None
    try:
        return text.encode() + b"\r\n"
    except UnicodeEncodeError:  # a lone surrogate has no UTF-8
        return None
