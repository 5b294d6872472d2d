"""`waypost send`: composes a message and submits it to a server, like a mail program."""

from __future__ import annotations

import os
import secrets
import sys
import tempfile
import time
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from waypost.cli.frame import fail, json_option, print_json
from waypost.cli.mail_server import password_source, server_options, trust
from waypost.cli.terminal import echo, printable

if TYPE_CHECKING:
    from waypost.client.compose import Draft
    from waypost.client.places import ServerPlace
    from waypost.client.submit import Submitted

_FILE = click.Path(path_type=Path)
_FIELDS = ("From", "To", "Cc", "Bcc", "Subject")


@dataclass(frozen=True, slots=True)
class _Words:
    """What the person gave, before it is checked. `text` is None until there is one."""

    sender: str
    to: tuple[str, ...]
    cc: tuple[str, ...]
    bcc: tuple[str, ...]
    subject: str
    text: str | None
    html: Path | None
    attach: tuple[Path, ...]
    fields: tuple[str, ...] = field(default=())


@click.command()
@click.argument("text", required=False)
@click.option("--from", "sender", metavar="ADDRESS", help="Default: the user that logs in.")
@click.option("--to", multiple=True, metavar="ADDRESS", help="May be given more than once.")
@click.option("--cc", multiple=True, metavar="ADDRESS")
@click.option("--bcc", multiple=True, metavar="ADDRESS", help="The others don't see it.")
@click.option("--subject", default="", metavar="TEXT")
@click.option("--attach", multiple=True, type=_FILE, metavar="FILE")
@click.option("--html", type=_FILE, metavar="FILE", help="The message in HTML, with or without a text.")
@click.option("--header", "fields", multiple=True, metavar="'NAME: VALUE'")
@click.option(
    "--via",
    envvar="WAYPOST_VIA",
    metavar="URL",
    help="submissions://USER@HOST, submission://USER@HOST, or smtp://HOST in laboratories. Default: $WAYPOST_VIA.",
)
@server_options
@json_option
def send(
    text: str | None,
    sender: str | None,
    to: tuple[str, ...],
    cc: tuple[str, ...],
    bcc: tuple[str, ...],
    subject: str,
    attach: tuple[Path, ...],
    html: Path | None,
    fields: tuple[str, ...],
    via: str | None,
    ca: Path | None,
    insecure: bool,
    password_file: Path | None,
    as_json: bool,
) -> None:
    """Send TEXT, or the text on standard input; on a terminal, the text that you write in $EDITOR.

    The password comes from --password-file, $WAYPOST_PASSWORD, or a prompt.
    """
    from waypost.client.errors import ClientError
    from waypost.client.places import SUBMISSION, Security, parse_place

    written = None
    try:
        if via is None:
            raise ClientError("no server: use --via submissions://USER@HOST, or set $WAYPOST_VIA")
        place = parse_place(via, SUBMISSION)
        who = sender or place.user
        if who is None:
            raise ClientError("no sender: use --from ADDRESS, or name the user: --via submissions://USER@HOST")
        if place.user is None and place.security is not Security.NONE:
            from waypost.client.people import parse_person

            place = replace(place, user=str(parse_person(who).address))
        words = _Words(who, to, cc, bcc, subject, text, html, attach, fields)
        if text is None:
            words, written = _with_text(words)
        submitted = _send(words, place, ca, insecure, password_file)
    except ClientError as error:
        fail(f"{error}{_kept(written)}")
    _report(submitted, as_json, written)


def _send(words: _Words, place: ServerPlace, ca: Path | None, insecure: bool, password_file: Path | None) -> Submitted:
    from waypost.client.compose import compose
    from waypost.client.submit import submit

    composed = compose(_draft(words), now=datetime.now().astimezone(), unique=lambda: secrets.token_hex(12))
    return submit(
        place,
        trust(ca, insecure),
        composed,
        password=password_source(place, password_file),
        now=lambda: time.time_ns() // 1000,
    )


