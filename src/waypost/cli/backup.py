"""`waypost backup DIR` takes a backup, while the service runs; `waypost backup verify DIR` reads all backups in DIR."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from waypost.cli.arguments import Folder
from waypost.cli.frame import config_option, fail, json_option, print_json
from waypost.cli.groups import CommandGroup
from waypost.cli.log_lines import show_log_lines
from waypost.cli.progress import progress
from waypost.cli.terminal import echo, print_table, printable
from waypost.cli.times import iso_time, now
from waypost.counting import counted

if TYPE_CHECKING:
    from waypost.config.settings import Settings
    from waypost.storage.engine.upkeep import Backup, DamagedMessage, Fault, Progress, Report, Verified

_WITHOUT_DIGESTS = (
    "made before backups had digests: octets of the database's rows, of the manifest and between messages were not "
    "compared; the next backup has them"
)

directory = click.argument("directory", metavar="DIR", type=Folder(path_type=Path))

_unused_config = click.option(
    "--config",
    type=click.Path(path_type=Path),
    expose_value=False,
    metavar="FILE",
    help="As elsewhere; a backup says everything by itself.",
)


class _Backup(CommandGroup):
    """`verify` and `list` are subcommands; any other first word is the DIR in which a backup is taken."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, cmd_name) or (None if cmd_name.startswith("-") else take)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] in self.commands:
            return super().resolve_command(ctx, args)
        return None, take, args


@click.group(
    cls=_Backup,
    context_settings={"ignore_unknown_options": True},
    subcommand_metavar="[--keep N] [--quick] DIR | verify DIR | list DIR",
)
def backup() -> None:
    """Back up the storage into DIR while the service runs; verify and list backups.

    `waypost backup DIR` copies the database as it is at one moment, and of the segments what DIR lacks. It verifies
    the copy, and only then removes the backup before. Run it again and again with the same DIR, on another disk.
    The configuration, certificates and password files are for you to copy.

    \b
    --keep N   how many backups stay; they share segments (1)
    --quick    verify the database and what is new, instead of every octet in DIR
    --json     print JSON
    """


@contextlib.contextmanager
def show(what: str) -> Iterator[Progress]:
    """Show the progress of a step."""
    with progress(what, 0) as bar:
        yield bar.reach


@click.command(name="DIR")
@directory
@click.option("--keep", default=1, show_default=True, type=click.IntRange(1), help="How many backups stay.")
@click.option("--quick", is_flag=True, help="Of the octets, verify only those that are new.")
@config_option
@json_option
def take(settings: Settings, directory: Path, keep: int, quick: bool, as_json: bool) -> None:
    """Back up the storage into DIR, and verify the backup.

    Exits with 1 when it failed, and when messages are damaged in the storage itself: then they are named, and older
    backups stay.
    """
    from waypost.storage import StorageError
    from waypost.storage.engine.upkeep import take_backup

    show_log_lines()
    try:
        taken = take_backup(settings.data, directory, now=now(), keep=keep, quick=quick, show=show)
    except StorageError as error:
        fail(str(error))
    except FileExistsError as error:
        fail(f"{error.filename} is a file; a directory is needed there")
    except OSError as error:
        fail(f"{error.filename or directory}: {error.strerror}")
    if as_json:
        found = {"copied": taken.copied, "removed": list(taken.removed), "damaged": _damaged(taken.damaged)}
        print_json({**_about(taken.backup), **found})
    else:
        manifest = taken.backup.manifest
        echo(
            f"{directory}: backup {taken.backup.name}, {counted(manifest.messages, 'message')}, "
            f"{counted(manifest.octets, 'octet')}; {counted(taken.copied, 'octet')} copied. Verified."
        )
        _print_damaged(taken.damaged)
    if taken.damaged:
        fail(
            f"{counted(len(taken.damaged), 'message is', 'messages are')} damaged in the storage itself: run `waypost "
            "storage check`; older backups were kept"
        )


