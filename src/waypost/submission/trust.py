"""What a submission may not say of itself: results of checks that only a receiver makes (RFC 8601, RFC 7208).

Whoever reads them later believes them where they bear our name, so they end here (RFC 8601 section 5).
"""

import re
from collections.abc import Collection, Iterator

from waypost.message.address import AddressError, domain_key
from waypost.message.headers import Field, HeaderBlock

_COMMENT_OR_SPACE = re.compile(rb"(?:[ \t]++|\((?:[^()\\]++|\\.)*+\))*+", re.DOTALL)
_IDENTIFIER = re.compile(rb'"((?:[^"\\]++|\\.)*+)"|([!#$%&\'*+.^_`{|}~0-9A-Za-z\x80-\xff-]++)', re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def forged_results(headers: HeaderBlock, names: Collection[str]) -> Iterator[Field]:
    """Yield every Received-SPF, and the Authentication-Results of `names`, of hosts below them, or of nobody.

    Results of others stay: whoever resends a message has a use for them, and nobody believes them for our word.
    """
    for field in headers.fields:
        ours = field.name == b"authentication-results" and _is_ours(_server_of(headers.value(field)), names)
        if ours or field.name == b"received-spf":
            yield field


def _server_of(value: bytes) -> str:
    """Return the authserv-id of RFC 8601 section 2.2, in lower case; "" where it can't be read."""
    space = _COMMENT_OR_SPACE.match(value)
    match = _IDENTIFIER.match(value, space.end() if space else 0)
    if match is None:
        return ""
    said = match[2] if match[1] is None else _ESCAPED.sub(rb"\1", match[1])
    text = said.decode("utf-8", "replace").strip()
    try:
        return domain_key(text)
    except AddressError:
        return text.lower()


def _is_ours(server: str, names: Collection[str]) -> bool:
    return not server or any(server == name or server.endswith("." + name) for name in names)
