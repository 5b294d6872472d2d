"""The files of a new host: `waypost.toml`, the data directory, and two self-signed certificates."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from waypost.disk.files import exists, is_folder

PAIRS = (("", False), ("rsa-", True))
"""The prefix of the files' names, and True for an RSA key; otherwise the key is ECDSA."""


@dataclass(frozen=True, slots=True)
class Made:
    """The result for one pair of certificate and key: made, kept, or replaced with the old one set aside."""

    certificate: Path
    how: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class WrittenFiles:
    """The result for the files: the copy of a replaced configuration, whether the data directory existed already, and
    the pairs."""

    set_aside: Path | None
    kept_data: bool
    pairs: Sequence[Made]


def write_files(directory: Path, hostname: str, domains: Sequence[str]) -> WrittenFiles:
    """Write all files of a new host under a directory. Existing certificates stay unless `init` made them for another
    name; a replaced configuration is kept beside the new one. Raises `OSError`."""
    from waypost.disk.folders import make_folder

    kept_data = is_folder(directory / "data")
    _make_way(directory)
    make_folder(directory / "data")
    pairs = [_pair(directory / "tls", name, hostname, domains, rsa=rsa) for name, rsa in PAIRS]
    config = directory / "waypost.toml"
    set_aside = _copy_aside(config) if exists(config) else None
    write_configuration(config, hostname, domains)
    return WrittenFiles(set_aside, kept_data, pairs)


def _copy_aside(config: Path) -> Path:
    """Copy the configuration into a file of the same mode; the original stays in its place until it is replaced."""
    aside = config.with_name(config.name + ".old")
    if exists(aside) or aside.is_symlink():
        aside.unlink()
    shutil.copy2(config, aside)
    return aside


def write_configuration(config: Path, hostname: str, domains: Sequence[str]) -> None:
    """Write the configuration, whole or not at all. Raises `OSError`."""
    from waypost.config.template import configuration

    fresh = config.with_name(config.name + ".new")
    fresh.unlink(missing_ok=True)
    write_new(fresh, configuration(hostname=hostname, domains=tuple(domains)).encode(), 0o666)
    fresh.replace(config)


def write_new(path: Path, octets: bytes, mode: int) -> None:
    """Write a file that must not exist, whole or not at all. Raises `OSError` that names the file."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(octets)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:  # a full disk: errors of write(2) name no file
        path.unlink()
        raise OSError(error.errno, error.strerror, str(path)) from None


def _make_way(directory: Path) -> None:
    """Make a folder, and all missing folders above it. The workers may enter them, under any umask."""
    from waypost.disk.folders import sync_folder

    for folder in reversed([each for each in (directory, *directory.parents) if not is_folder(each)]):
        folder.mkdir()
        folder.chmod(0o755)
        sync_folder(folder.parent)


def _pair(folder: Path, name: str, hostname: str, domains: Sequence[str], *, rsa: bool) -> Made:
    certificate, key = folder / f"{name}cert.pem", folder / f"{name}key.pem"
    names = list(dict.fromkeys((hostname, *domains)))
    if exists(certificate) or exists(key):
        stale = _stale(certificate, key, hostname)
        if stale is None:
            return Made(certificate, "Kept")
        if stale == "":
            _set_aside(certificate, key)
            _make(certificate, key, names, rsa=rsa)
            return Made(certificate, "Made", f"the one for another host is kept as {certificate.name}.old")
        return Made(certificate, "Kept", stale)
    folder.mkdir(exist_ok=True)
    _make(certificate, key, names, rsa=rsa)
    return Made(certificate, "Made")


def _stale(certificate: Path, key: Path, hostname: str) -> str | None:
    """Return what is wrong with a pair: None when it is right, "" when `init` made it for another host."""
    from waypost.service.machine.certificates import CertificateProblem, load_pair

    try:
        pair = load_pair(certificate, key, datetime.now(UTC))
    except CertificateProblem as problem:
        return f"{key if problem.setting == 'key' else certificate} {problem}"
    if pair.covers(hostname):
        return None
    return "" if pair.self_signed else f"it is not for {hostname}: replace it"


def _set_aside(*paths: Path) -> None:
    for path in paths:
        path.replace(path.with_name(path.name + ".old"))


def _make(certificate: Path, key: Path, names: Sequence[str], *, rsa: bool) -> None:
    from waypost.service.machine.certificates import self_signed

    public, private = self_signed(names, datetime.now(UTC), rsa=rsa)
    fresh = [(key, private, 0o600), (certificate, public, 0o666)]
    try:
        for path, octets, mode in fresh:
            beside = path.with_name(path.name + ".new")
            beside.unlink(missing_ok=True)
            write_new(beside, octets, mode)
    except OSError:  # the next try would keep half a pair as the operator's own
        key.with_name(key.name + ".new").unlink(missing_ok=True)
        raise
    for path, _, _ in fresh:
        path.with_name(path.name + ".new").replace(path)
