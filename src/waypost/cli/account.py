"""`waypost account`: the accounts, which log in and own mailboxes. A running service sees every change at once."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any

import click

from waypost.cli.addresses import address_key, must_be_hosted
from waypost.cli.frame import config_option, confirm, fail, json_option, print_json, run_with_storage, time_text
from waypost.cli.groups import CommandGroup
from waypost.cli.terminal import echo, print_table
from waypost.cli.workers import ask, load_asking, report_ended

if TYPE_CHECKING:
    from waypost.config.settings import Settings
    from waypost.service.processes.control_socket import Answers
    from waypost.storage import Account, Alias, Bus, Credentials, Storage

_SHORTEST_PASSWORD = 8
_LONGEST_LINE = 4096

_password_stdin = click.option(
    "--password-stdin", "from_stdin", is_flag=True, help="Read the password from the first line of standard input."
)


class _SizeType(click.ParamType[int]):
    """A size such as `500 MiB`; `0` or `none` means no limit."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from waypost.config.sizes import parse_size

        if isinstance(value, int):
            return value
        try:
            return 0 if value == "none" else parse_size(value)
        except ValueError as error:
            self.fail(f"{value!r} is {error}", param, ctx)


@click.group(cls=CommandGroup)
def account() -> None:
    """Accounts: users that can log in, send, and read mail here."""


