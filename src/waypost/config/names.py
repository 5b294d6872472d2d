"""Checks domain names, host names and mail addresses in settings, and converts them to the form that is compared.

That form is lower case with A-labels (RFC 5890), so that `BÜCHER.example` and `xn--bcher-kva.example` are equal.
"""

import re

import idna

from waypost.config.network import parse_ip

_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\Z")
# A local part that `message/address.py` reads without quotes: dots anywhere, but no characters that steer a terminal
# or turn text around.
_ATEXT = r"a-z0-9!#$%&'*+/=?^_`{|}~\-\u00a0-\u2027\u202f-\u2065\u206a-\U0010ffff"
_LOCAL_PART = re.compile(rf"[{_ATEXT}.]*[{_ATEXT}][{_ATEXT}.]*\Z")
_MAX_DOMAIN = 253  # characters, RFC 1035 2.3.4
_MAX_LABEL = 63
_MAX_ADDRESS = 254  # octets: a path of RFC 5321 4.5.3.1.3 without its brackets


def parse_domain(text: str) -> str:
    """Return a domain name as lower-case A-labels. Raises `ValueError` that says what is wrong, with a correct form."""
    try:
        return _domain(text)
    except ValueError as error:
        raise ValueError(f'not a domain name ({error}); write for example "example.org"') from None


def parse_host_name(text: str) -> str:
    """Return the full name of a host. Raises `ValueError` as `parse_domain` does."""
    try:
        name = _domain(text)
    except ValueError as error:
        raise ValueError(f'not a host name ({error}); write for example "mx.example.org"') from None
    if "." not in name:
        raise ValueError('not a full host name; write it with its domain, for example "mx.example.org"')
    return name


def parse_domain_pattern(text: str) -> str:
    """Return `*`, a domain name, or `.example.org`. Raises `ValueError` as `parse_domain` does."""
    if text == "*":
        return text
    try:
        return "." + _domain(text[1:]) if text.startswith(".") else _domain(text)
    except ValueError as error:
        raise ValueError(
            f'not a domain name ({error}); write for example "example.org", ".example.org" or "*"'
        ) from None


def parse_next_hop(text: str) -> str:
    """Return a host name, or an IP address in brackets. Raises `ValueError` as `parse_domain` does."""
    if text.startswith("[") and text.endswith("]"):
        return f"[{parse_ip(text[1:-1].removeprefix('IPv6:'))}]"
    try:
        return _domain(text)
    except ValueError as error:
        raise ValueError(
            f'not a host ({error}); write a name, for example "relay.example.net", or an IP address in brackets, '
            'for example "[192.0.2.1]"'
        ) from None


def parse_mail_address(text: str) -> str:
    """Return an address in lower case, its domain in A-labels. Raises `ValueError` as `parse_domain` does."""
    local, at, domain = text.rpartition("@")
    local = local.lower()
    try:
        if not at:
            raise ValueError("there is no @")
        if not _LOCAL_PART.match(local):
            raise ValueError("an account can't have the name before its @")
        address = f"{local}@{_domain(domain)}"
        if len(address.encode()) > _MAX_ADDRESS:
            raise ValueError(f"it is longer than {_MAX_ADDRESS} octets")
        return address
    except ValueError as error:
        raise ValueError(f'not a mail address ({error}); write for example "alice@example.org"') from None


def parse_sender(text: str) -> str:
    """Return an address, or `@example.org` for all of a domain. Raises `ValueError` as `parse_domain` does."""
    try:
        return "@" + parse_domain(text[1:]) if text.startswith("@") else parse_mail_address(text)
    except ValueError:
        raise ValueError('not a sender; write for example "sales@example.org", or "@example.org" for all') from None


def _domain(text: str) -> str:
    """Return lower-case A-labels; the message of the `ValueError` says only what is wrong."""
    if not text:
        raise ValueError("it is empty")
    # A-labels are never shorter than the text, so a text that is too long need not be encoded.
    name = text if len(text) > _MAX_DOMAIN else _a_labels(text)
    if len(name) > _MAX_DOMAIN:
        raise ValueError(f"it is longer than {_MAX_DOMAIN} characters")
    labels = name.split(".")
    for label in labels:
        if not label:
            raise ValueError(_where_the_dot_is(name))
        if len(label) > _MAX_LABEL:
            raise ValueError(f"a label is longer than {_MAX_LABEL} characters")
        if not _LABEL.match(label):
            raise ValueError(_what_can_not_stand(label))
    if labels[-1].isdigit():
        raise ValueError("its last label is a number")
    return name


def _where_the_dot_is(name: str) -> str:
    """Return words that say which dot of a name has no label on one side."""
    if name.endswith("."):
        return "it ends with a dot"
    return "it begins with a dot" if name.startswith(".") else "two of its dots have nothing between them"


def _what_can_not_stand(label: str) -> str:
    """Return words that say why a label is wrong: its first illegal character, or a hyphen at one end."""
    wrong = next((each for each in label if each != "-" and not (each.isascii() and each.isalnum())), None)
    return "a label begins or ends with a hyphen" if wrong is None else f"{wrong!a} can't stand in it"


def _a_labels(text: str) -> str:
    if text.isascii():
        return text.lower()
    try:
        return idna.encode(text, uts46=True, transitional=False).decode().lower()
    except (idna.IDNAError, UnicodeError):
        raise ValueError(_why_not_unicode(text)) from None


def _why_not_unicode(text: str) -> str:
    if any(not label for label in text.split(".")):
        return _where_the_dot_is(text)
    return "a label has a character that can't stand there"
