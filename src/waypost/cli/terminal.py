"""Prints text to a terminal, or to a file instead of one, so that no text can steer the terminal and any can be shown.

Others write the messages, addresses, replies and file names. They may hold control characters, characters that turn
text around, halves of characters, and letters that the charset of the terminal lacks.
"""

from __future__ import annotations

import shutil
import sys
import textwrap
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from typing import TextIO

import click

from waypost.message.escape import escape

_STEERING = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_JOINERS = frozenset("\N{ZERO WIDTH NON-JOINER}\N{ZERO WIDTH JOINER}")
_NARROWEST_TEXT = 30  # columns that a wrapped text keeps
_NARROWEST = 8  # columns that a column of a table keeps


def echo(text: str = "", *, err: bool = False, nl: bool = True, joiners: bool = False) -> None:
    """Print lines, each as `printable` returns it; with `err`, on the standard error stream."""
    stream = sys.stderr if err else sys.stdout
    lines = text.split("\n")
    click.echo("\n".join(printable(line, stream, joiners=joiners) for line in lines), file=stream, nl=nl)


def printable(text: str, stream: TextIO | None = None, *, joiners: bool = False) -> str:
    """Return a text with escapes for control and format characters, and for characters that the stream's charset lacks.

    `joiners` leaves the two joiners unescaped that belong to words of some languages: for text that people read, not
    for addresses that they compare. The stream is standard output unless another is given.
    """
    if not text.isprintable():
        keep: Collection[str] = _JOINERS if joiners else ()
        text = "".join(escape(c) if unicodedata.category(c) in _STEERING and c not in keep else c for c in text)
    if text.isascii():
        return text
    charset = getattr(sys.stdout if stream is None else stream, "encoding", None) or "utf-8"
    try:
        text.encode(charset)
    except UnicodeEncodeError:
        return text.encode(charset, "backslashreplace").decode(charset)
    return text


def echo_wrapped(text: str, *, hanging: int) -> None:
    """Print one line; on a terminal, break it between words and indent the further lines by `hanging`."""
    width = terminal_width()
    if width is None:
        echo(text)
        return
    shown = printable(text)
    indent = len(shown) - len(shown.lstrip())
    lines = textwrap.wrap(
        shown.lstrip(),
        max(width, _NARROWEST_TEXT + hanging),
        initial_indent=" " * indent,
        subsequent_indent=" " * hanging,
        break_long_words=False,
        break_on_hyphens=False,
    )
    echo("\n".join(lines))


def table_width(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> int:
    """Return the width in columns of a table that is not cut."""
    cells = [[printable("" if value is None else str(value)) for value in row] for row in rows]
    widths = [max(map(_width, column)) for column in zip(columns, *cells, strict=True)]
    return sum(widths) + 2 * (len(widths) - 1)


def print_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    shrink: Collection[str] = (),
    joiners: bool = False,
) -> None:
    """Print rows under their columns' names, aligned, whole numbers to the right; None shows as nothing.

    On a terminal, the columns in `shrink` are cut if lines would be longer than its width. `joiners` as in `printable`.
    """
    given = [list(row) for row in rows]
    cells = [[printable("" if value is None else str(value), joiners=joiners) for value in row] for row in given]
    widths = [max(map(_width, column)) for column in zip(columns, *cells, strict=True)]
    most = terminal_width()
    if most is not None:
        _narrow(widths, [k for k, name in enumerate(columns) if name in shrink], most)
    right = [bool(given) and all(isinstance(row[k], int | None) for row in given) for k in range(len(columns))]
    for line in [list(columns), *cells]:
        padded = []
        for cell, width, to_right in zip(line, widths, right, strict=True):
            shown = _cut(cell, width)
            space = " " * (width - _width(shown))
            padded.append(space + shown if to_right else shown + space)
        echo("  ".join(padded).rstrip(), joiners=joiners)


def _narrow(widths: list[int], columns: list[int], most: int) -> None:
    """Shrink the widest of these columns until a line fits, or each has its least width."""
    excess = sum(widths) + 2 * (len(widths) - 1) - most
    while excess > 0:
        wide = [k for k in columns if widths[k] > _NARROWEST]
        if not wide:
            return
        widest = max(wide, key=lambda k: widths[k])
        widths[widest] -= 1
        excess -= 1


def terminal_width() -> int | None:
    """Return the columns of the terminal; None when the output is not a terminal."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _cut(text: str, width: int) -> str:
    """Return as much of a text as fits, with an ellipsis where something is missing."""
    if _width(text) <= width:
        return text
    mark = printable("\N{HORIZONTAL ELLIPSIS}")
    mark = mark if len(mark) == 1 else "..."
    kept, used = [], len(mark)
    for character in text:
        used += _width(character)
        if used > width:
            break
        kept.append(character)
    return "".join(kept) + mark


def _width(text: str) -> int:
    """Return the columns that a terminal uses for a text."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.category(c) in ("Mn", "Me", "Cf") else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
