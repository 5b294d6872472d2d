"""Prints the log lines of the storage while a command works: one line each on the standard error stream."""

from __future__ import annotations

import logging

from waypost.cli.terminal import echo


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        """Print a line."""
        fields = getattr(record, "fields", None)
        facts = ", ".join(f"{key} {value}" for key, value in fields.items()) if isinstance(fields, dict) else ""
        echo(f"waypost: {record.getMessage()}{f' ({facts})' if facts else ''}", err=True)
        if record.exc_info:
            echo(logging.Formatter().formatException(record.exc_info), err=True)


def show_log_lines() -> None:
    """Print warnings and errors of this program from now on. Called again, it changes nothing."""
    log = logging.getLogger("waypost")
    if not any(isinstance(handler, _Lines) for handler in log.handlers):
        log.addHandler(_Lines(logging.WARNING))
