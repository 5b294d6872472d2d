"""The part of a report that people read: what happened to whom, what the other server said, what to do now.

Plain words come first, the exact ones after them. The words of a peer are quoted, so nobody takes them for ours.
"""

import re
import textwrap
import time
from collections.abc import Sequence

from waypost.message.decoded_words import decode_value
from waypost.message.dsn_fields import neutral, printable
from waypost.message.headers import HeaderBlock
from waypost.message.reply import Reply
from waypost.message.report import Action, Concerned, Report
from waypost.message.trace import Micros, format_trace_id

WHOLE_MESSAGE, BEGINNING = "The message", "The beginning of the message"
"""How a report names its attachment."""

_WIDTH = 72
_SUBJECT = 200  # characters that are shown of a Subject
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)

# By subject and detail of a status (RFC 3463 and the registry that RFC 5248 began): what it means, and what helps.
_MEANINGS: dict[str, tuple[str, str]] = {
    "1.1": (
        "There is no mailbox of that name.",
        "Check the address for a spelling mistake, or ask for the right one; then send the message again.",
    ),
    "1.2": (
        "The domain behind the @ does not exist, or has no place for mail.",
        "Check what stands behind the @ for a spelling mistake, and send the message again.",
    ),
    "1.3": (
        "The address is not written in a way in which mail can be sent to it.",
        "Check the address for a spelling mistake, and send the message again.",
    ),
    "1.6": ("The recipient has moved away from this address.", "Ask the recipient for the new address."),
    "1.7": (
        "The other server does not accept your own address as that of a sender.",
        "Check the address from which your program sends, or ask the postmaster of your system for help.",
    ),
    "1.8": (
        "The other server can't find the domain of your own address.",
        "Check the address from which your program sends, or ask the postmaster of your system for help.",
    ),
    "1.10": (
        "The domain behind the @ says that it takes no mail at all.",
        "Check what stands behind the @ for a spelling mistake, or reach the recipient in another way.",
    ),
    "2.1": ("The mailbox is closed for mail.", "Reach the recipient in another way, or at another address."),
    "2.2": ("The mailbox is full.", "Send the message again later, or tell the recipient in another way."),
    "2.3": (
        "The message is larger than this mailbox takes.",
        "Send it with smaller attachments, or as several messages.",
    ),
    "3.4": (
        "The message is larger than the other server takes.",
        "Send it with smaller attachments, or as several messages.",
    ),
    "4.6": (
        "The message went in a circle between servers.",
        "The forwarding of this address leads back to itself; its owner or postmaster has to mend it.",
    ),
    "4.7": (
        "The message could not be delivered within the time that there was for it.",
        "Send the message again later, or reach the recipient in another way.",
    ),
    "6.7": (
        "The other server can't take addresses with letters outside the English alphabet.",
        "Ask the recipient for an address in plain letters, and send from one if yours is not.",
    ),
    "6.9": (
        "The other server can't take headers with letters outside the English alphabet.",
        "Send the message again with subject and names in plain letters.",
    ),
}
_BY_SUBJECT: dict[str, tuple[str, str]] = {
    "1": ("The address was not accepted.", "Check the address for a spelling mistake, and send the message again."),
    "2": ("The mailbox can't take the message.", "Send the message again later, or reach the recipient otherwise."),
    "4": ("The other server could not be reached.", "Send the message again later."),
    "6": (
        "The other server can't take the message in the form in which it is.",
        "Send it again in another form, such as plain text, or with other attachments.",
    ),
    "7": (
        "The other server refused the message by its rules.",
        "See in its words which rule it was; the recipient, or the postmaster over there, can tell more.",
    ),
}
_ELSE = (
    "The message was not accepted.",
    "Send the message again later, or ask the recipient or the postmaster of your system for help.",
)
_STATUS = re.compile(r"[245]\.(\d{1,3}\.\d{1,3})\Z")


def explain(report: Report) -> str:
    """Return the text for people, in lines that end with a line feed."""
    blocks = [_paragraph(_OPENINGS[report.action](report)), _about(report)]
    for same in _alike(report.concerned):
        blocks.append("\n".join(f"    <{printable(str(concerned.recipient.address))}>" for concerned in same))
        blocks += _reasons(report, same[0])
    blocks += [_paragraph(text) for text in _endings(report)]
    return "\n\n".join(blocks) + "\n\n" + _signature(report)


def _people(report: Report) -> str:
    count = len(report.concerned)
    return "this recipient" if count == 1 else f"these {count} recipients"


