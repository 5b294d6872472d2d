"""Logging: one event one line, for people on a terminal and as JSON lines for programs.

Whatever a line shows is escaped, so that no word of a peer can forge a line or steer a terminal. A thread writes, so
that the event loop never waits for a stuck pipe; lines that find no room are counted, and the count is said later.
"""

import atexit
import contextlib
import json
import logging
import os
import queue
import select
import threading
import time
from typing import Any

_RESERVED = frozenset({"time", "level", "logger", "event", "traceback"})
_MOST_LINES = 10_000
_COLOURS = {"DEBUG": "\x1b[2m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m"}
_PLAIN = "\x1b[0m"


def set_up(json: bool, *, colour: bool = False, level: int = logging.INFO, fd: int = 2) -> "BackgroundHandler":
    """Send the log of this process to `fd` (standard error): as JSON lines, or in the form for people.

    Libraries are heard from WARNING on. Called again, it replaces what the call before set up.
    """
    handler = BackgroundHandler(fd)
    handler.setFormatter(JsonFormatter() if json else HumanFormatter(colour=colour))
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, BackgroundHandler):
            root.removeHandler(old)
            old.close()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("waypost").setLevel(level)
    return handler


def escape(text: str) -> str:
    """Return text in one line without anything that a terminal acts on; the backslash is doubled."""
    if text.isprintable() and "\\" not in text:
        return text
    text = text.replace("\\", r"\\")
    return "".join(character if character.isprintable() else _escaped(character) for character in text)


def _escaped(character: str) -> str:
    code = ord(character)
    if character in "\n\r\t":
        return {"\n": r"\n", "\r": r"\r", "\t": r"\t"}[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    fields = getattr(record, "fields", None)
    return fields if isinstance(fields, dict) else {}


class JsonFormatter(logging.Formatter):
    """One JSON object a line, in ASCII: time, level, logger, event, then the fields; a traceback is one more string."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its end."""
        seconds, fraction = divmod(record.created, 1)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
        event: dict[str, Any] = {
            "time": f"{stamp}.{int(fraction * 1_000_000):06}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        for key, value in _fields(record).items():
            event[f"{key}_" if key in _RESERVED else str(key)] = value
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        try:
            line = json.dumps(event, default=str)
        except (TypeError, ValueError):  # keys that are no text, or a circle
            line = json.dumps({key: str(value) for key, value in event.items()})
        return line.replace("\x7f", "\\u007f")


class HumanFormatter(logging.Formatter):
    """Time, level, phrase, then key=value; a traceback follows, each line behind a bar that no value can make."""

    def __init__(self, *, colour: bool) -> None:
        super().__init__()
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its end; with a traceback, the lines."""
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        level = f"{record.levelname:<8}"
        if self._colour and record.levelname in _COLOURS:
            level = f"{_COLOURS[record.levelname]}{level}{_PLAIN}"
        words = [f"{stamp}.{int(record.msecs):03} {level} {escape(record.getMessage())}"]
        words += [f"{escape(str(key))}={self._value(value)}" for key, value in _fields(record).items()]
        line = "  ".join([words[0], " ".join(words[1:])]) if len(words) > 1 else words[0]
        if record.exc_info:
            lines = self.formatException(record.exc_info).split("\n")
            line += "".join(f"\n    | {escape(part)}" for part in lines)
        return line

    @staticmethod
    def _value(value: object) -> str:
        if not isinstance(value, str):
            return escape(json.dumps(value, default=str, ensure_ascii=False))
        if value and not any(character in value for character in ' ="'):
            return escape(value)
        return '"' + escape(value).replace('"', r"\"") + '"'


class BackgroundHandler(logging.Handler):
    """Formats where the event happens, and writes in a thread of its own; never waits for the reader of the log."""

    def __init__(self, fd: int, *, most_lines: int = _MOST_LINES) -> None:
        super().__init__()
        self._fd = fd
        self._lines: queue.Queue[bytes | None] = queue.Queue(most_lines)
        self._lost = 0
        self._thread = threading.Thread(target=self._run, name="waypost-log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the line of an event; when there is no room, count it as lost."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:  # noqa: BLE001  logging's own way to say that an event could not be written
            self.handleError(record)
            return
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self._lost += 1

    def close(self) -> None:
        """Write what waits, for a second at most; a stuck reader must not keep the process."""
        atexit.unregister(self.close)
        with contextlib.suppress(queue.Full):
            self._lines.put(None, timeout=1)
            self._thread.join(1)
        super().close()

    def _run(self) -> None:
        last = False
        while not last:
            lines = [self._lines.get()]
            with contextlib.suppress(queue.Empty):
                while len(lines) < 100:
                    lines.append(self._lines.get_nowait())
            if None in lines:
                last, lines = True, lines[: lines.index(None)]
            if self._lost:
                lost, self._lost = self._lost, 0
                lines.append(self._loss(lost))
            self._write(b"".join(line for line in lines if line is not None))

    def _loss(self, lost: int) -> bytes:
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, "log lines lost", (), None)
        record.fields = {"count": lost}
        return self.format(record).encode() + b"\n"

    def _write(self, octets: bytes) -> None:
        while octets:
            try:
                octets = octets[os.write(self._fd, octets) :]
            except BlockingIOError:  # whoever gave us the descriptor made it so
                select.select([], [self._fd], [], 1)
            except OSError:  # nobody reads any more: there is no place left to say so
                return
