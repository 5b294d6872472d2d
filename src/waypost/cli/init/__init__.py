"""`waypost init`: from nothing to a running host. On a terminal it asks; without one it does what its options say."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from waypost.cli.addresses import address_key
from waypost.cli.frame import called_as, fail, load_settings
from waypost.cli.init import discovery, files, first_account, machine
from waypost.cli.init.records import record_lines, records
from waypost.cli.terminal import echo, printable

if TYPE_CHECKING:
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
@click.argument("directory", metavar="[DIR]", required=False, type=click.Path(file_okay=False, path_type=Path))
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
    changed without a question or --force.
    """
    asks = (sys.stdin.isatty() and sys.stdout.isatty() and not password_stdin) if ask is None else ask
    wishes = _Wishes(force, user, unit, account, password_stdin, check_dns, start, asks, machine.System(system_root))
    found = discovery.machine() if asks or check_dns else None
    directory = (directory or _ask_directory(asks)).absolute()
    config = directory / "waypost.toml"
    if _keeps(config, wishes):
        settings = load_settings(config)
    else:
        hostname = hostname or _ask_hostname(asks, found)
        domains = domains or _ask_domain(asks, hostname)
        _write(directory, hostname, domains)
        settings = load_settings(config)
    looked = _check_dns(settings.hostname, found) if found is not None else None
    steps = _Steps(settings, config, wishes)
    steps.take()
    _print_records(settings, found, looked)
    if steps.account is not None:
        _print_settings(settings, steps.account)
    _print_next(config, settings, steps)


@dataclass(frozen=True, slots=True)
class _Wishes:
    """What the options say."""

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


def _ask_directory(asks: bool) -> Path:
    if not asks:
        raise click.UsageError("Missing argument 'DIR'.")
    return Path(click.prompt("Directory for configuration and data", default=_USUAL_PLACE))


def _keeps(config: Path, wishes: _Wishes) -> bool:
    """True when the configuration that exists stays."""
    if not config.exists() or wishes.force:
        return False
    if not wishes.asks:
        fail(f"{config} exists already; --force replaces it")
    return not click.confirm(f"{config} exists already. Replace it?", default=False)


def _ask_hostname(asks: bool, found: discovery.Machine | None) -> str:
    if not asks:
        raise click.UsageError("Missing option '--hostname'.")
    proposal = discovery.propose_hostname(found) if found is not None else None
    return str(_prompt("Full name of this host, such as mx.example.org", proposal, "parse_host_name"))


def _ask_domain(asks: bool, hostname: str) -> tuple[str, ...]:
    if not asks:
        raise click.UsageError("Missing option '--domain'.")
    return (_prompt("Domain whose mailboxes are here", discovery.propose_domain(hostname), "parse_domain"),)


def _prompt(question: str, proposal: str | None, parse: str) -> str:
    def checked(text: str) -> str:
        try:
            return _parsed(parse, text)
        except ValueError as error:
            raise click.UsageError(str(error)) from None

    return str(click.prompt(question, default=proposal, value_proc=checked))


def _write(directory: Path, hostname: str, domains: tuple[str, ...]) -> None:
    try:
        made = files.write_files(directory, hostname, domains)
    except OSError as error:
        fail(f"{error.filename}: {error.strerror}")
    echo(f"Written: {directory / 'waypost.toml'}")
    echo(f"Made:    {directory / 'data'}")
    for pair in made:
        key = pair.certificate.name.replace("cert", "key")
        note = f" ({pair.note})" if pair.note else ""
        echo(f"{pair.how + ':':<8} {pair.certificate} and {key}{note}")


# -- the steps outside -----------------------------------------------------------------------------------------


