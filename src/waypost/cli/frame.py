"""The parts that all commands share: the configuration, the storage, JSON, questions and failures.

Errors go to the standard error stream, one line each; the exit status is 1 for a problem and 2 for wrong usage.
Nothing heavy is imported before it is needed.
"""

from __future__ import annotations

import functools
import json
import os
import shlex
import shutil
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from waypost.cli.arguments import File
from waypost.cli.log_lines import show_log_lines
from waypost.cli.terminal import echo
from waypost.cli.terminal import print_table as print_table
from waypost.cli.terminal import printable as printable
from waypost.disk.files import exists

if TYPE_CHECKING:
    from waypost.config.errors import ConfigErrors
    from waypost.config.settings import Settings
    from waypost.message.trace import Micros
    from waypost.service.processes.bus import UnixBus
    from waypost.storage import Bus, Storage

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

WORKER = 1023
"""The worker number of the command line, for storage and trace ids."""

_PLACES = (Path("waypost.toml"), Path("/etc/waypost/waypost.toml"))


def path_option(command: F) -> F:
    """Give a command `--config FILE`; it is called with `config: Path | None`, for `config_file`."""
    return click.option(
        "--config",
        type=File(path_type=Path),
        envvar="WAYPOST_CONFIG",
        metavar="FILE",
        help="The configuration. Default: $WAYPOST_CONFIG, ./waypost.toml, /etc/waypost/waypost.toml.",
    )(command)


def config_option(command: F) -> F:
    """Give a command `--config FILE`; it is called with `settings: Settings`, read from that file.

    While the file has errors, the settings are those that the running service uses.
    """

    @path_option
    @functools.wraps(command)
    def with_settings(*args: Any, config: Path | None, **kwargs: Any) -> Any:
        return command(*args, settings=settings_to_use(config_file(config)), **kwargs)

    return with_settings  # type: ignore[return-value]  # the same command with one more option


def json_option(command: F) -> F:
    """Give a command `--json`; it is called with `as_json: bool`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def config_file(given: Path | None) -> Path:
    """Return the configuration file to use: the given one, else the first of the usual places that exists."""
    place = given or next(filter(_may_be_there, _PLACES), None)
    if place is None:
        fail("there is no configuration: looked for ./waypost.toml and /etc/waypost/waypost.toml; use --config FILE")
    return place


def _may_be_there(place: Path) -> bool:
    try:
        return exists(place)
    except PermissionError:  # the error of reading it will say so; it must not be called missing
        return True


def load_settings(path: Path) -> Settings:
    """Read the configuration; if it has errors, print each and exit with 1."""
    from waypost.config.load import ConfigErrors, load

    try:
        return load(path)
    except ConfigErrors as errors:
        _print_errors(errors)
        raise SystemExit(1) from None


def settings_to_use(path: Path) -> Settings:
    """Read the configuration; if it has errors, or names another data directory than the running service uses, say so,
    and return the settings of the service.

    Exits with 1 when no service runs with this file.
    """
    from waypost.cli.running import configuration_in_force, service_of
    from waypost.config.load import ConfigErrors, load

    try:
        settings = load(path)
        if service_of(settings.data) is not None or (found := configuration_in_force(path)) is None:
            return settings
        served = found[0]
        if served.data == settings.data:  # the service has just started
            return settings
        echo(
            f"waypost: data is {settings.data} now, and the service runs on {served.data} until it is restarted; this "
            f"command uses {served.data}",
            err=True,
        )
        return served
    except ConfigErrors as errors:
        _print_errors(errors)
        found = configuration_in_force(path)
        if found is None:
            raise SystemExit(1) from None
        settings, since = found
        echo(f"waypost: this command uses the configuration by which the service runs since {since}", err=True)
        return settings


def _print_errors(errors: ConfigErrors) -> None:
    for error in errors.errors:
        echo(printable(str(error)), err=True)


def run_with_storage(settings: Settings, work: Callable[[Storage, Bus], Awaitable[T]]) -> T:
    """Open the storage, do `work` in an event loop, close; return what `work` returned.

    As root, the process first becomes the owner of the data directory, for good, so that new files belong to the
    service's user. That user may be unable to read the program's files, so `work` must not import anything. The
    running service is notified of changes. Storage errors end in one line and status 1.
    """
    import asyncio

    from waypost.storage import Conflict, NotFound, StorageError

    _load_program()
    show_log_lines()
    become_owner(settings.data)
    try:
        return asyncio.run(_with_storage(settings, work))
    except (Conflict, NotFound) as error:
        fail(str(error))
    except StorageError as error:
        fail(f"{settings.data}: {error}")


def _load_program() -> None:
    """Import modules that are otherwise imported at first use, when this process may be a user that can't read them."""
    import concurrent.futures.thread  # noqa: F401
    import getpass  # noqa: F401

    import idna.uts46data  # noqa: F401

    import waypost.service.processes.bus  # noqa: F401
    from waypost.message.charset import load_charsets
    from waypost.storage.engine.opening import load

    load()
    if os.geteuid() == 0:  # only root becomes another user
        load_charsets()


