"""`waypost init`: makes a new host, up to a running service. On a terminal it asks; else it follows its options."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from waypost.cli.arguments import Folder
from waypost.cli.frame import called_as, fail, load_settings
from waypost.cli.init import answers, discovery, ending, files, first_account, machine
from waypost.cli.terminal import echo
from waypost.disk.files import exists

if TYPE_CHECKING:
    from collections.abc import Sequence

    from waypost.config.settings import Settings

_USUAL_PLACE = "/etc/waypost"
_USUAL_USER = "waypost"


def _name(parse: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return an option's callback that checks names by a function of `config/names.py`."""

    def check(_context: click.Context, _parameter: click.Parameter, value: str | tuple[str, ...] | None) -> Any:
        try:
            if value is None:
                return None
            if isinstance(value, str):
                return _parsed(parse, value)
            return tuple(dict.fromkeys(_parsed(parse, each) for each in value))
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    return check


def _parsed(parse: str, text: str) -> str:
    from waypost.config import names

    return str(getattr(names, parse)(text))


@click.command()
@click.argument("directory", metavar="[DIR]", required=False, type=Folder(file_okay=False, path_type=Path))
@click.option(
    "--domain",
    "domains",
    multiple=True,
    metavar="NAME",
    callback=_name("parse_domain"),
    help="A domain whose mailboxes are on this host; may be repeated.",
)
@click.option(
    "--hostname",
    metavar="NAME",
    callback=_name("parse_host_name"),
    help="The full name of this host, such as mx.example.org.",
)
@click.option("--force", is_flag=True, help="Replace a configuration that exists. Mail stays.")
@click.option("--user", metavar="NAME", help="Make this system user unless there is one, and give it the data (root).")
@click.option("--unit", is_flag=True, help="Install the systemd unit (root).")
@click.option("--account", metavar="ADDRESS", help="Make this account; its password goes into a file in DIR.")
@click.option(
    "--password-stdin", is_flag=True, help="Read that password from the first line of standard input instead."
)
@click.option("--check-dns", is_flag=True, help="Ask DNS whether name and addresses lead to each other.")
@click.option("--start", is_flag=True, help="Start the service now and at each boot, by systemd (root).")
@click.option("--ask/--no-ask", default=None, help="Ask for what no option says. Default: on a terminal.")
@click.option("--system-root", type=click.Path(path_type=Path), default=Path("/"), hidden=True)
def init(
    directory: Path | None,
    domains: tuple[str, ...],
    hostname: str | None,
    force: bool,
    user: str | None,
    unit: bool,
    account: str | None,
    password_stdin: bool,
    check_dns: bool,
    start: bool,
    ask: bool | None,
    system_root: Path,
) -> None:
    """Make a new host in DIR: configuration, data directory and certificates; then a user, a unit and an account.

    On a terminal it asks for what no option says, and shows what it found. Elsewhere it does only what the options ask
    for: with DIR, --domain and --hostname alone it writes files below DIR and nothing else. Nothing that exists is
    changed without a question or --force. Where DIR has a configuration, DIR alone with options such as --account
    keeps it and takes these steps.
    """
    if password_stdin and account is None:
        raise click.UsageError("--password-stdin needs --account, whose password it reads.")
    asks = (sys.stdin.isatty() and sys.stdout.isatty() and not password_stdin) if ask is None else ask
    system = machine.System(system_root)
    wishes = _Wishes(force, user, unit, account, password_stdin, check_dns, start, asks, system)
    made = _Place()
    try:
        _make(directory, hostname, domains, wishes, made)
    except (click.Abort, KeyboardInterrupt):
        _stopped(made)


@dataclass(slots=True)
class _Place:
    """The directory of the host, once something was made in it."""

    directory: Path | None = None


def _stopped(made: _Place) -> None:
    """After Ctrl-C, or at the end of the input, say what was made and how to go on; exit with 1."""
    echo("", err=True)
    if made.directory is None:
        fail("stopped; nothing was made")
    fail(f"stopped; what was made stays. To go on: {called_as()} init {shlex.quote(str(made.directory))}")


def _make(
    directory: Path | None, hostname: str | None, domains: tuple[str, ...], wishes: _Wishes, made: _Place
) -> None:
    asks = wishes.asks
    found = discovery.machine() if asks or wishes.check_dns else None
    directory = _directory(directory, asks)
    config = directory / "waypost.toml"
    if _keeps(config, wishes, hostname, domains):
        settings = load_settings(config)
        password = _check_wishes(wishes, config, settings.data, settings.domains)
    else:
        hostname = hostname or _ask_hostname(asks, found)
        domains = domains or _ask_domain(asks, hostname)
        password = _check_wishes(wishes, config, directory / "data", domains)
        made.directory = directory
        _write(directory, hostname, domains)
        settings = load_settings(config)
    made.directory = directory
    looked = ending.check_dns(settings.hostname, found) if found is not None else None
    steps = _Steps(settings, config, wishes, password)
    steps.take()
    ending.print_records(settings, found, looked)
    if steps.account is not None:
        ending.print_settings(settings, steps.account)
    ending.print_next(
        config,
        settings,
        usual=Path(_USUAL_PLACE) / "waypost.toml",
        account=steps.account is not None or steps.has_accounts,
        unit=steps.unit,
        started=steps.started,
    )


