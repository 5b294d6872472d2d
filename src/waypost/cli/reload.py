"""`waypost reload`: makes the running service read its configuration again, and prints the result."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import click

from waypost.cli.frame import config_file, fail, load_settings, must_see, path_option
from waypost.cli.terminal import echo, echo_wrapped, printable

_PATIENCE = 150.0  # seconds; the service itself gives up a reload after 120
_EVERY = 0.1


@click.command()
@path_option
def reload(config: Path | None) -> None:
    """Make the running service read its configuration, certificates and passwords again.

    Returns when the new configuration is in force. If it can't be used, each reason is one line, the service goes on
    as before, and the exit status is 1.
    """
    from waypost.cli.running import data_of_service, service_of

    path = config_file(config)
    settings = load_settings(path)
    data = settings.data
    before = service_of(data)
    if (
        before is None and (elsewhere := data_of_service(path)) is not None
    ):  # `data` was changed: the reload will fail and say what to do
        data = elsewhere
        before = service_of(data)
    if before is None:
        must_see(settings.data)
        fail(f"no service runs on {settings.data}; start it: waypost serve, or systemctl start waypost")
    after = _reloaded(data, before)
    failed = after.get("failed_reload")
    if failed:
        for problem in failed["problems"]:
            echo(printable(str(problem)), err=True)
        fail("the service was not reloaded; it goes on as before")
    listening = ", ".join(f"{each['protocol']} {each['address']}" for each in after["listeners"])
    echo_wrapped(f"Reloaded: {settings.path} is in force; it listens on {listening or 'nothing'}", hanging=2)


def _reloaded(data: Path, before: dict[str, Any]) -> dict[str, Any]:
    """Ask for a reload; return the service's report when the reload has ended."""
    from waypost.cli.running import service_of

    if "reloads" not in before:
        fail(f"the service is version {before.get('version')}, which does not say how a reload went; restart it")
    try:
        os.kill(before["pid"], signal.SIGHUP)
    except PermissionError:
        fail(f"process {before['pid']} belongs to another user; run this command as root")
    except ProcessLookupError:
        fail("the service has just ended")
    deadline = time.monotonic() + _PATIENCE
    while True:
        after = service_of(data)
        if after is None or after["pid"] != before["pid"]:
            fail("the service has ended meanwhile; its log says why")
        if after["reloads"] > before["reloads"]:
            return after
        if time.monotonic() > deadline:
            fail(f"no answer within {_PATIENCE:.0f} s; the log of process {before['pid']} says more")
        time.sleep(_EVERY)