@account.command()
@click.argument("address")
@_password_stdin
@click.option("--quota", type=_SizeType(), help="Such as 500MiB, or none. Default: mailbox.quota.")
@click.option("--send-only", is_flag=True, help="The address may be of a domain whose mail is hosted elsewhere.")
@config_option
def add(settings: Settings, address: str, from_stdin: bool, quota: int | None, send_only: bool) -> None:
    """Make an account with an empty mailbox."""
    _load_passwords()
    key = address_key(address)
    if not send_only:
        must_be_hosted(key, settings)
    _must_be_new(settings, key)
    credentials = _new_credentials(from_stdin)
    octets = settings.mailbox.quota if quota is None else quota

    async def work(storage: Storage, bus: Bus) -> Account:
        return await storage.directory.add_account(key, credentials, quota=octets, now=time.time_ns() // 1000)

    run_with_storage(settings, work)
    echo(f"Added {key}.")


@account.command("list")
@config_option
@json_option
def list_accounts(settings: Settings, as_json: bool) -> None:
    """List all accounts."""
    from waypost.config.sizes import rounded_size

    async def work(storage: Storage, bus: Bus) -> list[Account]:
        return await storage.directory.accounts()

    accounts = run_with_storage(settings, work)
    if as_json:
        print_json(
            [
                {
                    "address": each.address,
                    "disabled": each.disabled,
                    "quota": each.quota,
                    "usage": each.usage,
                    "created": time_text(each.created_at),
                }
                for each in accounts
            ]
        )
        return
    if not accounts:
        echo("There is no account.")
        return
    print_table(
        ("address", "state", "used", "quota", "created"),
        [
            (
                each.address,
                "disabled" if each.disabled else "enabled",
                rounded_size(each.usage),
                rounded_size(each.quota) if each.quota else "none",
                time_text(each.created_at),
            )
            for each in accounts
        ],
        shrink=("address",),
    )


@account.command()
@click.argument("address")
@_password_stdin
@config_option
def passwd(settings: Settings, address: str, from_stdin: bool) -> None:
    """Change the password of an account, and end its sessions.

    Returns when every worker has confirmed that the sessions are over, or names the one that has not.
    """
    _load_passwords()
    load_asking()
    key = address_key(address)
    _must_exist(settings, key)
    credentials = _new_credentials(from_stdin)

    async def work(storage: Storage, bus: Bus) -> Answers:
        await storage.directory.set_credentials(key, credentials)
        return await _end_sessions(settings, key)

    answers = run_with_storage(settings, work)
    echo(f"The password of {key} is changed.")
    report_ended(answers, key)


async def _end_sessions(settings: Settings, key: str) -> Answers:
    """Make the workers end the sessions that logged in before the account's change, which is committed already."""
    from waypost.service.processes.session_requests import EndAccountSessions

    return await ask(settings, EndAccountSessions(key))


@account.command()
@click.argument("address")
@config_option
def disable(settings: Settings, address: str) -> None:
    """Refuse logins to an account, refuse its mail and end its sessions; its mailboxes stay.

    Returns when every worker has confirmed that the sessions are over, or names the one that has not.
    """
    _set_disabled(settings, address, True)


@account.command()
@click.argument("address")
@config_option
def enable(settings: Settings, address: str) -> None:
    """Undo `disable`."""
    _set_disabled(settings, address, False)


def _set_disabled(settings: Settings, address: str, disabled: bool) -> None:
    load_asking()
    key = address_key(address)

    async def work(storage: Storage, bus: Bus) -> Answers:
        await storage.directory.set_disabled(key, disabled)
        return await _end_sessions(settings, key)

    answers = run_with_storage(settings, work)
    echo(f"{key} is {'disabled' if disabled else 'enabled'}.")
    report_ended(answers, key)


@account.command()
@click.argument("address")
@click.argument("size", type=_SizeType())
@config_option
def quota(settings: Settings, address: str, size: int) -> None:
    """Change how much an account may store: SIZE is a size such as 500MiB, or none."""
    from waypost.config.sizes import format_size

    words = "without a limit" if not size else format_size(size)
    key = address_key(address)

    async def work(storage: Storage, bus: Bus) -> None:
        await storage.directory.set_quota(key, size)

    run_with_storage(settings, work)
    echo(f"{key} may store {f'{words} B' if words.isdigit() else words}.")


@account.command()
@click.argument("address")
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
def remove(settings: Settings, address: str, yes: bool) -> None:
    """Remove an account with its mailboxes and all mail in them, and end its sessions."""
    load_asking()
    key = address_key(address)
    _must_exist(settings, key)

    async def work(storage: Storage, bus: Bus) -> tuple[Answers, list[Alias]]:
        await storage.directory.set_disabled(key, True)  # its sessions end before its mail is removed, step by step
        answers = await _end_sessions(settings, key)
        await storage.directory.remove_account(key)
        aliases = await storage.directory.aliases()
        return answers, [alias for alias in aliases if key in map(address_key, alias.targets)]

    confirm(f"Remove {key} with all its mail? This can't be undone.", yes)
    answers, aliases = run_with_storage(settings, work)
    echo(f"Removed {key}.")
    if aliases:
        echo(f"note: aliases still lead to it: {', '.join(alias.address for alias in aliases)}", err=True)
    report_ended(answers, key)


def _must_exist(settings: Settings, key: str) -> None:
    """Exit with 1 when there is no such account: checked before a question is asked."""

    async def look(storage: Storage, bus: Bus) -> Account | None:
        return await storage.directory.account(key)

    if run_with_storage(settings, look) is None:
        fail(f"there is no account {key}")


def _must_be_new(settings: Settings, key: str) -> None:
    """Exit with 1 when an address has an account or an alias: checked before a password is typed."""

    async def look(storage: Storage, bus: Bus) -> tuple[Account | None, Alias | None]:
        return await storage.directory.account(key), await storage.directory.alias(key)

    account, alias = run_with_storage(settings, look)
    if account is not None:
        fail(f"there is an account {key} already")
    if alias is not None:
        fail(f"{key} is an alias")


def _load_passwords() -> None:
    """Import now what passwords need: after the storage is opened, the process may run as a user that can't read the
    program."""
    import waypost.login.passwords
    import waypost.protocol.sasl.prep  # noqa: F401


def _new_credentials(from_stdin: bool) -> Credentials:
    """Ask for a password, or read it from standard input; return its stored form."""
    from waypost.login.passwords import make_credentials

    password = read_password() if from_stdin else _ask()
    problem = password_problem(password)
    if problem:
        fail(problem)

    try:
        return make_credentials(password)
    except ValueError as error:
        fail(f"this can't be a password: {error}")


def _ask() -> str:
    if not sys.stdin.isatty():
        fail("there is no terminal to ask for the password on; use --password-stdin")
    while True:
        password = str(click.prompt("Password", hide_input=True))
        problem = password_problem(password)
        if problem:  # checked before the password is typed a second time
            echo(f"{problem}; please try another", err=True)
        elif click.prompt("The same again", hide_input=True) == password:
            return password
        else:
            echo("the two entries are not the same; please try again", err=True)


def password_problem(password: str) -> str | None:
    """Return why a text can't be a password, in plain words; None when it can."""
    from waypost.protocol.sasl.prep import saslprep

    if not password:
        return "the password is empty"
    if len(password) < _SHORTEST_PASSWORD:
        return f"the password has {len(password)} characters; it needs at least {_SHORTEST_PASSWORD}"
    try:
        saslprep(password)
    except ValueError as error:
        return f"this can't be a password: {error}"
    return None


def read_password() -> str:
    """Return the first line of standard input; exits with 1 when it is too long or not UTF-8."""
    line: bytes = sys.stdin.buffer.readline(_LONGEST_LINE + 2).rstrip(b"\r\n")
    if len(line) > _LONGEST_LINE:
        fail(f"the password is longer than {_LONGEST_LINE} octets")
    try:
        return line.decode()
    except UnicodeDecodeError:
        fail("the password is not UTF-8")
