"""Addresses of RFC 5321 section 4.1.2 and RFC 6531 section 3.3: the grammar of MAIL and RCPT.

Only the forms of an envelope are accepted: no comments, no folding, no obsolete forms. A few forms outside the grammar
are accepted too, because real mailboxes have them and every peer accepts them: dots anywhere in a local part, an
underscore in a domain, one dot after a domain (which is dropped), and a path without its brackets
(docs/decisions/0030). Domains are compared by `domain_key`: lower case A-labels without a trailing dot.
"""

import ipaddress
import re
from functools import lru_cache

import idna
import msgspec

MAX_DOMAIN = 255  # octets, RFC 5321 4.5.3.1.2
MAX_PATH = 256  # octets with its brackets, RFC 5321 4.5.3.1.3

_ATEXT = r"A-Za-z0-9!#$%&'*+/=?^_`{|}~\-"
# UTF8-non-ascii of RFC 6531 3.3, without the characters that steer a terminal or turn text around: the C1 controls,
# the separators of lines and paragraphs, and the controls of direction. Surrogates are not characters.
_UTF8 = r"\u00a0-\u2027\u202f-\u2065\u206a-\ud7ff\ue000-\U0010ffff"
_DOT_STRING = re.compile(rf"[{_ATEXT}{_UTF8}]+(?:\.[{_ATEXT}{_UTF8}]+)*\Z")
_STRAY_DOTS = re.compile(rf"[{_ATEXT}{_UTF8}.]*[{_ATEXT}{_UTF8}][{_ATEXT}{_UTF8}.]*\Z")
_DOTS = (".", "\u3002", "\uff0e", "\uff61")  # the characters that IDNA reads as a dot (UTS 46)
_QUOTED_STRING = re.compile(rf'"((?:[ !#-\[\]-~{_UTF8}]|\\[ -~])*)"')
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?\Z")
_BARE_PATH = re.compile(r'(?:"(?:[^"\\]|\\.)*")?[^\s<>"]+(?=\s|\Z)')
_SOURCE_ROUTE = re.compile(r"@[^@:,<>\s]+(?:,@[^@:,<>\s]+)*:")


class AddressError(ValueError):
    """The text is not an address; the message says in plain words what is wrong with it."""


class Address(msgspec.Struct, frozen=True):
    """A mailbox of an envelope. `local` is the unquoted local part, `domain` as its owner wrote it.

    `domain` is a domain name (A-labels or U-labels), an address literal with its brackets, or empty for the
    `<postmaster>` of RFC 5321 4.1.1.3. `quoted` is True for a local part that was written in quotes because of dots in
    places where the grammar allows no dot: it keeps its quotes when the message goes on.
    """

    local: str
    domain: str
    quoted: bool = False

    @staticmethod
    def parse(text: str, *, utf8: bool = True) -> "Address":
        """Read `local@domain`. `utf8` admits the characters of RFC 6531. Raises `AddressError`."""
        return _parse(text, utf8)

    @staticmethod
    def of_key(key: str) -> "Address":
        """Return the address of a `key`, in which no local part is quoted."""
        local, _, domain = key.rpartition("@")
        return Address(local, domain)

    def __str__(self) -> str:
        """Return the form for the wire: the local part is quoted where it must be."""
        local = self.local
        if not _DOT_STRING.match(local) and (self.quoted or not _STRAY_DOTS.match(local)):
            local = '"' + local.replace("\\", "\\\\").replace('"', '\\"') + '"'
        return f"{local}@{self.domain}" if self.domain else local

    def at(self, domain: str) -> "Address":
        """Return the same local part at another domain, or at the same one in another form."""
        return Address(self.local, domain, self.quoted)

    @property
    def has_stray_dots(self) -> bool:
        """True when a dot of the local part stands at its beginning, its end or beside another."""
        return has_stray_dots(self.local)

    @property
    def domain_key(self) -> str:
        """The domain in the form in which domains are compared."""
        return domain_key(self.domain)

    @property
    def key(self) -> str:
        """The address in the form in which our own addresses are compared: lower case, A-labels."""
        return f"{self.local.lower()}@{domain_key(self.domain)}"

    @property
    def is_ascii(self) -> bool:
        """False when only SMTPUTF8 can carry the address as it is written."""
        return self.local.isascii() and self.domain.isascii()


@lru_cache(maxsize=4096)
def _parse(text: str, utf8: bool) -> Address:
    if not utf8 and not text.isascii():
        raise AddressError("the address has characters outside ASCII, which need SMTPUTF8")
    local, rest = _split_local(text)
    if not rest.startswith("@"):
        raise AddressError("there is no @ with a domain; write for example alice@example.org")
    domain = rest[1:]
    if domain.endswith(_DOTS):
        domain = domain[:-1]
    if not local and not text.startswith('"'):
        raise AddressError("there is nothing before the @")
    check_domain(domain)
    if len(text.encode(errors="surrogatepass")) > MAX_PATH - 2:
        raise AddressError(f"the address is longer than {MAX_PATH - 2} octets")
    return Address(local, domain, text.startswith('"') and has_stray_dots(local))


def has_stray_dots(local: str) -> bool:
    """True for a local part whose only fault is a dot at its beginning, at its end or beside another dot."""
    return ("." in local) and not _DOT_STRING.match(local) and bool(_STRAY_DOTS.match(local))


