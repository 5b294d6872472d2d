"""`waypost queue`: shows and changes mail that waits to be delivered. A running service sees changes at once."""

import click

from waypost.cli.groups import CommandGroup
from waypost.cli.queue.changing import delete, hold, release, retry
from waypost.cli.queue.looking import list_entries, show, stats
from waypost.cli.queue.returning import give_up

__all__ = ["queue"]


@click.group(cls=CommandGroup)
def queue() -> None:
    """Show and change the mail that waits to be delivered.

    An entry is one message for one destination. Entries are chosen by numbers and by options, all of which must match.
    """


for _command in (list_entries, show, stats, retry, hold, release, delete, give_up):
    queue.add_command(_command)
