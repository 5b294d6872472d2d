"""Processes of the peers."""

import socket
import subprocess
import time


def listens(process: subprocess.Popen[bytes], address: str, port: int, *, seconds: float = 20) -> bool:
    """Wait until a process takes connections over TCP; False when it ended, or the time is over."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection((address, port), timeout=1).close()
            return True
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                return False
        try:  # wait for its end for a moment: it is the only event that it offers
            process.wait(timeout=0.05)
        except subprocess.TimeoutExpired:
            continue


def end(process: subprocess.Popen[bytes] | None, *, seconds: float = 20) -> None:
    """Ask a process to end, if it runs, and wait for it. Raises `subprocess.TimeoutExpired`."""
    if process is None:
        return
    process.terminate()
    process.wait(timeout=seconds)
    if process.stderr:
        process.stderr.close()