@dataclass(frozen=True, slots=True)
class _Wishes:
    """The options of the command line."""

    force: bool
    user: str | None
    unit: bool
    account: str | None
    password_stdin: bool
    check_dns: bool
    start: bool
    asks: bool
    system: machine.System


# -- the files -------------------------------------------------------------------------------------------------


def _directory(given: Path | None, asks: bool) -> Path:
    if given is None:
        if not asks:
            raise click.UsageError("Missing argument 'DIR'.")
        return answers.ask_directory(_USUAL_PLACE)
    directory = given.absolute()
    problem = answers.directory_problem(directory)
    if problem is not None:
        fail(problem)
    return directory


def _keeps(config: Path, wishes: _Wishes, hostname: str | None, domains: tuple[str, ...]) -> bool:
    """True when the existing configuration is kept."""
    if not exists(config) or wishes.force:
        return False
    if not wishes.asks:
        if hostname is not None or domains:
            fail(f"{config} exists already; --force replaces it, and without --hostname and --domain it is kept")
        return True
    return not click.confirm(f"{config} exists already. Replace it?", default=False)


def _check_wishes(wishes: _Wishes, config: Path, data: Path, domains: Sequence[str]) -> str | None:
    """Exit with 1, before anything is made, when an option can't be carried out; return the password from standard
    input."""
    from waypost.cli.account import password_problem, read_password

    try:
        machine.check_steps(wishes.system, user=wishes.user, unit=wishes.unit, start=wishes.start, asks=wishes.asks)
        text = machine.unit_text(machine.program(), config, data) if wishes.unit else ""
        if wishes.unit and not wishes.asks and not wishes.force and machine.unit_differs(wishes.system, text):
            raise machine.StepFailed(f"{wishes.system.unit} exists and differs; --force replaces it")
        if wishes.account is not None:
            _check_password_file(answers.account_key(wishes.account, domains), wishes, config, data)
    except (machine.StepFailed, ValueError) as error:
        fail(str(error))
    if not wishes.password_stdin:
        return None
    password = read_password()
    problem = password_problem(password)
    if problem is not None:
        fail(problem)
    return password


def _check_password_file(key: str, wishes: _Wishes, config: Path, data: Path) -> None:
    """Raise `StepFailed` when the file for a generated password exists, and the account can't exist yet."""
    if wishes.asks or wishes.password_stdin or os.path.lexists(data / "waypost.db"):
        return
    place = first_account.password_file(config.parent, key)
    if os.path.lexists(place):
        raise machine.StepFailed(f"{place} exists already; remove it, or use --password-stdin")


def _ask_hostname(asks: bool, found: discovery.Machine | None) -> str:
    if not asks:
        raise click.UsageError("Missing option '--hostname'.")
    proposal = discovery.propose_hostname(found) if found is not None else None
    return answers.ask("Full name of this host, such as mx.example.org", proposal, partial(_parsed, "parse_host_name"))


def _ask_domain(asks: bool, hostname: str) -> tuple[str, ...]:
    if not asks:
        raise click.UsageError("Missing option '--domain'.")
    proposal = discovery.propose_domain(hostname)
    return (answers.ask("Domain whose mailboxes are here", proposal, partial(_parsed, "parse_domain")),)


def _write(directory: Path, hostname: str, domains: tuple[str, ...]) -> None:
    try:
        made = files.write_files(directory, hostname, domains)
    except FileExistsError as error:
        fail(f"{error.filename} is a file; a directory is needed there")
    except OSError as error:
        fail(f"{error.filename or directory}: {error.strerror}")
    note = f" (the one before is kept as {made.set_aside.name})" if made.set_aside else ""
    echo(f"Written: {directory / 'waypost.toml'}{note}")
    echo(f"{'Kept:' if made.kept_data else 'Made:':<8} {directory / 'data'}")
    for pair in made.pairs:
        key = pair.certificate.name.replace("cert", "key")
        note = f" ({pair.note})" if pair.note else ""
        echo(f"{pair.how + ':':<8} {pair.certificate} and {key}{note}")


# -- the steps outside -----------------------------------------------------------------------------------------


