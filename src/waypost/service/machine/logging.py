"""Logging: one event one line, for people on a terminal and as JSON lines for programs.

Whatever a line shows is escaped, so that no word of a peer can forge a line or steer a terminal. A thread writes, so
that the event loop never waits for a stuck pipe; lines that find no room are counted, and the count is said later.
Lines of the same moment are written together: waking a thread for each would cost more than the line.
"""

import atexit
import json
import logging
import os
import select
import threading
import time
from collections import deque
from functools import lru_cache
from typing import Any

import msgspec

_RESERVED = frozenset({"time", "level", "logger", "event", "traceback"})
_MOST_LINES = 10_000
_GATHERED = 0.02  # seconds: for so long, a line may wait for others
_COLOURS = {"DEBUG": "\x1b[2m", "WARNING": "\x1b[33m", "ERROR": "\x1b[31m", "CRITICAL": "\x1b[1;31m"}
_PLAIN = "\x1b[0m"

_encode = msgspec.json.Encoder().encode


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
    _collect_only_what_is_shown()
    return handler


def _collect_only_what_is_shown() -> None:
    """Lines name no thread, process or place in the source: nobody need find them out ("Optimization" in the library's
    manual)."""
    logging.logThreads = False
    logging.logProcesses = False
    logging.logMultiprocessing = False
    logging._srcfile = None


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

    def format(self, record: logging.LogRecord) -> str:  # hot: bench/accept
        """Return the line without its end."""
        seconds, fraction = divmod(record.created, 1)
        event: dict[str, Any] = {
            "time": f"{_stamp(int(seconds))}.{int(fraction * 1_000_000):06}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        for key, value in _fields(record).items():
            event[f"{key}_" if key in _RESERVED else str(key)] = value
        if record.exc_info:
            event["traceback"] = self.formatException(record.exc_info)
        return _json(event)


@lru_cache(maxsize=4)
def _stamp(seconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def _json(event: dict[str, Any]) -> str:
    try:
        octets = _encode(event)
    except (TypeError, ValueError, RecursionError):  # what only the slow encoder below has a form for
        octets = b"\x7f"
    if octets.isascii() and b"\x7f" not in octets:
        return octets.decode()
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
        self._most_lines = most_lines
        self._lines: deque[bytes] = deque()
        self._lost = 0
        self._torn = False  # the last line that was written has no end
        self._waiting = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="waypost-log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def emit(self, record: logging.LogRecord) -> None:  # hot: bench/accept
        """Queue the line of an event; when there is no room, count it as lost."""
        try:
            line = self.format(record).encode("utf-8", "backslashreplace") + b"\n"
        except Exception:  # noqa: BLE001  logging's own way to say that an event could not be written
            self.handleError(record)
            return
        if len(self._lines) >= self._most_lines:
            self._lost += 1
            return
        self._lines.append(line)
        if not self._waiting.is_set():
            self._waiting.set()

    def close(self) -> None:
        """Write the waiting lines, for a second at most: a stuck reader must not keep the process alive."""
        atexit.unregister(self.close)
        self._closing.set()
        self._waiting.set()
        self._thread.join(1)
        super().close()

    def _run(self) -> None:
        last = False
        while not last:
            self._waiting.wait()
            self._closing.wait(_GATHERED)
            self._waiting.clear()  # before the lines are taken, so that later lines wake the thread again
            last = self._closing.is_set()
            self._write_waiting()

    def _write_waiting(self) -> None:
        while self._lines:
            lines = [self._lines.popleft() for _ in range(min(len(self._lines), 100))]
            lost, self._lost = self._lost, 0
            if lost:
                lines.append(self._loss(lost))
            try:
                unwritten = self._write(lines)
            except MemoryError:
                unwritten = len(lines)
            if unwritten:
                self._lost += unwritten + max(0, lost - 1)  # the last one would have said how many were lost

    def _loss(self, lost: int) -> bytes:
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, "log lines lost", (), None)
        record.fields = {"count": lost}
        return self.format(record).encode() + b"\n"

    def _write(self, lines: list[bytes]) -> int:
        """Write lines; return how many were not, for want of space or of a reader."""
        octets = b"".join([b"\n", *lines] if self._torn else lines)
        size = len(octets)
        while octets:
            try:
                octets = octets[os.write(self._fd, octets) :]
            except BlockingIOError:  # whoever gave us the descriptor made it so
                select.select([], [self._fd], [], 1)
            except OSError:
                self._torn = self._torn or len(octets) < size
                return min(octets.count(b"\n"), len(lines))
        self._torn = False
        return 0
