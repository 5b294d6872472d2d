"""Authentication-Results fields (RFC 8601): the server in whose name the results of checks are given.

A mail program believes such a field if it bears the name of its user's own server. So incoming messages lose those that
bear our names and that we did not write (RFC 8601 section 5).
"""

import re
from collections.abc import Collection, Iterator

from waypost.message.address import AddressError, domain_key
from waypost.message.headers import Field, HeaderBlock

_COMMENT_OR_SPACE = re.compile(rb"(?:[ \t]++|\((?:[^()\\]++|\\.)*+\))*+", re.DOTALL)
_IDENTIFIER = re.compile(rb'"((?:[^"\\]++|\\.)*+)"|([!#$%&\'*+.^_`{|}~0-9A-Za-z\x80-\xff-]++)', re.DOTALL)
_ESCAPED = re.compile(rb"\\(.)", re.DOTALL)


def results_in_the_name_of(headers: HeaderBlock, names: Collection[str]) -> Iterator[Field]:
    """Yield the Authentication-Results fields that name one of `names` (lower case), a host below one, or no server."""
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
