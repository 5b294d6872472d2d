"""`waypost storage recover DIR`: saves all that can be read of a damaged data directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from waypost.cli.backup import directory, show
from waypost.cli.frame import config_option, fail, json_option, print_json
from waypost.cli.log_lines import show_log_lines
from waypost.cli.terminal import echo, printable
from waypost.cli.times import now
from waypost.counting import counted

if TYPE_CHECKING:
    from waypost.config.settings import Settings
    from waypost.storage.engine.upkeep import Recovered


@click.command()
@directory
@config_option
@json_option
def recover(settings: Settings, directory: Path, as_json: bool) -> None:
    """Copy everything that can be read of a damaged data directory into DIR, which is new or empty.

    The damaged directory is not changed. DIR gets a database with every readable row and the octets of the messages of
    these rows; `waypost restore DIR` puts it in place. Messages without a row go to DIR/messages, each into a file; if
    the database is gone, these are all messages. Deleted mail may be among them. Stop the service first.
    """
    from waypost.storage import StorageError
    from waypost.storage.engine.upkeep import recover as bring_out

    show_log_lines()
    try:
        done = bring_out(settings.data, directory, now=now(), show=show)
    except StorageError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or directory}: {error.strerror}")
    if as_json:
        print_json(_json_of(done))
    else:
        for line in _lines(done, directory):
            echo(printable(line))
    if not done.messages and not done.files and done.database is not None:
        raise SystemExit(1)


def _json_of(done: Recovered) -> dict[str, Any]:
    from waypost.message.trace import format_trace_id

    return {
        "database": done.database is None,
        "problem": done.database,
        "messages": done.messages,
        "files": done.files,
        "damaged": [format_trace_id(trace) for trace in done.damaged],
        "mailboxes_made": done.mailboxes_made,
        "tables": [
            {"table": each.table, "rows": each.rows, "holes": each.holes, "problems": each.words}
            for each in done.tables
        ],
    }


def _lines(done: Recovered, directory: Path) -> list[str]:
    from waypost.message.trace import format_trace_id

    lines = []
    if done.database is not None:
        lines.append(f"The database can't be read: {done.database}. Messages were read from the segments alone.")
    for found in done.tables:
        if found.holes:
            lines.append(
                f"{found.table}: {counted(found.rows, 'row')}; something was skipped {counted(found.holes, 'time')}: "
                f"{found.words[0]}"
            )
    for trace in done.damaged:
        lines.append(f"message {format_trace_id(trace)} is not whole; its readable part is in {directory}/damaged")
    if done.mailboxes_made:
        lines.append(
            f"{counted(done.mailboxes_made, 'mailbox', 'mailboxes')} made anew; mail programs fetch their mail again."
        )
    if done.database is None:
        lines.append(
            f"{counted(done.messages, 'message')} with rows: `waypost restore {directory}` puts them in place."
        )
    if done.files:
        lines.append(f"{counted(done.files, 'message')} without a row: {directory}/messages")
    return lines