@backup.command()
@directory
@_unused_config
@json_option
def verify(directory: Path, as_json: bool) -> None:
    """Read every file in DIR, and compare it with its digest: databases, manifests, and every octet of messages.

    Says which file is not as it was written, and what to do. Exits with 1 then.
    """
    from waypost.storage import StorageError
    from waypost.storage.engine.upkeep import BackupFolder
    from waypost.storage.engine.upkeep import verify as verify_all

    try:
        found = verify_all(BackupFolder(directory), show)
    except StorageError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or directory}: {error.strerror}")
    if as_json:
        print_json(
            {
                "whole": found.whole,
                "backups": [_json_of(each) for each in found.backups],
                "problems": [_fault(each) for each in found.faults],
                "notes": [_fault(each) for each in found.notes],
            }
        )
    else:
        _print_report(found)
    if not found.whole:
        raise SystemExit(1)


def _print_report(found: Report) -> None:
    for each in found.backups:
        name, messages = each.backup.name, counted(each.backup.manifest.messages, "message")
        if each.whole:
            echo(printable(f"{name}: {messages}: whole" + ("" if each.has_digests else f" ({_WITHOUT_DIGESTS})")))
            continue
        state = f"{counted(len(each.damaged), 'message is', 'messages are')} not whole" if each.damaged else "damaged"
        echo(printable(f"{name}: {messages}: {state}"))
        _print_damaged(each.damaged)
        _print_faults("problem", each.faults)
    _print_faults("problem", found.faults)
    _print_faults("note", found.notes)


def _print_faults(kind: str, faults: tuple[Fault, ...]) -> None:
    """Print faults; those with the same advice together, with the advice once."""
    for advice, alike in groupby(faults, key=attrgetter("advice")):
        for each in alike:
            echo(printable(f"{kind}: {each.what}"))
        echo(printable(f"  {advice}"))


@backup.command(name="list")
@directory
@_unused_config
@json_option
def list_backups(directory: Path, as_json: bool) -> None:
    """List the backups in DIR, the oldest first."""
    from waypost.storage import StorageError
    from waypost.storage.engine.upkeep import BackupFolder

    try:
        backups = BackupFolder(directory).backups()
    except StorageError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or directory}: {error.strerror}")
    if as_json:
        print_json([_about(each) for each in backups])
        return
    rows = [
        (each.name, each.manifest.messages, each.manifest.octets, each.manifest.entries, each.manifest.accounts)
        for each in backups
    ]
    print_table(("backup", "messages", "octets", "queue", "accounts"), rows)


def _about(backup: Backup) -> dict[str, Any]:
    manifest = backup.manifest
    return {
        "backup": backup.name,
        "time": iso_time(manifest.time),
        "version": manifest.version,
        "schema": manifest.schema,
        "messages": manifest.messages,
        "octets": manifest.octets,
        "entries": manifest.entries,
        "accounts": manifest.accounts,
    }


def _json_of(found: Verified) -> dict[str, Any]:
    return {
        **_about(found.backup),
        "whole": found.whole,
        "digests": found.has_digests,
        "problem": "; ".join(each.what for each in found.faults) or None,
        "problems": [_fault(each) for each in found.faults],
        "damaged": _damaged(found.damaged),
    }


def _fault(fault: Fault) -> dict[str, str]:
    return {"what": fault.what, "advice": fault.advice}


def _damaged(messages: tuple[DamagedMessage, ...]) -> list[dict[str, Any]]:
    from waypost.message.trace import format_trace_id

    return [
        {"trace": format_trace_id(each.trace), "segment": each.location.segment, "how": each.how} for each in messages
    ]


def _print_damaged(messages: tuple[DamagedMessage, ...]) -> None:
    for each in _damaged(messages):
        echo(f"  message {each['trace']} in segment {each['segment']} {each['how']}")
