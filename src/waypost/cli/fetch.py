"""`waypost fetch`: reads a mailbox by POP3: lists it, shows a message, saves messages as files, deletes messages."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection, Mapping, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from waypost.cli.frame import confirm, fail, json_option, print_json
from waypost.cli.mail_server import password_source, server_options, trust
from waypost.cli.terminal import echo, print_table, printable
from waypost.disk.files import is_folder

if TYPE_CHECKING:
    from datetime import datetime

    from waypost.client.maildrop import RemoteMaildrop
    from waypost.client.places import ServerPlace
    from waypost.client.reading import Summary

_ALL = "all"
_WIDEST = 60  # columns of a subject or a sender in the list


@click.command()
@click.argument("url")
@click.argument("action", type=click.Choice(["list", "show", "save", "delete"]), default="list")
@click.argument("words", nargs=-1, type=click.Path(allow_dash=True), metavar="[N|N-M|all]... [FILE|DIRECTORY]")
@server_options
@json_option
@click.option("--yes", is_flag=True, help="Delete without asking.")
def fetch(
    url: str,
    action: str,
    words: tuple[str, ...],
    ca: Path | None,
    insecure: bool,
    password_file: Path | None,
    as_json: bool,
    yes: bool,
) -> None:
    """Read the mailbox at URL: pop3s://USER@HOST, or pop3://USER@HOST, which uses TLS, too.

    \b
      list                     what is there; also without an action
      show N                   one message, made readable
      save N... DIRECTORY      messages as .eml files, exactly as they are
      save N FILE              one message into one file; - is standard output
      delete N...              remove messages, after a question

    N is a number of the list, a range such as 2-5, or `all`.

    The password comes from --password-file, $WAYPOST_PASSWORD, or a prompt.
    """
    from waypost.client.errors import ClientError
    from waypost.client.maildrop import RemoteMaildrop
    from waypost.client.places import POP3, parse_place

    try:
        place = parse_place(url, POP3)
        if place.user is None:
            raise ClientError(f"{url}: whose mailbox? Write {place.scheme}://USER@{place.host}")
        allowed = insecure and _is_loopback(place)
        with RemoteMaildrop(
            place, trust(ca, insecure), password_source(place, password_file), plain_text_allowed=allowed
        ) as box:
            whole = True
            if action == "list":
                whole = _list(box, as_json)
            elif action == "show":
                _show(box, words, as_json)
            elif action == "save":
                whole = _save(box, words, as_json)
            else:
                numbers = _delete(box, words, yes)
            box.quit()
            if action == "delete":  # printed after QUIT, which removes them
                _tell_deleted(numbers, as_json)
        if not whole:
            raise SystemExit(1)
    except ClientError as error:
        fail(str(error))


def _is_loopback(place: ServerPlace) -> bool:
    try:
        return ip_address(place.host).is_loopback
    except ValueError:
        return place.host == "localhost"


# -- list -----------------------------------------------------------------------------------------------------


def _list(box: RemoteMaildrop, as_json: bool) -> bool:
    """Print the list; return False when the header of a message could not be read."""
    from waypost.client.errors import RefusedByServer
    from waypost.client.reading import Summary, summarize

    numbers = sorted(box.sizes)
    ids = box.unique_ids()
    messages: list[tuple[int, Summary]] = []
    refusals: dict[int, str] = {}
    for number, header in box.headers(numbers):
        if isinstance(header, RefusedByServer):
            refusals[number] = str(header)
            messages.append((number, Summary(None, "", "")))
        else:
            messages.append((number, summarize(header)))
    if as_json:
        print_json([_json_of(number, message, ids, box.sizes, refusals) for number, message in messages])
    elif not messages:
        echo("The mailbox is empty.")
    else:
        print_table(
            ("number", "date", "from", "subject", "size"),
            [
                (
                    number,
                    _local(message.date),
                    _cut(message.sender),
                    _cut(message.subject),
                    box.sizes[number],
                )
                for number, message in messages
            ],
            shrink=("from", "subject"),
            joiners=True,
        )
    for refusal in refusals.values():
        echo(f"waypost: {refusal}", err=True)
    return not refusals


def _json_of(
    number: int, message: Summary, ids: Mapping[int, str], sizes: Mapping[int, int], refusals: Mapping[int, str]
) -> dict[str, Any]:
    problem = {"problem": refusals[number]} if number in refusals else {}
    return {
        "number": number,
        "id": ids.get(number),
        "date": message.date.isoformat() if message.date else None,
        "from": message.sender,
        "subject": message.subject,
        "size": sizes[number],
    } | problem


def _local(date: datetime | None) -> str | None:
    """Return a date in local time; None when its year is out of range."""
    try:
        return date.astimezone().strftime("%Y-%m-%d %H:%M") if date else None
    except (OverflowError, ValueError, OSError):
        return None


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


# -- show -----------------------------------------------------------------------------------------------------


def _show(box: RemoteMaildrop, words: Sequence[str], as_json: bool) -> None:
    from waypost.client.reading import MOST_OCTETS, read_message

    if len(words) != 1 or not words[0].isascii() or not words[0].isdigit():
        fail("show which message? For example: show 1")
    [number] = _numbers(words, box.sizes)
    message = read_message(box.beginning(number, MOST_OCTETS + 1))
    if as_json:
        shown: dict[str, Any] = {name.lower(): value for name, value in message.fields}
        print_json(shown | {"text": message.text, "attachments": message.attachments})
        return
    for name, value in message.fields:
        echo(f"{name}: {printable(value, joiners=True)}", joiners=True)
    echo()
    if message.problem:
        echo(f"({message.problem})\n")
    for line in message.text.split("\n"):
        echo(line.rstrip("\r").expandtabs(), joiners=True)
    for attachment in message.attachments:
        echo(f"Attached: {printable(attachment, joiners=True)}", joiners=True)


# -- save -----------------------------------------------------------------------------------------------------


def _save(box: RemoteMaildrop, words: Sequence[str], as_json: bool) -> bool:
    """Save messages; return False when one of them could not be read."""
    from waypost.cli.saved_files import save_as, save_into, save_to

    chosen = [word for word in words if _is_number(word)]
    rest = list(words[len(chosen) :])
    if not chosen or list(words[: len(chosen)]) != chosen or len(rest) > 1:
        fail("save what, and where? For example: save 1 letter.eml, or save all DIRECTORY")
    numbers = _numbers(chosen, box.sizes)
    place = rest[0] if rest else "."
    if place == "-":
        if as_json:
            fail("standard output can't have both the message and --json")
        return save_to(box, numbers, sys.stdout.buffer)
    try:
        into_folder = is_folder(Path(place)) or place.endswith("/") or chosen == [_ALL] or len(numbers) > 1
    except OSError as error:
        fail(f"{place}: {error.strerror}")
    told = []
    for one in save_into(box, numbers, Path(place)) if into_folder else save_as(box, numbers[0], Path(place)):
        if one.refusal is not None:
            echo(f"waypost: {one.refusal}", err=True)
            told.append({"number": one.number, "file": None, "saved": False, "problem": one.refusal})
            continue
        told.append({"number": one.number, "file": str(one.path), "saved": one.fresh})
        if not as_json:
            echo(f"{one.number}: {one.path}" if one.fresh else f"{one.number}: {one.path} is there already")
    if as_json:
        print_json(told)
    return all(one["file"] is not None for one in told)


# -- delete ---------------------------------------------------------------------------------------------------


def _tell_deleted(numbers: Sequence[int], as_json: bool) -> None:
    if as_json:
        print_json({"deleted": list(numbers)})
    else:
        echo(f"Deleted {len(numbers)}.")


def _delete(box: RemoteMaildrop, words: Sequence[str], yes: bool) -> list[int]:
    """Mark messages; the end of the session removes them."""
    numbers = _numbers(words, box.sizes)
    if not numbers:
        fail("delete which messages? For example: delete 1 3-5")
    confirm(f"Delete {'message' if len(numbers) == 1 else 'messages'} {', '.join(map(str, numbers))}?", yes)
    for number in numbers:
        box.delete(number)
    return numbers


# -- numbers --------------------------------------------------------------------------------------------------


def _is_number(word: str) -> bool:
    return word == _ALL or re.fullmatch(r"[0-9]{1,9}(-[0-9]{1,9})?", word) is not None


def _numbers(words: Sequence[str], there: Collection[int]) -> list[int]:
    """Return the numbers that the words name, in order; fail for one that does not exist."""
    numbers: set[int] = set()
    for word in words:
        if not _is_number(word):
            fail(f"{word!r} is not the number of a message, a range such as 2-5, or 'all'")
        if word == _ALL:
            numbers.update(there)
            continue
        first, _, last = word.partition("-")
        chosen = [number for number in there if int(first) <= number <= int(last or first)]
        if not chosen:
            fail(f"there is no message {word}: the mailbox has {len(there)}")
        numbers.update(chosen)
    return sorted(numbers)
