"""The manual's commands that read the log, run with jq on what the journal really holds."""

import logging
import subprocess

import pytest
from tests.docs.pages import pages

from waypost.service.machine.logging import JsonFormatter

OF_SYSTEMD = (
    "Starting waypost.service - Waypost mail system...",
    "waypost.service: Main process exited, code=killed, status=9/KILL",
    "waypost.service: Consumed 3.2s CPU time.",
    "",
)
FILTERS = [
    line.partition("| ")[2]
    for page in pages()
    for block in page.shell_blocks
    for line in block.splitlines()
    if line.startswith("journalctl") and "| jq " in line
]


def journal(event: str) -> str:
    """A log of the service, as `journalctl -o cat` shows it between lines of systemd."""
    fields = {"destination": "example.net", "problem": "no mail server answered"}
    record = logging.LogRecord("waypost.queue", logging.WARNING, __file__, 1, event, (), None)
    record.fields = fields
    return "\n".join((*OF_SYSTEMD, JsonFormatter().format(record), *OF_SYSTEMD)) + "\n"


def test_the_manual_has_such_commands() -> None:
    assert len(FILTERS) >= 2


@pytest.mark.parametrize("event", ["delivery failed", "destination failed"])
@pytest.mark.parametrize("command", FILTERS)
def test_a_filter_of_the_manual_passes_over_the_lines_of_systemd(command: str, event: str) -> None:
    found = subprocess.run(["sh", "-c", command], input=journal(event), capture_output=True, text=True)
    assert (found.returncode, found.stderr) == (0, "")
    assert len(found.stdout.splitlines()) == 1 and "no mail server answered" in found.stdout
