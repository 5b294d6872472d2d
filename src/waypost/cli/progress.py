"""A progress bar for long work; it is shown only on a terminal, and on the standard error stream."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress


class Bar(Protocol):
    """Shows the progress of some work."""

    def reach(self, done: int, total: int | None = None) -> None:
        """Show that `done` of `total` is done."""
        ...


class _NoBar:
    def reach(self, done: int, total: int | None = None) -> None:
        """Show nothing."""


def load_bar() -> None:
    """Import all that draws a bar, by drawing an invisible one: later this process may be a user that can't read it."""
    if sys.stderr.isatty():
        from rich.console import Console

        with _bar(Console(file=io.StringIO(), force_terminal=True)) as shown:
            shown.add_task("", total=1)
            shown.refresh()


@contextmanager
def progress(what: str, total: int) -> Iterator[Bar]:
    """Show a bar while the block runs. It is drawn once immediately, so that all that draws it is imported now."""
    if not sys.stderr.isatty():
        yield _NoBar()
        return
    from rich.console import Console

    with _bar(Console(stderr=True)) as shown:
        task = shown.add_task(what, total=total)
        shown.refresh()

        class RichBar:
            def reach(self, done: int, total: int | None = None) -> None:
                shown.update(task, completed=done, total=total)

        yield RichBar()


def _bar(console: Console) -> Progress:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, redirect_stdout=False, redirect_stderr=False)