class _Steps:
    """The steps after the files; an option or a question decides on each."""

    def __init__(self, settings: Settings, config: Path, wishes: _Wishes, password: str | None) -> None:
        self._settings = settings
        self._config = config
        self._wishes = wishes
        self._given_password = password
        self.account: str | None = None
        """The account that was made, or that existed already."""
        self.has_accounts = False
        self.unit = False
        """True when the unit is installed."""
        self.started = False

    def take(self) -> None:
        """Take all steps; exits with 1 when one fails."""
        try:
            self._user()
            self._unit()
            self._account()
            self._start()
        except machine.StepFailed as failure:
            fail(str(failure))

    def _wanted(self, option: bool, question: str) -> bool:
        return option or (self._wishes.asks and click.confirm(question, default=True))

    def _user(self) -> None:
        data, wishes = self._settings.data, self._wishes
        if os.geteuid() != 0:
            return
        name = wishes.user or self._settings.service.user or _USUAL_USER
        known = machine.user_exists(name)
        if known and exists(data) and data.stat().st_uid == machine.user_id(name):
            return
        if wishes.user is None and exists(data) and data.stat().st_uid != 0:
            return  # the data directory belongs to a user already
        making = "Give" if known else "Make the system user and give"
        if not self._wanted(wishes.user is not None, f"{making} {name} the data directory {data}?"):
            return
        if not known:
            machine.make_user(name)
            echo(f"Made:    the user {name}")
        machine.give_data(data, name)
        echo(f"Given:   {data} to {name}")

    def _unit(self) -> None:
        system, wishes = self._wishes.system, self._wishes
        if os.geteuid() != 0 or not system.has_systemd:
            return
        text = machine.unit_text(machine.program(), self._config, self._settings.data)
        known = system.unit.read_text() if exists(system.unit) else None
        if known == text:
            self.unit = True
            return
        question = f"Install the systemd unit {system.unit}?"
        if known is not None:
            question = f"{system.unit} exists and differs from the one for this host. Replace it?"
            wanted = (wishes.unit and wishes.force) or (wishes.asks and click.confirm(question, default=False))
        else:
            wanted = self._wanted(wishes.unit, question)
        if wanted:
            machine.install_unit(system, text)
            self.unit = True
            echo(f"Made:    {system.unit}")

    def _account(self) -> None:
        try:
            key = self._account_wanted()
            if key is None:
                return
            if first_account.account_exists(self._config, key):
                echo(f"Kept:    the account {key}")
                self.account = key
                return
            self._make_account(key)
        except (first_account.CommandFailed, ValueError) as error:
            raise machine.StepFailed(str(error)) from None

    def _account_wanted(self) -> str | None:
        """Return the key of the account that an option or an answer names; an existing account is proposed."""
        domains = self._settings.domains
        if self._wishes.account is not None:
            return answers.account_key(self._wishes.account, domains)
        if not self._wishes.asks or not domains:
            return None
        self.has_accounts = bool(known := first_account.accounts(self._config, self._settings.data))
        proposal = known[0] if known else f"{os.environ.get('SUDO_USER') or 'postmaster'}@{domains[0]}"
        return answers.ask_account(proposal, lambda text: answers.account_key(text, domains))

    def _make_account(self, key: str) -> None:
        password, generated = self._password(key)
        try:
            first_account.make_account(self._config, key, password)
        except first_account.CommandFailed:
            if generated and not self._wishes.asks:
                first_account.password_file(self._config.parent, key).unlink()
            raise
        self.account = key
        echo(f"Made:    the account {key}")
        if generated and self._wishes.asks:
            echo(f"\n  Its password, shown this once: {password}\n")

    def _password(self, address: str) -> tuple[str, bool]:
        """Return the password, and True if it was generated and must still be shown."""
        if self._given_password is not None:
            return self._given_password, False
        if self._wishes.asks:
            typed = answers.ask_password()
            return (typed, False) if typed else (first_account.generated_password(), True)
        password = first_account.generated_password()
        try:
            path = first_account.write_password(self._config.parent, address, password)
        except FileExistsError as error:
            raise machine.StepFailed(f"{error.filename} exists already; remove it, or use --password-stdin") from None
        except OSError as error:
            raise machine.StepFailed(f"{error.filename}: {error.strerror}") from None
        echo(f"Written: {path} (the password; remove it when you have read it)")
        return password, True

    def _start(self) -> None:
        wishes = self._wishes
        can = os.geteuid() == 0 and wishes.system.runs_systemd and self.unit
        if not can:
            if wishes.start:  # the unit was asked for on the terminal, and the answer was no
                raise machine.StepFailed("--start: it needs root, a running systemd and the unit (--unit)")
            return
        if self._wanted(wishes.start, "Start the service now, and at each boot?"):
            machine.start()
            self.started = True
            echo("Started: waypost; `waypost status` shows its state")
