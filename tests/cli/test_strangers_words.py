"""Words of strangers in every command that shows them: nothing steers the terminal, nothing ends the list.

The commands run as an operator's would where the program stands below a folder that the data's owner can't enter: once
root is given up, every import fails.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import Run
from tests.cli.post_office import in_storage
from tests.storage.letters import Letters, deferral, finished

from waypost.message.trace import format_trace_id

_BLIND = """
import os, sys
import waypost.cli.frame as frame

class Blind:
    def find_spec(self, name, path=None, target=None):
        raise PermissionError(f"{name} is imported after root was given up")

os.geteuid = lambda: 0
frame.become_owner = lambda data: sys.meta_path.insert(0, Blind())
from waypost.cli import main
main()
"""

ESCAPES = "\x1b[31m\x07\x00\x7f\x9b2J"
FORMAT = "\u200c\u00ad\ufeff\U000e0041"
LETTERS = "\u0431\u0430\u0431\u0443\u0448\u043a\u0430"
MESSAGE_ID = f"<\u202e{FORMAT}{ESCAPES}\u2028{LETTERS}@x.test>"


@pytest.fixture
def trace(config: Path, run: Run) -> str:
    """A queue and mailboxes full of what strangers can write."""

    async def fill(letters: Letters) -> str:
        await letters.account("alice@example.org")
        subject = b"Subject: =?koi8-r?B?8NLJ18XU?= =?windows-1251?B?z/Do4uXy?= =?shift_jis?B?k/o=?=\r\n\r\nHi\r\n"
        trace = await letters.post(
            subject,
            sender=f"{LETTERS}{FORMAT}@h\u00e9.example",
            to=[f"{LETTERS}{FORMAT}@elsewhere.test", "b@\u00fcber.test"],
            message_id=MESSAGE_ID,
        )
        (entry,) = await letters.due("elsewhere.test")
        failed = deferral(entry, letters.clock() + 300_000_000, f"451 4.2.0 {ESCAPES}\u202e\u2028 {LETTERS}")
        await letters.storage.queue.settle([finished(entry, deferral=failed)])
        return format_trace_id(trace)

    found = in_storage(config, fill)
    run("alias", "add", f"{LETTERS}@example.org", f"{LETTERS}@elsewhere.test")
    return found


COMMANDS = [
    "queue list",
    "queue list --json",
    "queue show --domain elsewhere.test",
    "queue stats",
    "trace TRACE",
    "trace MESSAGE_ID",
    "alias list",
    "account list",
    "status",
    "storage check",
    "queue return --all --yes",
    "queue delete --all --yes",
]


@pytest.mark.parametrize(
    ("charset", "command"),
    [
        *(("latin-1", command) for command in COMMANDS),
        *((charset, "queue list") for charset in ("utf-8", "ascii", "koi8-r", "LANG=C")),
        ("ascii", "trace TRACE"),
        ("LANG=C", "trace TRACE"),
    ],
)
def test_words_of_strangers_are_shown_as_escapes_and_end_no_list(
    config: Path, trace: str, charset: str, command: str
) -> None:
    words = [{"TRACE": trace, "MESSAGE_ID": MESSAGE_ID.replace("\0", "")}.get(word, word) for word in command.split()]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("LC_", "LANG"))}
    environment |= {"LANG": "C"} if charset == "LANG=C" else {"PYTHONIOENCODING": charset}
    done = subprocess.run(
        [sys.executable, "-c", _BLIND, *words],
        capture_output=True,
        env=environment | {"WAYPOST_CONFIG": str(config)},
        timeout=60,
    )
    charset = "utf-8" if charset == "LANG=C" else charset
    shown, told = done.stdout.decode(charset), done.stderr.decode(charset)
    assert "Traceback" not in told and "after root was given up" not in told, told
    for text in (shown, told):
        assert not any(character in text for character in "\x1b\x07\0\x7f\x9b\u202e\u2028\u200c\ufeff"), text
    if "MESSAGE_ID" not in command:  # without its NUL, which no argument can hold, it is that of no message
        assert done.returncode == (3 if command == "status" else 0), told  # 3: the service does not run
    if command == "queue list":
        letters = LETTERS if charset in ("utf-8", "koi8-r") else LETTERS.encode("ascii", "backslashreplace").decode()
        assert letters in shown and "\\u200c" in shown
