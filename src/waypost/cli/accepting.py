"""`waypost storage accept`: go on with a data directory whose parts do not fit, when its operator says so."""

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
    """Go on with a data directory that the service refuses, as it is.

    Without a database: a new, empty one begins, and the segments go to lost/. With the database of another storage, or
    with segments of another one or none: the service goes on with this database, and what it needs and is not there
    can't be read. Nothing is removed. Stop the service first.
    """
    import time

    from waypost.storage import StorageError
    from waypost.storage.engine.opening import load
    from waypost.storage.engine.upkeep import accept as go_on

    load()  # the owner of the data directory may be unable to read the program
    confirm(
        f"Go on with {settings.data} as it is? Put the right database or a backup back instead, if there is one.", yes
    )
    show_log_lines()
    become_owner(settings.data)
    try:
        done = go_on(settings.data, time.time_ns() // 1000)
    except (StorageError, OSError) as error:
        fail(f"{settings.data}: {error}")
    echo("Accepted: the service can start. Nothing was removed; see lost/." if done else "It fits: nothing to do.")
