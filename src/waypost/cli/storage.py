"""`waypost storage`: looks after the stored messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from waypost.cli.accepting import accept
from waypost.cli.frame import config_option, confirm, json_option, print_json, run_with_storage
from waypost.cli.groups import CommandGroup
from waypost.cli.progress import progress
from waypost.cli.recovering import recover
from waypost.cli.terminal import echo, printable
from waypost.cli.times import now
from waypost.counting import counted

if TYPE_CHECKING:
    from waypost.config.settings import Settings
    from waypost.storage import Bus, Storage
    from waypost.storage.engine.upkeep import Problem


@click.group(cls=CommandGroup)
def storage() -> None:
    """Look after the stored messages."""


@storage.command()
@click.option(
    "--repair", "wanted", is_flag=True, help="Repair indexes, counts and rows; octets of messages never change."
)
@click.option("--yes", is_flag=True, help="Do not ask.")
@config_option
@json_option
def check(settings: Settings, as_json: bool, wanted: bool, yes: bool) -> None:
    """Read every message, and compare all rows with each other. The service may run meanwhile.

    Prints what is wrong for each message, and what to do. Exits with 1 when something is wrong.
    """
    from waypost.storage.engine.upkeep import problems_of

    if wanted:
        confirm("Repair the database? Only a copy of the data directory, made before, can undo it.", yes)

    when = now()
    with progress("Reading messages", 0) as bar:

        async def work(_: Storage, bus: Bus) -> tuple[list[Problem], int, int]:
            return problems_of(settings.data, bar.reach, repair=wanted, now=when)

        problems, messages, octets = run_with_storage(settings, work)
    wrong = [problem for problem in problems if not problem.harmless]
    if as_json:
        print_json(_json_of(messages, octets, problems))
    else:
        _print(problems)
        found = counted(len(wrong), "problem") if wrong else "no problems"
        echo(f"{counted(messages, 'message')}, {counted(octets, 'octet')} read: {found}.")
    if wrong:
        raise SystemExit(1)


def _print(problems: list[Problem]) -> None:
    """Print problems; those with the same advice together, with the advice once."""
    by_advice: dict[str, list[Problem]] = {}
    for problem in problems:
        by_advice.setdefault(problem.advice, []).append(problem)
    for advice, alike in by_advice.items():
        for problem in alike:
            echo(f"{'note' if problem.harmless else 'problem'}: {printable(problem.what)}")
        echo(f"  {printable(advice)}")


storage.add_command(accept)
storage.add_command(recover)


def _json_of(messages: int, octets: int, problems: list[Problem]) -> dict[str, Any]:
    from waypost.message.trace import format_trace_id

    return {
        "messages": messages,
        "octets": octets,
        "problems": [
            {
                "what": problem.what,
                "advice": problem.advice,
                "trace": None if problem.trace is None else format_trace_id(problem.trace),
                "harmless": problem.harmless,
            }
            for problem in problems
        ],
    }
