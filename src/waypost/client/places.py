"""The servers that a mail program connects to, as URLs: `submissions://alice%40example.org@mail.example.org:465`."""

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum, auto
from urllib.parse import unquote, urlsplit

from waypost.client.errors import ClientError
from waypost.message.address import AddressError, domain_key


class Security(Enum):
    """When TLS begins."""

    NONE = auto()
    STARTTLS = auto()  # after the server's 220 or +OK; no mail or password is sent without TLS
    IMPLICIT = auto()  # from the first octet (RFC 8314 section 3)


@dataclass(frozen=True, slots=True)
class ServerPlace:
    """A server, and the user to log in. `host` is a name in A-labels or an IP address without brackets."""

    scheme: str
    host: str
    port: int
    security: Security
    user: str | None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


_SCHEMES = {
    "submission": (587, Security.STARTTLS),
    "submissions": (465, Security.IMPLICIT),
    "smtp": (25, Security.NONE),
    "pop3": (110, Security.STARTTLS),
    "pop3s": (995, Security.IMPLICIT),
}
SUBMISSION = ("submissions", "submission", "smtp")
"""The schemes by which mail is sent."""
POP3 = ("pop3s", "pop3")
"""The schemes by which mail is fetched."""


_OTHER_BEGINNING = {
    "submissions": "submission",
    "submission": "submissions",
    "smtp": "submissions",
    "pop3s": "pop3",
    "pop3": "pop3s",
}


def other_scheme(place: ServerPlace) -> str:
    """Return a hint in words: the scheme to write if TLS begins in the other way on this port."""
    scheme = _OTHER_BEGINNING[place.scheme]
    port, security = _SCHEMES[scheme]
    begins = "TLS from the first octet" if security is Security.IMPLICIT else "plain text and STARTTLS"
    if place.scheme.startswith("pop3") and security is not Security.IMPLICIT:
        begins = "plain text and STLS"
    return f"if this port begins with {begins} (usually {port}), write {scheme}://"


def parse_place(url: str, schemes: Collection[str]) -> ServerPlace:
    """Read a URL of one of `schemes`. Raises `ClientError`."""
    example = f"write for example {next(iter(schemes))}://alice%40example.org@mail.example.org"
    try:
        parts = urlsplit(url)
        port = parts.port
        host = parts.hostname or ""
        host = host if ":" in host else domain_key(host)
    except (ValueError, AddressError) as error:
        raise ClientError(f"{_without_password(url)}: {error}; {example}") from None
    if parts.scheme not in schemes:
        raise ClientError(f"{_without_password(url)}: it must begin with one of {', '.join(schemes)}; {example}")
    if not host or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise ClientError(f"{_without_password(url)}: it must name a server and nothing more; {example}")
    if parts.password is not None:
        raise ClientError("a password does not belong in a URL, where others can see it: set $WAYPOST_PASSWORD")
    usual_port, security = _SCHEMES[parts.scheme]
    user = unquote(parts.username) if parts.username else None
    if user is not None and parts.scheme == "smtp":
        raise ClientError("smtp:// has no login: use submissions:// or submission://")
    return ServerPlace(parts.scheme, host, port or usual_port, security, user)


def _without_password(url: str) -> str:
    """Return the URL without its password, so that it may be shown."""
    before, at, after = url.rpartition("@")
    scheme, slashes, login = before.partition("://")
    return f"{scheme}{slashes}{login.partition(':')[0]}{at}{after}" if at else url
