"""Finds the running service for commands: `run/service.json`, and the copy of the configuration in force."""

from __future__ import annotations

import codecs
import json
import os
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from waypost.config.settings import Settings

_RUN, _LOCK = "run", "service.lock"
_DATA = re.compile(rb"""^[ \t]*data[ \t]*=[ \t]*(?:"([^"\\\n]+)"|'([^'\n]+)')""", re.MULTILINE)


def service_of(data: Path) -> dict[str, Any] | None:
    """Return the state file of the service that runs on a data directory; None when no service runs."""
    try:
        said = json.loads((data / "run" / "service.json").read_text())
    except (OSError, ValueError):
        return None
    return said if isinstance(said, dict) and _alive(said) else None


def _alive(said: dict[str, Any]) -> bool:
    """True when the process that wrote it is alive; another process may have its number by now."""
    pid = said.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    if isinstance(said.get("process"), str):
        from waypost.service.processes.state import process_identity

        return bool(process_identity(pid) == said["process"])
    try:  # written by an older version
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return _serves(words)


def data_of_service(path: Path) -> Path | None:
    """Return the data directory of the service that runs with a configuration file, even if the file names another now.

    None when no service runs with it, or this user may not look into its process.
    """
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes().split(b"\0")
            if not _serves(words):
                continue
            held = [fd.readlink() for fd in (process / "fd").iterdir()]
        except OSError:  # the process has ended, or belongs to another user
            continue
        for name in held:
            if name.parts[-2:] != (_RUN, _LOCK):
                continue
            data = name.parent.parent
            service = service_of(data)
            if service is not None and (service.get("configuration") or {}).get("path") == str(path.absolute()):
                return data
    return None


def _serves(words: list[bytes]) -> bool:
    """True for the command line of a service; other programs may also have Waypost's name in theirs."""
    return b"serve" in words and any(word.rpartition(b"/")[2] == b"waypost" for word in words)


def configuration_in_force(path: Path) -> tuple[Settings, str] | None:
    """Return the settings that the running service uses, and since when, for a file that has errors now.

    None when no service runs with this file, or the service's copy can't be read.
    """
    from waypost.config.errors import ConfigErrors
    from waypost.config.load import parse
    from waypost.service.processes.run_folder import CONFIGURATION

    data = _data_directory(path)
    service = service_of(data)
    if service is None:
        data = data_of_service(path) or data
        service = service_of(data)
    if service is None:
        return None
    facts = service.get("configuration") or {}
    if facts.get("path") != str(path.absolute()):
        return None
    try:
        return parse((data / "run" / CONFIGURATION).read_bytes(), path).settings, str(facts.get("since"))
    except (OSError, ConfigErrors):
        return None


def _data_directory(path: Path) -> Path:
    """Return the data directory that a file with errors names, if that can be read; else the place where `init` puts
    it, beside the file. The service that runs there says which file it uses."""
    beside = path.absolute().parent / "data"
    try:
        octets = path.read_bytes()
    except OSError:
        return beside
    try:
        named = tomllib.loads(octets.removeprefix(codecs.BOM_UTF8).decode()).get("data")
    except ValueError:
        found = _DATA.search(octets)
        named = os.fsdecode(found[1] or found[2]) if found else None
    return path.absolute().parent / named if isinstance(named, str) and named else beside
