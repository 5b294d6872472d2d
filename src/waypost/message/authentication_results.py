"""Authentication-Results fields (RFC 8601): in whose name the results of checks are told.

Whoever reads them believes them where they bear the name of his own server. So the ways in take those away that say so
and were not written here (RFC 8601 section 5).
"""

import re
from collections.abc import Collection, Iterator

from waypost.message.address import AddressError, domain_key
from waypost.message.headers import Field, HeaderBlock

_COMMENT_OR_SPACE = re.compile(rb"(?:[ \t]++|\((?:[^()\\]++|\\.)*+\))*+", re.DOTALL)
_IDENTIFIER = re.compile(rb'"((?:[^"\\]++|\\.)*+)"|([!#$%&\'*+.^_`{|}~0-9A-Za-z\x80-\xff-]++)', re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def results_in_the_name_of(headers: HeaderBlock, names: Collection[str]) -> Iterator[Field]:
    """Yield the Authentication-Results of `names` (in lower case), of hosts below them, or of nobody."""
    for field in headers.fields:
        if field.name == b"authentication-results" and _is_one_of(_server_of(headers.value(field)), names):
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


def _is_one_of(server: str, names: Collection[str]) -> bool:
    return not server or any(server == name or server.endswith("." + name) for name in names)
