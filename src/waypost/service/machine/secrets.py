"""Secrets that files hold: read by the supervisor, which may be root, and handed to workers, which may not.

Nothing here shows a secret: not in an error, not in a representation.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from waypost.config.password_file import read_password
from waypost.config.settings import Settings
from waypost.service.machine.problems import SetupProblem
from waypost.service.sockets.tls import ServerTls, TlsProblem


@dataclass(frozen=True, slots=True)
class Secrets:
    """PEM octets of certificate and key, None without TLS, and of the second pair, None without one; the passwords of
    routes by their files; what logins of unknown users are answered from, alike in every worker; and the key of the
    memory of logins, which is in no file."""

    certificate: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    passwords: Mapping[Path, str] = field(default_factory=dict, repr=False)
    login: bytes | None = field(default=None, repr=False)
    login_memory: bytes | None = field(default=None, repr=False)
    second_certificate: bytes | None = None
    second_key: bytes | None = field(default=None, repr=False)

    def tls(self) -> ServerTls | None:
        """Return what the TLS listeners use. Raises `TlsProblem`."""
        if self.certificate is None or self.key is None:
            return None
        second = None
        if self.second_certificate is not None and self.second_key is not None:
            second = (self.second_certificate, self.second_key)
        return ServerTls.from_pem(self.certificate, self.key, second)


def read_secrets(settings: Settings) -> Secrets:
    """Read the files that the configuration names, and try the certificate. Raises `SetupProblem` with every fault.

    An expired certificate is not an error here: mail between servers goes on with it, and `waypost check` complains.
    """
    problems: list[str] = []
    pems: dict[str, bytes | None] = {}
    if settings.tls is not None:
        for name in ("certificate", "key", "second_certificate", "second_key"):
            path = getattr(settings.tls, name)
            pems[name] = _read(path, f"tls.{name}", problems) if path is not None else None
    passwords: dict[Path, str] = {}
    for route in settings.routes:
        if route.password_file is not None:
            try:
                passwords[route.password_file] = read_password(route.password_file)
            except OSError as error:
                problems.append(f"route.password_file: {route.password_file} can't be read: {error.strerror}")
            except ValueError as error:
                problems.append(f"route.password_file: {route.password_file} {error}")
    secrets = Secrets(passwords=passwords, **pems)
    _try(settings, secrets, problems)
    if problems:
        raise SetupProblem(*problems)
    return secrets


def _try(settings: Settings, secrets: Secrets, problems: list[str]) -> None:
    """Load each pair by itself, so that the problem names its file."""
    if settings.tls is None:
        return
    pairs = (
        ("tls.certificate", settings.tls.certificate, secrets.certificate, secrets.key),
        ("tls.second_certificate", settings.tls.second_certificate, secrets.second_certificate, secrets.second_key),
    )
    for name, path, certificate, key in pairs:
        if certificate is not None and key is not None:
            try:
                ServerTls.from_pem(certificate, key)
            except TlsProblem as problem:
                problems.append(f"{name}: {path}: {problem}")


def _read(path: Path, setting: str, problems: list[str]) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError as error:
        problems.append(f"{setting}: {path} can't be read: {error.strerror}")
        return None