_OPENINGS = {
    Action.FAILED: lambda report: f"Your message could not be delivered to {_people(report)}.",
    Action.DELAYED: lambda report: (
        f"Your message could not be delivered to {_people(report)} yet. It is not lost: it waits here and is "
        "tried again and again. You don't have to do anything."
    ),
    Action.DELIVERED: lambda report: f"Your message was delivered to {_people(report)}.",
    Action.RELAYED: lambda report: (
        f"Your message to {_people(report)} was passed on to the next mail server, which does not tell us whether it "
        "arrives."
    ),
    Action.EXPANDED: lambda report: (
        f"Your message reached {_people(report)}. "
        + ("This address stands" if len(report.concerned) == 1 else "These addresses stand")
        + " for others, to whom it goes on now."
    ),
}


def _about(report: Report) -> str:
    lines = []
    subject = _subject(report.header)
    if subject:
        lines += textwrap.wrap(
            subject, _WIDTH, initial_indent="    Subject: ", subsequent_indent="             ", break_on_hyphens=False
        )
    lines.append(f"    Sent:    {people_time(report.arrived)}")
    return "\n".join(lines)


def _subject(header: bytes) -> str:
    """Return the Subject as people see it, its encoded words decoded (RFC 2047)."""
    raw = HeaderBlock(header).get(b"subject") or b""
    return neutral(decode_value(raw[: _SUBJECT * 76]), limit=_SUBJECT)  # an encoded word of 75 holds a letter at least


def _alike(concerned: Sequence[Concerned]) -> list[list[Concerned]]:
    groups: dict[tuple[str, Reply | None, str | None], list[Concerned]] = {}
    for one in concerned:
        groups.setdefault((one.status, one.reply, one.problem), []).append(one)
    return list(groups.values())


def _reasons(report: Report, concerned: Concerned) -> list[str]:
    """The paragraphs on one outcome: what it means, what the server said, what to do."""
    if report.action not in (Action.FAILED, Action.DELAYED):
        return [] if concerned.reply is None else [_quotation(report, str(concerned.reply))]
    meaning, advice = _meaning(concerned.status)
    failed = report.action is Action.FAILED
    blocks = [_paragraph(meaning)] if failed else []
    if concerned.reply is not None:
        blocks.append(_quotation(report, str(concerned.reply)))
    elif concerned.problem is not None:
        blocks.append(_paragraph(f"What went wrong: {neutral(concerned.problem)}."))
    if failed:
        blocks.append(_paragraph(f"What you can do: {advice[0].lower()}{advice[1:]}"))
    return blocks


def _meaning(status: str) -> tuple[str, str]:
    found = _STATUS.match(status)
    detail = found[1] if found else ""
    return _MEANINGS.get(detail) or _BY_SUBJECT.get(detail.partition(".")[0]) or _ELSE


def _quotation(report: Report, reply: str) -> str:
    who = f"The mail server {neutral(report.remote)} said:" if report.remote else "The other mail server said:"
    quoted = textwrap.wrap(
        neutral(reply), _WIDTH, initial_indent="    | ", subsequent_indent="    | ", break_on_hyphens=False
    )
    return "\n".join([_paragraph(who), "", *quoted])


def _endings(report: Report) -> list[str]:
    if report.action is Action.DELAYED and report.retry_until is not None:
        until = people_time(report.retry_until)
        return [f"It is tried until {until}. If it can't be delivered by then, you will be told."]
    if report.action is Action.RELAYED:
        return ["You hear of it again only if something goes wrong."]
    if report.action is Action.DELIVERED:
        return ["Your program asked for this report. It does not say whether the message was read."]
    if report.action is Action.FAILED:
        what = WHOLE_MESSAGE if report.content else BEGINNING
        return (
            [f"It will not be tried again. {what} is attached."] if report.header else ["It will not be tried again."]
        )
    return []


def _signature(report: Report) -> str:
    return (
        "-- \n"
        + _paragraph(
            f"This report was written by the mail system at {report.hostname}. If you need help, answer it: a person, "
            f"the postmaster, reads that, and will want to know the number of your message: "
            f"{format_trace_id(report.about)}"
        )
        + "\n"
    )


def _paragraph(text: str) -> str:
    return textwrap.fill(text, _WIDTH, break_on_hyphens=False)


def people_time(moment: Micros) -> str:
    """Return a time as people write it: `24 November 2026, 16:57 UTC`."""
    parts = time.gmtime(moment // 1_000_000)
    return f"{parts.tm_mday} {_MONTHS[parts.tm_mon - 1]} {parts.tm_year}, {parts.tm_hour:02}:{parts.tm_min:02} UTC"
