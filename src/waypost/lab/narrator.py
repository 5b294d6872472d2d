"""Prints the lab's story: one line for each event, coloured on a terminal and plain when piped."""

import sys
import textwrap
import time
from typing import TextIO

_NARROWEST = 30  # columns of text, however narrow the terminal is

_STYLES = {
    "scene": "bold cyan",
    "time": "dim",
    "who": "bold",
    "good": "green",
    "bad": "red",
    "wait": "yellow",
    "quote": "italic",
    "command": "bold magenta",
}


class Narrator:
    """Writes the story as it happens. Times are seconds since the story began, by the clock of the journals."""

    def __init__(self, out: TextIO | None = None) -> None:
        from rich.console import Console

        self._console = Console(file=out or sys.stdout, highlight=False, soft_wrap=True)
        self._began = time.time()
        self._scene = 0

    @property
    def seconds(self) -> float:
        """Seconds since the story began."""
        return time.time() - self._began

    def scene(self, title: str, moral: str) -> None:
        """Open a scene: its title, and in one sentence what it shows."""
        self._scene += 1
        self._print("")
        self._print(f"── {self._scene}. {title} ".ljust(78, "─"), "scene")
        self._print(f"   {self._wrapped(moral, indent=3)}", "time")

    def say(self, who: str, what: str, mood: str = "", *, trace: str = "", at: float | None = None) -> None:
        """Print one event: its message, its station, and what happened; `mood` is good, bad, wait or empty.

        `at` is when it happened, in seconds since 1970; None is now.
        """
        from rich.text import Text

        seconds = self.seconds if at is None else at - self._began
        line = Text()
        line.append(f"  {seconds:6.2f}s  ", _STYLES["time"])
        line.append(f"{trace:<13}  ", _STYLES["time"])
        line.append(f"{who:<15} ", _STYLES["who"])
        line.append(self._wrapped(what, indent=len(line)), _STYLES.get(mood, ""))
        self._console.print(line)

    def _wrapped(self, text: str, *, indent: int) -> str:
        """Break a text between its words on a terminal, each further line under the first; leave it whole in a pipe."""
        if not self._console.is_terminal:
            return text
        width = max(self._console.width - indent, _NARROWEST)
        lines = textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
        return ("\n" + " " * indent).join(lines)

    def quote(self, text: str, *, lines: int = 14) -> None:
        """Show the first lines of a message, indented."""
        for line in text.splitlines()[:lines]:
            self._print(f"                                           │ {line}", "quote")

    def plain(self, text: str = "") -> None:
        """Write a line."""
        self._print(self._wrapped(text, indent=2) if text.strip() else text)

    def command(self, text: str) -> None:
        """Write a command that can be copied."""
        self._print(f"    {text}", "command")

    def _print(self, text: str, style: str = "") -> None:
        from rich.text import Text

        self._console.print(Text(text, _STYLES.get(style, style)))
