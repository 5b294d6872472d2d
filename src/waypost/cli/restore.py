"""`waypost restore DIR`: a backup becomes the storage; the old storage is put aside, never removed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import click

from waypost.cli.backup import directory, show
from waypost.cli.frame import config_option, confirm, fail, json_option, print_json
from waypost.cli.log_lines import show_log_lines
from waypost.cli.terminal import echo
from waypost.cli.times import now
from waypost.counting import counted

if TYPE_CHECKING:
    from waypost.config.settings import Settings
    from waypost.service.processes.privileges import Identity
    from waypost.storage.engine.upkeep import Restored, Source


@click.command()
@directory
@click.option(
    "--backup", "name", metavar="NAME", help="Which one, as `waypost backup list` names it. Default: the newest."
)
@click.option("--despite-damage", is_flag=True, help="Restore although messages of the backup are not whole.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
@json_option
def restore(
    settings: Settings, directory: Path, name: str | None, despite_damage: bool, yes: bool, as_json: bool
) -> None:
    """Restore a backup from DIR, which `waypost backup` made, or which is a copy of a data directory.

    Stop the service first. The host may have another name, and the service another user. UIDs jump past all that were
    given since the backup, so that mail programs do not confuse messages. The queue is held, because some of its mail
    may have been sent after the backup: look at it, then run `waypost queue release`. The present contents of the data
    directory go to lost/ in it.
    """
    from waypost.service.machine.problems import SetupProblem
    from waypost.storage import StorageError
    from waypost.storage.engine.upkeep import find_source, is_used

    show_log_lines()
    try:
        source = find_source(directory, name)
        if is_used(settings.data):
            confirm(f"Replace the storage in {settings.data} by {source.name}? The old storage goes to lost/.", yes)
        done = _restore(settings, source, despite_damage)
    except SetupProblem as problem:
        fail("; ".join(problem.problems))
    except StorageError as error:
        fail(str(error))
    except OSError as error:
        fail(f"{error.filename or settings.data}: {error.strerror}")
    if as_json:
        print_json(
            {
                "restored": source.name,
                "messages": done.messages,
                "accounts": done.accounts,
                "held": done.held,
                "damaged": len(done.damaged),
                "lost": None if done.lost is None else str(done.lost),
            }
        )
        return
    echo(f"Restored {source.name}: {counted(done.messages, 'message')}, {counted(done.accounts, 'account')}.")
    if done.damaged:
        echo(
            f"{counted(len(done.damaged), 'message is', 'messages are')} not whole: `waypost storage check` names them."
        )
    if done.lost is not None:
        echo(f"The old storage is in {done.lost}.")
    if done.held:
        echo(
            f"{counted(done.held, 'entry', 'entries')} of the queue held: that mail may have left after the backup.\n"
            'Look at it with `waypost queue list`, then: waypost queue release --error "held since a restore"'
        )


def _restore(settings: Settings, source: Source, despite_damage: bool) -> Restored:
    from waypost.service.processes.privileges import own_data, service_identity
    from waypost.service.processes.run_folder import RunFolder
    from waypost.storage.engine.upkeep import restore as bring_back

    identity = service_identity(settings.service.user, settings.data)
    own_data(settings.data, None)
    folder = RunFolder(settings.data, identity)
    try:
        folder.lock_service()
        own = _owner(identity)
        done = bring_back(source, settings.data, now=now(), show=show, despite_damage=despite_damage, own=own)
        own(settings.data / "in-use.lock")
        if identity is not None and settings.data.stat().st_uid != identity.uid:  # a new one
            own(settings.data)
        return done
    finally:
        folder.close()


def _owner(identity: Identity | None) -> Callable[[Path], None]:
    """Return a function that gives a file, or a folder with all in it, to the service's user; it follows no links."""

    def own(path: Path) -> None:
        if identity is None:
            return
        os.chown(path, identity.uid, identity.gid, follow_symlinks=False)
        for _, folders, files, at in os.fwalk(path, follow_symlinks=False):
            for name in (*folders, *files):
                os.chown(name, identity.uid, identity.gid, dir_fd=at, follow_symlinks=False)

    return own