class _Steps:
    """What follows the files, each step by its option or by a question."""

    def __init__(self, settings: Settings, config: Path, wishes: _Wishes) -> None:
        self._settings = settings
        self._config = config
        self._wishes = wishes
        self.account: str | None = None
        """The account that was made."""
        self.unit = False
        """The unit is installed."""
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
            if wishes.user is not None:
                raise machine.StepFailed("--user: only root can make users and give data away")
            return
        name = wishes.user or self._settings.service.user or _USUAL_USER
        exists = machine.user_exists(name)
        if exists and data.exists() and data.stat().st_uid == machine.user_id(name):
            return
        if wishes.user is None and data.exists() and data.stat().st_uid != 0:
            return  # somebody has it already
        making = "Give" if exists else "Make the system user and give"
        if not self._wanted(wishes.user is not None, f"{making} {name} the data directory {data}?"):
            return
        if not exists:
            machine.make_user(name)
            echo(f"Made:    the user {name}")
        machine.give_data(data, name)
        echo(f"Given:   {data} to {name}")

    def _unit(self) -> None:
        system, wishes = self._wishes.system, self._wishes
        if os.geteuid() != 0 or not system.has_systemd:
            if wishes.unit:
                raise machine.StepFailed("--unit: it needs root, and /etc/systemd/system")
            return
        text = machine.unit_text(machine.program(), self._config, self._settings.data)
        known = system.unit.read_text() if system.unit.exists() else None
        if known == text:
            self.unit = True
            return
        question = f"Install the systemd unit {system.unit}?"
        if known is not None:
            question = f"{system.unit} exists and differs from the one for this host. Replace it?"
            if wishes.unit and not wishes.asks and not wishes.force:
                raise machine.StepFailed(f"{system.unit} exists and differs; --force replaces it")
            wanted = (wishes.unit and wishes.force) or (wishes.asks and click.confirm(question, default=False))
        else:
            wanted = self._wanted(wishes.unit, question)
        if wanted:
            machine.install_unit(system, text)
            self.unit = True
            echo(f"Made:    {system.unit}")

    def _account(self) -> None:
        wishes = self._wishes
        address = wishes.account
        if address is None and wishes.asks and self._settings.domains:
            proposal = f"{os.environ.get('SUDO_USER') or 'postmaster'}@{self._settings.domains[0]}"
            address = click.prompt("Address of the first account ('-' for none)", default=proposal)
        if address is None or address == "-":
            return
        key = address_key(address)
        try:
            if first_account.account_exists(self._config, key):
                echo(f"Kept:    the account {key}")
                self.account = key
                return
            password, generated = self._password(key)
        except RuntimeError as error:
            raise machine.StepFailed(str(error)) from None
        try:
            first_account.make_account(self._config, key, password)
        except RuntimeError as error:
            if generated and not wishes.asks:
                first_account.password_file(self._config.parent, key).unlink()
            raise machine.StepFailed(str(error)) from None
        self.account = key
        echo(f"Made:    the account {key}")
        if generated and wishes.asks:
            echo(f"\n  Its password, shown this once: {password}\n")

    def _password(self, address: str) -> tuple[str, bool]:
        """Return the password, and whether it was generated and still has to be shown."""
        if self._wishes.password_stdin:
            return sys.stdin.readline().rstrip("\r\n"), False
        password = first_account.generated_password()
        if self._wishes.asks:
            typed = click.prompt("Its password (empty: generate one)", default="", hide_input=True, show_default=False)
            if not typed:
                return password, True
            if click.prompt("The same again", hide_input=True) != typed:
                raise machine.StepFailed("the two entries are not the same; run `waypost init` again")
            return str(typed), False
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
            if wishes.start:
                raise machine.StepFailed("--start: it needs root, a running systemd and the unit (--unit)")
            return
        if self._wanted(wishes.start, "Start the service now, and at each boot?"):
            machine.start()
            self.started = True
            echo("Started: waypost; `waypost status` shows how it is")


# -- what is printed -------------------------------------------------------------------------------------------


def _check_dns(hostname: str, found: discovery.Machine) -> discovery.Looked:
    looked = discovery.look_up(hostname, found.addresses)
    echo("\nDNS and addresses:")
    for line in discovery.findings(hostname, found, looked):
        echo(printable(f"  {line}"))
    return looked


def _print_records(settings: Settings, found: discovery.Machine | None, looked: discovery.Looked | None) -> None:
    from waypost.transport.public import is_public

    known = [*(found.addresses if found else ()), *(looked.forward or () if looked else ())]
    addresses = [address for address in dict.fromkeys(known) if is_public(address)]
    missing = "" if addresses else ", with this host's public address for 192.0.2.1 (and an AAAA record if it has IPv6)"
    echo(f"\nPublish in DNS{missing}:")
    for line in record_lines(records(settings.hostname, settings.domains, addresses)):
        echo(f"  {line}")
    echo(f"\nAsk whoever gave you the address to set its PTR record (reverse name) to {settings.hostname}.")
    echo("The certificate is self-signed: replace tls/cert.pem and tls/key.pem by one that mail programs trust.")


def _print_settings(settings: Settings, address: str) -> None:
    from waypost.cli.settings import offers_of, print_settings

    echo("\nWhat a mail program has to be told:\n")
    print_settings(address, settings.hostname, offers_of(settings))


def _print_next(config: Path, settings: Settings, steps: _Steps) -> None:
    option = f" --config {shlex.quote(str(config))}"
    if config == Path(_USUAL_PLACE) / "waypost.toml":
        option = ""  # every command looks there
    calls = []
    if steps.account is None and settings.domains:
        calls.append(f"account add alice@{settings.domains[0]}{option}")
    calls.append(f"check{option}")
    if not steps.started:
        calls.append(f"serve{option}")
    echo("\nNext:")
    for call in calls:
        echo(f"  {called_as()} {call}")
    if steps.unit and not steps.started:
        echo("  systemctl enable --now waypost     # instead of serve: now, and at each boot")
