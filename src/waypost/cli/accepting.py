"""`waypost storage accept`: use a data directory whose parts do not belong together, if the operator says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from waypost.cli.frame import become_owner, config_option, confirm, fail
from waypost.cli.log_lines import show_log_lines
from waypost.cli.terminal import echo

if TYPE_CHECKING:
    from waypost.config.settings import Settings


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
def accept(settings: Settings, yes: bool) -> None:
    """Use a data directory that the service refuses, as it is.

    If there is no database, a new, empty one is made, and the segments go to lost/. If the segments are missing, or
    database and segments belong to different storages, the service uses this database; messages whose segments are
    missing can't be read. Nothing is removed. Stop the service first.
    """
    import time

    from waypost.storage import StorageError
    from waypost.storage.engine.opening import load
    from waypost.storage.engine.upkeep import accept as go_on

    load()  # the owner of the data directory may be unable to read the program
    confirm(
        f"Use {settings.data} as it is? If you have the right database or a backup, put that in place instead.", yes
    )
    show_log_lines()
    become_owner(settings.data)
    try:
        done = go_on(settings.data, time.time_ns() // 1000)
    except (StorageError, OSError) as error:
        fail(f"{settings.data}: {error}")
    echo("Accepted: the service can start. Nothing was removed; see lost/." if done else "Nothing is wrong with it.")
