"""`waypost queue`: what waits to be delivered, and what an operator may do to it. A running service sees it at once."""

import click

from waypost.cli.groups import CommandGroup
from waypost.cli.queue.changing import delete, hold, release, retry
from waypost.cli.queue.looking import list_entries, show, stats
from waypost.cli.queue.returning import give_up

__all__ = ["queue"]


@click.group(cls=CommandGroup)
def queue() -> None:
    """See and change what waits to be delivered.

    An entry is one message for one destination. Entries are chosen by numbers and by options, all of which must match.
    """


for _command in (list_entries, show, stats, retry, hold, release, delete, give_up):
    queue.add_command(_command)
