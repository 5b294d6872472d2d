"""`waypost fetch`: a mailbox read by POP3: its list, one message, files of its messages, and their removal."""

from __future__ import annotations

import errno
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Collection, Iterator, Sequence
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from waypost.cli.frame import confirm, fail, json_option, print_json, print_table, printable
from waypost.cli.mail_server import password_source, server_options, trust

if TYPE_CHECKING:
    from datetime import datetime

    from waypost.client.maildrop import Maildrop
    from waypost.client.places import Place

_ALL = "all"
_LONGEST_NAME = 240  # octets, `.eml` comes behind it
_WIDEST = 60  # columns of a subject or a sender in the list


@click.command()
@click.argument("url")
@click.argument("action", type=click.Choice(["list", "show", "save", "delete"]), default="list")
@click.argument("words", nargs=-1, metavar="[N|N-M|all]... [FILE|DIRECTORY]")
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
      list                     what is there (also without an action)
      show N                   one message, made readable
      save N... DIRECTORY      messages as .eml files, exactly as they are; N may be `all` or a range 2-5
      save N FILE              one message into one file; - is standard output
      delete N...              remove messages, after a question

    The password comes from --password-file, $WAYPOST_PASSWORD, or a prompt.
    """
    from waypost.client.errors import ClientError
    from waypost.client.maildrop import Maildrop
    from waypost.client.places import POP3, parse_place

    try:
        place = parse_place(url, POP3)
        if place.user is None:
            raise ClientError(f"{url}: whose mailbox? Write {place.scheme}://USER@{place.host}")
        allowed = insecure and _is_loopback(place)
        with Maildrop(
            place, trust(ca, insecure), password_source(place, password_file), plain_text_allowed=allowed
        ) as box:
            if action == "list":
                _list(box, as_json)
            elif action == "show":
                _show(box, words, as_json)
            elif action == "save":
                _save(box, words, as_json)
            else:
                numbers = _delete(box, words, yes)
            box.quit()
            if action == "delete":  # only now it is true
                _tell_deleted(numbers, as_json)
    except ClientError as error:
        fail(str(error))


def _is_loopback(place: Place) -> bool:
    try:
        return ip_address(place.host).is_loopback
    except ValueError:
        return place.host == "localhost"


# -- list -----------------------------------------------------------------------------------------------------


def _list(box: Maildrop, as_json: bool) -> None:
    from waypost.client.reading import summarize

    numbers = sorted(box.sizes)
    ids = box.unique_ids()
    messages = [(number, summarize(header)) for number, header in box.headers(numbers)]
    if as_json:
        print_json(
            [
                {
                    "number": number,
                    "id": ids.get(number),
                    "date": message.date.isoformat() if message.date else None,
                    "from": message.sender,
                    "subject": message.subject,
                    "size": box.sizes[number],
                }
                for number, message in messages
            ]
        )
    elif not messages:
        click.echo("The mailbox is empty.")
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
        )


def _local(date: datetime | None) -> str | None:
    """Return a date in local time; None where it leaves the years that a clock can show."""
    try:
        return date.astimezone().strftime("%Y-%m-%d %H:%M") if date else None
    except (OverflowError, ValueError, OSError):
        return None


def _cut(text: str) -> str:
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "\N{HORIZONTAL ELLIPSIS}"


# -- show -----------------------------------------------------------------------------------------------------


def _show(box: Maildrop, words: Sequence[str], as_json: bool) -> None:
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
        click.echo(f"{name}: {printable(value)}")
    click.echo()
    if message.problem:
        click.echo(f"({message.problem})\n")
    for line in message.text.split("\n"):
        click.echo(printable(line.rstrip("\r").expandtabs()))
    for attachment in message.attachments:
        click.echo(f"Attached: {printable(attachment)}")


# -- save -----------------------------------------------------------------------------------------------------


def _save(box: Maildrop, words: Sequence[str], as_json: bool) -> None:
    chosen = [word for word in words if _is_number(word)]
    rest = list(words[len(chosen) :])
    if not chosen or list(words[: len(chosen)]) != chosen or len(rest) > 1:
        fail("save what, and where? For example: save 1 letter.eml, or save all DIRECTORY")
    numbers = _numbers(chosen, box.sizes)
    place = rest[0] if rest else "."
    if place == "-":
        if as_json:
            fail("standard output can't have both the message and --json")
        for number in numbers:
            box.save(number, sys.stdout.buffer)
        sys.stdout.buffer.flush()
        return
    try:
        into_folder = Path(place).is_dir() or place.endswith("/") or chosen == [_ALL] or len(numbers) > 1
    except OSError as error:
        fail(f"{place}: {error.strerror}")
    saved = _save_into(box, numbers, Path(place)) if into_folder else _save_as(box, numbers[0], Path(place))
    told = []
    for number, path, fresh in saved:
        told.append({"number": number, "file": str(path), "saved": fresh})
        if not as_json:
            click.echo(f"{number}: {path}" if fresh else f"{number}: {path} is there already")
    if as_json:
        print_json(told)


def _save_as(box: Maildrop, number: int, path: Path) -> Iterator[tuple[int, Path, bool]]:
    _write(box, number, path)
    yield number, path, True


def _save_into(box: Maildrop, numbers: Sequence[int], folder: Path) -> Iterator[tuple[int, Path, bool]]:
    """Each message gets a file of its own name, by its unique id: what was saved before is not fetched again.

    Yields its number, its file, and whether that is new.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        fail(f"{folder}: {error.strerror}")
    ids = box.unique_ids()
    for number in numbers:
        path = folder / f"{_file_name(ids.get(number, str(number)))}.eml"
        fresh = number not in ids or not path.exists()
        if fresh:
            _write(box, number, path)
        yield number, path, fresh


