"""The standard streams of a process: all three are there, and it is noticed when output can't be written."""

from __future__ import annotations

import os
import sys

import click


def fill_standard_streams() -> None:
    """Open what is closed of the three standard streams on the null device.

    Otherwise the next file that is opened, such as a segment of the storage, would have its number, and error messages
    would be written into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number
    sys.stdin = sys.stdin or open(0, encoding="utf-8", closefd=False)  # noqa: SIM115  for the whole process
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def is_of_output(error: OSError) -> bool:
    """True when an error came from printing, by which all commands print: the other side of standard output is full,
    or broken.

    What is left unwritten is given up then: the interpreter would try it again at its end, and fail.
    """
    last = error.__traceback__
    while last is not None and last.tb_next is not None:
        last = last.tb_next
    if last is None or last.tb_frame.f_code is not click.echo.__code__:
        return False
    file = last.tb_frame.f_locals["file"]
    if file is sys.stdout or file is sys.stderr:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, file.fileno())
        os.close(null)
    return True
