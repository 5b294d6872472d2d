"""`waypost lab`: shows the whole way of mail on loopback addresses, and may leave the hosts running to play with."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

import click

from waypost.cli.frame import called_as, fail

if TYPE_CHECKING:
    from waypost.lab.narrator import Narrator
    from waypost.lab.town import Town


@click.command()
@click.option("--keep", is_flag=True, help="Leave everything running afterwards, and print commands to try.")
@click.option("--no-story", is_flag=True, help="Only start the lab; implies --keep.")
@click.option("--burst", type=click.IntRange(min=1), default=500, show_default=True, help="Messages in the last scene.")
def lab(keep: bool, no_story: bool, burst: int) -> None:
    """Run a small internet of mail on loopback: two hosts, a name server, and the story of Alice and Bob."""
    try:
        asyncio.run(_until_told(_lab(keep or no_story, not no_story, burst)))
    except KeyboardInterrupt:
        sys.exit(130)


async def _until_told(work: Coroutine[Any, Any, None]) -> None:
    """Do the work; a signal that ends programs ends it as Ctrl-C does, so that no host keeps running."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None
    told: list[int] = []

    def end(number: int) -> None:
        told.append(number)
        task.cancel()

    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:  # ignored by nohup(1)
            loop.add_signal_handler(number, end, number)
    try:
        await work
    except asyncio.CancelledError:
        if not told:
            raise
        sys.exit(128 + told[0])


async def _lab(keep: bool, story: bool, burst: int) -> None:
    from waypost.lab.host import LabError
    from waypost.lab.narrator import Narrator
    from waypost.lab.story import Story
    from waypost.lab.town import Town, choose_ports, new_directory, remove_directory

    tell = Narrator()
    try:
        ports, why = choose_ports()
    except LabError as error:
        fail(str(error))
    directory = new_directory()
    town = Town(directory, ports)
    tell.plain("Waypost lab: two mail hosts and a name server on loopback addresses.")
    tell.plain(f"  {why}; the retry schedule runs in seconds: 1, 2, 3, 3, ...; delayed at 4 s, returned at 9 s.")
    failed = True
    try:
        await town.build()
        await town.start()
        tell.say("DNS", f"answers on {town.dns} for wonderland.test, builder.test and silent.test", "good")
        for host in town.hosts:
            tell.say(host.domain, f"{host.hostname} listens on {host.address}", "good")
        trace = ""
        if story:
            played = Story(town, tell, burst=burst)
            await played.play()
            trace = played.last_trace
            tell.plain(f"\nThe whole story took {tell.seconds:.0f} seconds.")
        failed = False
        if keep:
            _how_to_play_on(tell, town, trace)
            await asyncio.gather(*(host.wait() for host in town.hosts))
    except LabError as error:
        tell.plain(f"\nThe lab failed: {error}\nIts files are in {directory}.")
        sys.exit(1)
    finally:
        await town.end()
        if not failed:
            remove_directory(directory)


def _how_to_play_on(tell: Narrator, town: Town, trace: str) -> None:
    """Print hosts, people, and commands that work as they are. `trace` is the id of a message to look at, or ""."""
    from waypost.lab.story import submission_url
    from waypost.lab.town import PASSWORDS

    program = called_as()
    wonderland, builder = town.hosts
    tell.plain("\nThe lab stays up until you press Ctrl-C.")
    for host in town.hosts:
        ports = host.ports
        tell.plain(
            f"  {host.domain:<16} {host.address}  smtp {ports.smtp}, submission {ports.submission}, "
            f"submissions {ports.submissions}, pop3 {ports.pop3}, pop3s {ports.pop3s}"
        )
    tell.plain(f"  name server      {town.dns}")
    for person, password in PASSWORDS.items():
        tell.plain(f"  {person:<24} password {password}")
    tell.plain(f"  configurations, data and logs are below {town.directory}")
    tell.plain("\nTry, in another terminal:")
    alice, bob = PASSWORDS
    secret = f"WAYPOST_PASSWORD={PASSWORDS[alice]}"
    tell.command(
        f"{secret} {program} send --from {alice} --to {bob} --subject Hello "
        f"--via {submission_url(wonderland)} --ca {wonderland.certificate} 'How do you do?'"
    )
    tell.command(
        f"WAYPOST_PASSWORD={PASSWORDS[bob]} {program} fetch "
        f"pop3s://{bob.replace('@', '%40')}@{builder.address}:{builder.ports.pop3s} "
        f"--ca {builder.certificate} list"
    )
    if trace:
        tell.command(f"{program} trace {trace} --config {wonderland.config}")
    tell.command(f"{program} queue list --config {wonderland.config}")
    tell.command(f"{program} status --config {builder.config}")
    if shutil.which("dig"):
        tell.command(f"dig @{town.dns.split(':')[0]} -p {town.dns.split(':')[1]} builder.test MX")
