"""A progress bar for what takes a while; on a terminal only, and on the standard error stream."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Bar(Protocol):
    """Shows how far something is."""

    def reach(self, done: int, total: int | None = None) -> None:
        """So much is done, of `total`."""
        ...


class _NoBar:
    def reach(self, done: int, total: int | None = None) -> None:
        """Show nothing."""


@contextmanager
def progress(what: str, total: int) -> Iterator[Bar]:
    """Show a bar while the block runs. It is drawn once at once, so that whatever draws it is read from disk by now."""
    if not sys.stderr.isatty():
        yield _NoBar()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    shown = Progress(
        *columns, console=Console(stderr=True), transient=True, redirect_stdout=False, redirect_stderr=False
    )
    with shown:
        task = shown.add_task(what, total=total)
        shown.refresh()

        class RichBar:
            def reach(self, done: int, total: int | None = None) -> None:
                shown.update(task, completed=done, total=total)

        yield RichBar()