async def _with_storage(settings: Settings, work: Callable[[Storage, Bus], Awaitable[T]]) -> T:
    import time

    from waypost.service.processes.bus import UnixBus
    from waypost.storage.engine.opening import open_storage

    bus = UnixBus(settings.data / "bus", f"command-{os.getpid()}")
    try:
        opened = await open_storage(settings, now=lambda: time.time_ns() // 1000, worker=WORKER, publish=bus.publish)
    except OSError as error:
        fail(f"{error.filename or settings.data}: {error.strerror}")
    try:
        await _join(bus)
        return await work(opened.storage, bus)
    finally:
        await opened.close()
        bus.close()


async def _join(bus: UnixBus) -> None:
    try:
        await bus.start()
    except OSError as error:
        fail(f"can't tell the service of changes: {error}")


def become_owner(data: Path) -> None:
    """As root, become the user that owns the data directory; do nothing if not root, or before it exists."""
    if os.geteuid() != 0 or not exists(data):
        return
    owner = data.stat()
    if owner.st_uid == 0:
        return
    import pwd

    try:
        user = pwd.getpwuid(owner.st_uid)
    except KeyError:  # a number without a name, as in a container
        os.setgroups([])
        os.setgid(owner.st_gid)
    else:
        os.initgroups(user.pw_name, user.pw_gid)
        os.setgid(user.pw_gid)
    os.setuid(owner.st_uid)


def must_see(data: Path) -> None:
    """Exit with 1 where this user can't look into a data directory, and so can't know whether a service runs on it."""
    from waypost.disk.ownership import forbidden, whose

    closed = forbidden([data])
    if closed is not None:
        fail(f"{data}: {whose(closed, data)}")


def print_json(value: Any) -> None:
    """Print a value as indented JSON, in ASCII, so that no terminal or pipe reads it differently."""
    echo(json.dumps(value, indent=2))


def time_text(time: Micros) -> str:
    """Return a time as ISO 8601 in UTC, to the second: `2026-11-25T01:07:00Z`."""
    return datetime.fromtimestamp(time // 1_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def called_as() -> str:
    """Return the words that call this program, for printed commands that people copy: its name if the shell finds it
    by that, else its path."""
    called = Path(sys.argv[0])
    if called.name != "waypost":  # called by another program, or by `python -m waypost`
        return "waypost" if called.name != "__main__.py" else f"{shlex.quote(sys.executable)} -m waypost"
    found = shutil.which(called.name)
    if found is not None and exists(called) and Path(found).samefile(called):
        return called.name
    return shlex.quote(str(called.absolute()))


def fail(message: str) -> NoReturn:
    """Print what went wrong on the standard error stream, on one line, and exit with 1."""
    echo(f"waypost: {printable(message, sys.stderr)}", err=True)
    raise SystemExit(1)


def confirm(question: str, yes: bool) -> None:
    """Ask before something that can't be undone, unless `yes`; exit with 1 when the answer is no.

    The question goes to the standard error stream, because a program may read the output.
    """
    if not yes and not click.confirm(question, err=True):
        fail("nothing was done")
