"""A command on a terminal of its own, whose questions a test answers."""

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

CTRL_C = b"<ctrl-c>"
"""The answer of somebody who presses Ctrl-C."""
CTRL_D = b"<ctrl-d>"
"""The answer of somebody who presses Ctrl-D."""


def dialogue(arguments: list[str], answers: list[tuple[bytes, bytes]], *, home: Path | None = None) -> tuple[int, str]:
    """Run a command on a terminal of its own and answer its questions, each when it is asked."""
    ours, theirs = pty.openpty()
    shown = b""
    environment = os.environ | {"SUDO_USER": "", "LANG": "C.UTF-8"} | ({"HOME": str(home)} if home else {})
    with subprocess.Popen(
        [sys.executable, "-m", "waypost", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_with_usual_signals,
        env=environment,
    ) as process:
        os.close(theirs)
        waiting = list(answers)
        said = b""
        try:
            while piece := _read(ours):
                shown += piece
                said += piece
                if waiting and waiting[0][0] in said and _awaits_an_answer(ours, said):
                    answer = waiting.pop(0)[1]
                    if answer == CTRL_C:
                        _press_ctrl_c(process, ours)
                    else:
                        os.write(ours, b"\x04" if answer == CTRL_D else answer + b"\n")
                    said = b""
        except BaseException:  # nobody answers any more
            process.kill()
            raise
    os.close(ours)
    assert not waiting, f"not asked: {waiting[0][0]!r}\n{shown.decode()}"
    return process.returncode, shown.decode()


def shown_at(columns: int, *arguments: str, status: int = 0) -> list[str]:
    """The lines of a command on a terminal of a width."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES")}
    shown = b""
    with subprocess.Popen(
        [sys.executable, "-m", "waypost", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
        env=environment,
    ) as process:
        os.close(theirs)
        while True:
            try:
                shown += os.read(ours, 65536)
            except OSError:  # the other end is closed (pty(7))
                break
        assert process.wait() == status
    os.close(ours)
    return shown.decode().splitlines()


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other end is closed (pty(7))
        return b""


def _press_ctrl_c(process: subprocess.Popen[bytes], terminal: int) -> None:
    """Press Ctrl-C until there is an answer: Python notices a signal late that comes just before it waits for a key."""
    process.send_signal(signal.SIGINT)
    while not select.select([terminal], [], [], 1.0)[0]:
        process.send_signal(signal.SIGINT)


def _awaits_an_answer(terminal: int, said: bytes) -> bool:
    """True when the whole prompt is there: its last octet is written when the terminal is ready for keys, and before
    that Ctrl-D would be lost. A prompt that ends otherwise is one after which nothing more comes."""
    return said.endswith(b": ") or not select.select([terminal], [], [], 1.0)[0]


def _with_usual_signals() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # a job in the background inherits it ignored


def root_questions(*questions: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """Return questions that only root is asked."""
    return list(questions) if os.geteuid() == 0 else []
