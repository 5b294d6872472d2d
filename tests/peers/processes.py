"""Processes of the peers."""

import subprocess


def end(process: subprocess.Popen[bytes] | None, *, seconds: float = 20) -> None:
    """Ask a process to end, if it runs, and wait for it. Raises `subprocess.TimeoutExpired`."""
    if process is None:
        return
    process.terminate()
    process.wait(timeout=seconds)
    if process.stderr:
        process.stderr.close()