def _file_name(unique_id: str) -> str:
    """Return a unique id as the name of a file; one that is longer than RFC 1939 allows is known by its digest."""
    name = quote(unique_id, safe="")
    return name if len(name) <= _LONGEST_NAME else hashlib.sha256(unique_id.encode()).hexdigest()


def _write(box: Maildrop, number: int, path: Path) -> None:
    """Write a new file, for its owner alone.

    It gets its name when it is whole and safe, however this process ends: under that name it counts as saved, and the
    message may be deleted for it.
    """
    part = None
    try:
        if os.path.lexists(path):
            raise FileExistsError
        fd, name = tempfile.mkstemp(dir=path.parent, prefix=".waypost-", suffix=".part")
        part = Path(name)
        with os.fdopen(fd, "wb") as file:
            box.save(number, file)
            file.flush()
            os.fsync(file.fileno())
        _name(part, path)
    except FileExistsError:
        fail(f"{path}: there is such a file, and it stays as it is")
    except OSError as error:
        fail(f"{path}: {error.strerror}")
    finally:
        if part is not None:
            part.unlink(missing_ok=True)


def _name(part: Path, path: Path) -> None:
    """Give a file its name, unlike a rename never over what is there. Raises `OSError`."""
    try:
        path.hardlink_to(part)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
        if os.path.lexists(path):  # a file system without hard links
            raise FileExistsError from None
        part.rename(path)


# -- delete ---------------------------------------------------------------------------------------------------


def _tell_deleted(numbers: Sequence[int], as_json: bool) -> None:
    if as_json:
        print_json({"deleted": list(numbers)})
    else:
        click.echo(f"Deleted {len(numbers)}.")


def _delete(box: Maildrop, words: Sequence[str], yes: bool) -> list[int]:
    """Mark messages; they go when the session ends."""
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
    """The messages that are meant, in order; fails for one that is not there."""
    numbers: set[int] = set()
    for word in words:
        if not _is_number(word):
            fail(f"{word!r} is no number of a message, no range such as 2-5, and not 'all'")
        if word == _ALL:
            numbers.update(there)
            continue
        first, _, last = word.partition("-")
        chosen = [number for number in there if int(first) <= number <= int(last or first)]
        if not chosen:
            fail(f"there is no message {word}: the mailbox has {len(there)}")
        numbers.update(chosen)
    return sorted(numbers)