def _draft(words: _Words) -> Draft:
    from waypost.client.compose import Draft, parse_field, read_attachment
    from waypost.client.people import parse_people, parse_person

    return Draft(
        sender=parse_person(words.sender),
        to=parse_people(words.to),
        cc=parse_people(words.cc),
        bcc=parse_people(words.bcc),
        subject=words.subject,
        text=words.text,
        html=_read_html(words.html) if words.html is not None else None,
        attachments=tuple(map(read_attachment, words.attach)),
        fields=tuple(map(parse_field, words.fields)),
    )


def _read_html(path: Path) -> str:
    from waypost.client.errors import ClientError

    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ClientError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ClientError(f"{path}: it is not in UTF-8") from None


# -- the text -------------------------------------------------------------------------------------------------


def _with_text(words: _Words) -> tuple[_Words, str | None]:
    """Get the text from standard input or from the editor; also return the text that the editor wrote."""
    from waypost.client.errors import ClientError

    if not sys.stdin.isatty():
        try:
            return replace(words, text=sys.stdin.buffer.read().decode()), None
        except UnicodeDecodeError:
            raise ClientError("standard input is not in UTF-8") from None
    if words.html is not None:
        return words, None
    written = click.edit(_template(words), extension=".eml")
    if written is None:
        fail("nothing was written, so nothing was sent")
    try:
        return _from_template(words, written), written
    except ClientError as error:
        fail(f"{error}{_kept(written)}")


def _template(words: _Words) -> str:
    values = (words.sender, ", ".join(words.to), ", ".join(words.cc), ", ".join(words.bcc), words.subject)
    lines = [f"{name}: {value}" for name, value in zip(_FIELDS, values, strict=True)]
    return "\n".join([*lines, *words.fields]) + "\n\n\n"


def _from_template(words: _Words, written: str) -> _Words:
    """Read the editor's text: header fields, a blank line, the body."""
    from waypost.client.errors import ClientError

    head, _, text = written.partition("\n\n")
    values: dict[str, str] = {}
    fields = []
    for line in head.splitlines():
        name, colon, value = line.partition(":")
        if not colon:
            raise ClientError(f"{line!r} stands above the blank line, and is not a header field")
        if name.title() in _FIELDS:
            values[name.title()] = value.strip()
        else:
            fields.append(line)
    people = [(values[name],) if values.get(name) else () for name in ("To", "Cc", "Bcc")]
    return replace(
        words,
        sender=values.get("From", ""),
        to=people[0],
        cc=people[1],
        bcc=people[2],
        subject=values.get("Subject", ""),
        text=text,
        fields=tuple(fields),
    )


def _kept(written: str | None) -> str:
    """Save the text from the editor in a file, and return words that name it: a refusal must not lose the text."""
    if written is None:
        return ""
    handle, name = tempfile.mkstemp(prefix="waypost-unsent-", suffix=".eml")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(written)
    return f"; what you wrote is in {name}"


# -- the outcome ----------------------------------------------------------------------------------------------


def _report(submitted: Submitted, as_json: bool, written: str | None) -> None:
    reply = submitted.reply
    trace = _trace(reply.text) if reply is not None else None
    for outcome in submitted.refused:
        ours = "" if not outcome.local else " (by this program: the server was not asked)"
        echo(f"waypost: {printable(f'{outcome.recipient.address}: {outcome.reply}')}{ours}", err=True)
    if as_json:
        refused = [{"recipient": str(gone.recipient.address), "reply": str(gone.reply)} for gone in submitted.refused]
        print_json({"trace": trace, "reply": str(reply) if reply else None, "refused": refused})
    elif reply is not None:
        echo(f"sent: {printable(trace or str(reply))}")
    if reply is None:
        fail(f"the message was sent to nobody{_kept(written)}")
    if submitted.refused:
        raise SystemExit(1)


def _trace(text: str) -> str | None:
    """Return the trace id at the end of a Waypost server's reply; None when there is not one."""
    from waypost.message.trace import parse_trace_id

    word = text.split()[-1] if text.split() else ""
    try:
        parse_trace_id(word)
    except ValueError:
        return None
    return word
