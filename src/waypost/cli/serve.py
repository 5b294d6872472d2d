"""`waypost serve`: runs the service in the foreground, as service managers expect."""

from __future__ import annotations

from pathlib import Path

import click

from waypost.cli.frame import config_file, load_settings, path_option
from waypost.cli.terminal import echo, printable


@click.command()
@path_option
def serve(config: Path | None) -> None:
    """Run the service until it is stopped (SIGTERM); SIGHUP loads the configuration again.

    The log goes to the standard error stream: for people on a terminal, as JSON lines otherwise. Started as root, it
    binds its ports and reads its certificate, and its workers run as another user.
    """
    import asyncio
    import sys

    from waypost.config.load import load
    from waypost.service.machine.logging import set_up
    from waypost.service.machine.problems import SetupProblem
    from waypost.service.processes.fork_server import ForkServer
    from waypost.service.processes.notify import Notifier
    from waypost.service.processes.privileges import raise_file_limit
    from waypost.service.processes.supervisor import LogForm, Supervisor
    from waypost.service.processes.worker import work

    settings = load_settings(config_file(config))
    raise_file_limit()
    forks = ForkServer.start(work)  # before secrets, sockets, locks and threads: workers inherit what is here now
    terminal = sys.stderr.isatty()
    form = LogForm(json=not terminal, colour=terminal)
    handler = set_up(form.json, colour=form.colour)
    try:
        supervisor = Supervisor(
            settings, forks=forks, load=lambda: load(settings.path), notifier=Notifier(), log_form=form
        )
        status = asyncio.run(supervisor.run())
    except SetupProblem as problem:
        for words in problem.problems:
            echo(f"waypost: {printable(words)}", err=True)
        raise SystemExit(1) from None
    finally:
        forks.close()
        handler.close()
    raise SystemExit(status)
