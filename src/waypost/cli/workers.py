"""Sends questions of commands to the workers of the running service, and reports a worker that does not answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from waypost.cli.frame import fail
from waypost.cli.terminal import echo
from waypost.counting import counted

if TYPE_CHECKING:
    from waypost.config.settings import Settings
    from waypost.service.processes.control_socket import Answers
    from waypost.service.processes.session_requests import Request

PATIENCE = 10.0
"""Seconds that a worker has for its answer."""


def load_asking() -> None:
    """Import what `ask` needs, before the process becomes a user that can't read the program."""
    import waypost.service.processes.control_socket
    import waypost.service.processes.session_control  # noqa: F401


async def ask(settings: Settings, request: Request) -> Answers:
    """Ask all workers of the service; without a service there are no answers. Exits with 1 when they can't be asked."""
    from waypost.service.processes.control_socket import ask_workers

    try:
        return await ask_workers(settings.data / "bus", request, PATIENCE)
    except OSError as error:
        fail(f"can't ask the service: {error}")


def ended(answers: Answers) -> int:
    """Return how many sessions were ended."""
    return sum(int(row["ended"]) for row in answers.rows)


def report_ended(answers: Answers, account: str) -> None:
    """Print how many sessions of an account were ended; name a worker that has not confirmed it, and exit with 1."""
    if count := ended(answers):
        echo(f"Ended {counted(count, 'session')} of {account}.")
    must_be_confirmed(answers, "nothing more is stored for the account, but its sessions there may still read")


def must_be_confirmed(answers: Answers, meaning: str) -> None:
    """If a worker has not confirmed the end of all sessions, name it and exit with 1."""
    working = [row["worker"] for row in answers.rows if row["working"]]
    silent = [*answers.silent, *working]
    if silent:
        have = "have" if len(silent) > 1 else "has"
        fail(
            f"{' and '.join(silent)} {have} not confirmed within {PATIENCE:.0f} s that the sessions are over; {meaning}"
        )