def _split_local(text: str) -> tuple[str, str]:
    """Return the unquoted local part, and the rest from the @ on."""
    if text.startswith('"'):
        quoted = _QUOTED_STRING.match(text)
        if quoted is None:
            raise AddressError("the quoted part before the @ is not well formed")
        local = re.sub(r"\\(.)", r"\1", quoted.group(1))
        return local, text[quoted.end() :]
    local, at, domain = text.partition("@")
    if local and not _STRAY_DOTS.match(local):
        raise AddressError("the part before the @ has a character that is not allowed, or a dot in a wrong place")
    return local, at + domain


def check_domain(domain: str) -> None:
    """Check a domain name or address literal of RFC 5321 4.1.2 and 4.1.3. Raises `AddressError`."""
    if domain.startswith("["):
        literal_address(domain)
        return
    if len(domain.encode(errors="surrogatepass")) > MAX_DOMAIN:
        raise AddressError(f"the domain is longer than {MAX_DOMAIN} octets")
    if not domain:
        raise AddressError("there is nothing after the @")
    if domain.endswith("."):
        raise AddressError("the domain ends with a dot")
    for label in _a_labels(domain).split("."):
        if not label:
            raise AddressError("the domain has an empty label")
        if len(label) > 63:
            raise AddressError("a label of the domain is longer than 63 octets")
        if not _LABEL.match(label):
            raise AddressError(f"{label!r} is not a label of a domain name")


def literal_address(domain: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return the IP address of `[192.0.2.1]` or `[IPv6:2001:db8::1]` (RFC 5321 4.1.3).

    Raises `AddressError` for anything else: no other literal tag was ever standardised.
    """
    if not domain.endswith("]"):
        raise AddressError("the address literal does not end with ]")
    inner = domain[1:-1]
    try:
        if inner[:5].upper() == "IPV6:":
            if "%" in inner:
                raise AddressError("an address literal has no zone")
            _check_ipv6_groups(inner[5:])
            return ipaddress.IPv6Address(inner[5:])
        if re.fullmatch(r"\d{1,3}(?:\.\d{1,3}){3}", inner):
            return ipaddress.IPv4Address(inner)
    except ValueError as error:
        raise AddressError(f"{domain[:60]!r} is not an address literal: {str(error)[:100]}") from None
    raise AddressError(f"{domain[:60]!r} is not an address literal: write [192.0.2.1] or [IPv6:2001:db8::1]")


def _check_ipv6_groups(text: str) -> None:
    # RFC 5321 4.1.3 (IPv6-comp): "::" stands for at least two groups; Python does not check that.
    if "::" not in text:
        return
    present = sum(2 if "." in group else 1 for group in text.replace("::", ":").split(":") if group)
    if present > 6:
        raise AddressError(f"{text[:60]!r}: '::' stands for at least two groups")


@lru_cache(maxsize=4096)
def domain_key(domain: str) -> str:
    """Return a domain in the form in which domains are compared: lower-case A-labels, no trailing dot.

    Address literals and "" are returned in lower case. Raises `AddressError` for what can't be a domain.
    """
    if not domain or domain.startswith("["):
        return domain.lower()
    return _a_labels(domain.rstrip(".")).lower()


def _a_labels(domain: str) -> str:
    if domain.isascii():
        return domain
    try:
        return idna.encode(domain, uts46=True, transitional=False).decode()
    except (idna.IDNAError, UnicodeError) as error:
        raise AddressError(f"{domain!r} is not a domain name: {error}") from None


def parse_path(text: str, *, utf8: bool) -> tuple[Address | None, int]:
    """Read the path at the beginning of `text`: `<>`, `<a@b>`, or with a source route `<@x,@y:a@b>`.

    Returns the address (None for the null path; domain "" for `<postmaster>`) and where the path ends. A
    source route is accepted and forgotten (RFC 5321 appendix C). Missing brackets are forgiven around an address with a
    domain, and around `postmaster`. Raises `AddressError`.
    """
    if not text.startswith("<"):
        return _without_brackets(text, utf8)
    end = _end_of_path(text)
    inner = text[1:end]
    if len(inner.encode(errors="surrogatepass")) + 2 > 2 * MAX_PATH:
        raise AddressError("the path is too long")
    if not inner:
        return None, end + 1
    if inner.startswith("@"):
        route = _SOURCE_ROUTE.match(inner)
        if route is None:
            raise AddressError("the source route is not well formed")
        for hop in route.group(0)[:-1].split(","):
            check_domain(hop[1:])
        inner = inner[route.end() :]
    if inner.lower() == "postmaster":
        return Address(inner, ""), end + 1
    return Address.parse(inner, utf8=utf8), end + 1


def _without_brackets(text: str, utf8: bool) -> tuple[Address | None, int]:
    bare = _BARE_PATH.match(text)
    if bare is not None and bare[0].lower() == "postmaster":
        return Address(bare[0], ""), bare.end()
    if bare is None or "@" not in bare[0]:
        raise AddressError("an address stands in angle brackets: <local@domain>")
    return Address.parse(bare[0], utf8=utf8), bare.end()


def _end_of_path(text: str) -> int:
    quoted = False
    skip = False
    for position, character in enumerate(text):
        if skip:
            skip = False
        elif quoted and character == "\\":
            skip = True
        elif character == '"':
            quoted = not quoted
        elif character == ">" and not quoted:
            return position
    raise AddressError("the closing > is missing")
