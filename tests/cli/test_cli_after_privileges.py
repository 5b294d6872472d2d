"""A command that root runs becomes the service's user, who may be unable to read the program: below /root, say.

So nothing may be loaded any more once the storage is open. Here every later import is an error, for anybody.
"""

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.post_office import in_storage
from tests.storage.letters import Letters, deferral, finished

from waypost.message.trace import format_trace_id

_PROGRAM = """
import os, sys
from waypost.cli import frame, main

class Closed:
    def find_spec(self, name, path=None, target=None):
        print(f"loaded too late: {name}", file=sys.stderr)
        raise PermissionError(name)

def become(data):
    if not isinstance(sys.meta_path[0], Closed):
        sys.meta_path.insert(0, Closed())

os.geteuid = lambda: 0
frame.become_owner = become
main()
"""


@pytest.fixture
def trace(config: Path) -> str:
    """A host with an account, an alias, a message that waits, and one in a mailbox."""

    async def fill(letters: Letters) -> str:
        await letters.account("alice@example.org")
        trace = await letters.post(to=["bob@elsewhere.test"], message_id="<tea@example.org>")
        (entry,) = await letters.due("elsewhere.test")
        await letters.storage.queue.settle(
            [finished(entry, deferral=deferral(entry, letters.clock() + 300_000_000, "451 4.2.0 Full"))]
        )
        return format_trace_id(trace)

    return in_storage(config, fill)


def on_a_terminal(arguments: list[str], answers: tuple[tuple[bytes, bytes], ...]) -> str:
    """Run a command on a terminal, and answer its questions; return what it showed. Fails when it fails."""
    ours, theirs = pty.openpty()
    shown, asked = b"", list(answers)
    command = [sys.executable, "-c", _PROGRAM, *arguments]
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True) as process:
        os.close(theirs)
        while True:
            try:
                shown += os.read(ours, 4096)
            except OSError:  # the other end is closed (pty(7))
                break
            if asked and shown.endswith(asked[0][0]):
                os.write(ours, asked.pop(0)[1])
    os.close(ours)
    words = shown.decode(errors="replace")
    expected = 3 if arguments == ["status"] else 0  # no service runs
    assert process.returncode == expected, f"{arguments}: {process.returncode}\n{words}"
    return words


def test_nothing_is_loaded_once_the_storage_is_open(trace: str) -> None:
    password = ((b"Password: ", b"a long password\n"), (b"The same again: ", b"a long password\n"))
    yes = ((b"[y/N]: ", b"y\n"),)
    commands = (
        (["account", "passwd", "alice@example.org"], password),
        (["account", "remove", "alice@example.org"], yes),
        (["account", "add", "carol@example.org"], password),
        (["alias", "add", "sales@example.org", "carol@example.org", "x@elsewhere.test"], ()),
        (["domain", "list"], ()),
        (["queue", "list"], ()),
        (["queue", "show", "--domain", "elsewhere.test"], ()),
        (["queue", "hold", "--all"], ()),
        (["trace", trace], ()),
        (["status"], ()),
        (["storage", "check"], ()),
        (["queue", "return", "--all"], yes),
        (["queue", "delete", "--all"], yes),
    )
    for arguments, answers in commands:
        assert "loaded too late" not in on_a_terminal(arguments, answers), arguments
