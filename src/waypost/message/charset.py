"""Octets in a named charset as text, whatever the name and the octets are, in time linear in their number."""

import codecs

# Names that Python knows and no message means: two whose time grows with the square of the length, and three that
# would read escapes of Python's own source text, or nothing at all.
_NO_CHARSETS = frozenset({"punycode", "idna", "unicode-escape", "raw-unicode-escape", "undefined"})


def is_charset(name: str) -> bool:
    """True for the name of a charset that `decode_charset` can read."""
    try:
        if codecs.lookup(name).name.replace("_", "-") in _NO_CHARSETS:
            return False
        b"a".decode(name, "replace")
    except (LookupError, ValueError):  # unknown, no text encoding at all, or a NUL in the name
        return False
    return True


def decode_charset(octets: bytes, charset: str) -> str:
    """Return text in a charset, with replacement characters where it is not well formed; UTF-8 for an unknown one."""
    try:
        return octets.decode(charset if is_charset(charset) else "utf-8", "replace")
    except ValueError:  # one that replaces nothing
        return octets.decode("utf-8", "replace")
