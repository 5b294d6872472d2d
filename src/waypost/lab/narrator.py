"""The lab's voice: one line for each thing that happens, coloured on a terminal and plain when piped."""

import sys
import time
from typing import TextIO

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
        self._print(f"   {moral}", "time")

    def say(self, who: str, what: str, mood: str = "", *, trace: str = "", at: float | None = None) -> None:
        """Tell one event: of which message, at which station, what happened; `mood` is good, bad, wait or empty.

        `at` is when it happened, in seconds since 1970; None is now.
        """
        from rich.text import Text

        seconds = self.seconds if at is None else at - self._began
        line = Text()
        line.append(f"  {seconds:6.2f}s  ", _STYLES["time"])
        line.append(f"{trace:<13}  ", _STYLES["time"])
        line.append(f"{who:<15} ", _STYLES["who"])
        line.append(what, _STYLES.get(mood, ""))
        self._console.print(line)

    def quote(self, text: str, *, lines: int = 14) -> None:
        """Show the first lines of a message, indented."""
        for line in text.splitlines()[:lines]:
            self._print(f"                                           │ {line}", "quote")

    def plain(self, text: str = "") -> None:
        """Write lines as they are."""
        self._print(text)

    def command(self, text: str) -> None:
        """Write a command that can be copied."""
        self._print(f"    {text}", "command")

    def _print(self, text: str, style: str = "") -> None:
        from rich.text import Text

        self._console.print(Text(text, _STYLES.get(style, style)))
