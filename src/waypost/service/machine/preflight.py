"""What the configuration names outside itself: certificates, passwords, users, addresses; looked at before a start.

`waypost check` tells all of it. It needs the rights of who starts the service: private keys are for few eyes.
"""

import pwd
import socket
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from waypost.config.errors import KeyPath
from waypost.config.load import Document
from waypost.config.password_file import read_password
from waypost.config.settings import IpAddress, Outbound, Settings
from waypost.disk.files import exists
from waypost.service.machine.certificates import CertificateProblem, Pair, load_pair
from waypost.service.machine.trusted_networks import dangerous_networks

_EXPIRES_SOON = timedelta(days=14)
_FOR_OTHERS = 0o004


@dataclass(frozen=True, slots=True)
class Preflight:
    """What was found: the certificate, if there is one, and notes about what works but may not be meant."""

    certificate: Pair | None
    notes: tuple[str, ...]


def preflight(document: Document, now: datetime) -> Preflight:
    """Look at everything that a configuration names. Raises `ConfigErrors` with all that can't work."""
    pair = _certificate(document, now, "")
    second = _certificate(document, now, "second_")
    _passwords(document)
    _machine(document)
    _trusted(document)
    if document.complaints:
        raise document.complaints.errors()
    return Preflight(pair, tuple(_notes(document.settings, pair, second, now)))


def _certificate(document: Document, now: datetime, which: str) -> Pair | None:
    """Return what the certificate of a pair of settings says; `which` is the prefix of their names."""
    tls = document.settings.tls
    certificate: Path | None = getattr(tls, which + "certificate", None)
    key: Path | None = getattr(tls, which + "key", None)
    if certificate is None or key is None:
        return None
    try:
        return load_pair(certificate, key, now)
    except CertificateProblem as problem:
        _about_file(
            document,
            ("tls", which + problem.setting),
            certificate if problem.setting == "certificate" else key,
            str(problem),
        )
        return None


def _passwords(document: Document) -> None:
    for index, route in enumerate(document.settings.routes):
        if route.password_file is None:
            continue
        try:
            read_password(route.password_file)
        except OSError as error:
            words = f"can't be read: {error.strerror}"
        except ValueError as error:
            words = str(error)
        else:
            continue
        _about_file(document, ("route", index, "password_file"), route.password_file, words)


def _trusted(document: Document) -> None:
    settings = document.settings
    for table, index, words in dangerous_networks(settings):
        network = str(settings.trusted_networks[table].networks[index])
        document.complaints.about_value(("trusted_network", table, "networks", index), network, words)


def _machine(document: Document) -> None:
    settings = document.settings
    try:
        # `exists` and `is_dir` of Python 3.14 take every error for "no".
        if not stat.S_ISDIR(settings.data.stat().st_mode):
            _about_file(document, ("data",), settings.data, "is not a directory; write the path of one")
    except FileNotFoundError:
        pass  # it is made
    except OSError as error:
        _about_file(document, ("data",), settings.data, f"can't be reached: {error.strerror}")
    user = settings.service.user
    if user is not None:
        try:
            pwd.getpwnam(user)
        except KeyError:
            document.complaints.about_value(
                ("service", "user"), user, f"there is no such user; make it (useradd --system {user}), or write another"
            )


def _about_file(document: Document, key: KeyPath, path: Path, words: str) -> None:
    """Complain about a path as it is written, and say which file that is."""
    folder = document.settings.path.parent
    written = path.relative_to(folder) if path.is_relative_to(folder) else path
    document.complaints.about_value(key, str(written), f"{path} {words}")


def _notes(settings: Settings, pair: Pair | None, second: Pair | None, now: datetime) -> Iterator[str]:
    if pair is not None:
        if not pair.covers(settings.hostname):
            yield f"the certificate is not for {settings.hostname}: mail programs will warn their users"
        if pair.self_signed:
            yield "the certificate is self-signed: enough for other servers, but mail programs will warn their users"
        yield from _expiry("the certificate", pair, now)
        if second is not None:
            yield from _expiry("the second certificate", second, now)
        if not pair.rsa and second is None:
            yield "mail servers that know RSA only get no TLS here: add tls.second_certificate with an RSA key"
        yield from _readable_keys(settings)
    if not exists(settings.data):
        yield f"{settings.data} does not exist yet: the service will begin with an empty one"
    for route in settings.routes:
        if route.password_file is not None and route.password_file.stat().st_mode & _FOR_OTHERS:
            yield f"{route.password_file} can be read by every user of this machine: chmod 600"
    for trusted in settings.trusted_networks:
        networks, senders = (", ".join(map(str, values)) for values in (trusted.networks, trusted.senders))
        yield f"devices in {networks} send without a login as {senders} (trusted_network)"
    yield from _sources(settings.outbound)


def _sources(outbound: Outbound) -> Iterator[str]:
    sources, key = outbound.egress, "outbound.source"
    if outbound.source_addresses:
        key = "outbound.source_addresses"
        yield f"{key} is the form of version 0.1.0: a table [[outbound.source]] for each address says more"
    for source in sources:
        if not _is_ours(source.address):
            yield f"{source.address} ({key}) is no address of this machine now"
        if not source.warm:
            yield f"{source.address} ({key}) is not warm, and sends as much as the others: there is no warm-up yet"
    families = {source.address.version for source in sources}
    for version in {4, 6} - families if families else ():
        yield f"no source ({key}) has an IPv{version} address: servers that have no other can't be reached"


def _expiry(which: str, pair: Pair, now: datetime) -> Iterator[str]:
    if now >= pair.not_after:
        yield f"{which} EXPIRED on {pair.not_after:%Y-%m-%d}: mail programs refuse it; renew it"
    elif pair.not_after - now < _EXPIRES_SOON:
        yield f"{which} expires soon, on {pair.not_after:%Y-%m-%d}"


def _readable_keys(settings: Settings) -> Iterator[str]:
    keys = (settings.tls.key, settings.tls.second_key) if settings.tls is not None else ()
    for key in keys:
        if key is not None and key.stat().st_mode & _FOR_OTHERS:
            yield f"{key} is a private key that others on this machine can read: chmod 600 {key}"


def _is_ours(address: IpAddress) -> bool:
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True
