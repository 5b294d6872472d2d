"""Octets in a named charset as text, whatever the name and the octets are, in time linear in their number."""

import codecs
import importlib
import pkgutil
import sys

# Names that Python knows and no message means: two whose time grows with the square of the length, and three that
# would read escapes of Python's own source text, or nothing at all.
_NO_CHARSETS = frozenset({"punycode", "idna", "unicode-escape", "raw-unicode-escape", "undefined"})
# What mail calls by one name is often text of a larger charset (https://encoding.spec.whatwg.org/#names-and-labels has
# these pairs), and some names are not Python's.
_LARGER = {
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "big5": "big5hkscs",
    "iso2022_jp": "iso2022_jp_ext",
}
_OTHER_NAMES = {
    "unicode-1-1-utf-7": "utf-7",
    "unicode-1-1-utf-8": "utf-8",
    "utf8mb4": "utf-8",
    "iso-8859-8-i": "iso8859-8",
    "iso-8859-8-e": "iso8859-8",
    "iso-8859-6-i": "iso8859-6",
    "iso-8859-6-e": "iso8859-6",
    "windows-874": "cp874",
    "x-sjis": "cp932",
    "x-euc-jp": "euc_jp",
    "x-gbk": "gb18030",
    "gb_2312-80": "gb18030",
    "big5-eten": "big5hkscs",
    "ks_c_5601-1989": "cp949",
    "x-mac-cyrillic": "mac_cyrillic",
    "x-mac-roman": "mac_roman",
    "koi8-ru": "koi8_u",
    "ansi_x3.110-1983": "cp1252",
} | {f"latin{hyphen}{number}": f"latin{number}" for number in range(1, 11) for hyphen in "-_"}


def is_charset(name: str) -> bool:
    """True for the name of a charset that `decode_charset` can read."""
    return _codec(name) is not None


def decode_charset(octets: bytes, charset: str) -> str:
    """Return text in a charset, with replacement characters where it is not well formed; see `decode_undeclared` for a
    charset that is not known.
    """
    codec = _codec(charset)
    if codec is None or codec == "ascii":
        return decode_undeclared(octets)
    try:
        return octets.decode(codec, "replace")
    except ValueError:  # one that replaces nothing
        return decode_undeclared(octets)


def decode_undeclared(octets: bytes) -> str:
    """Return text of which nobody said its charset, or said ASCII: UTF-8, unless most of it can't be that.

    Then it is Windows-1252, which holds every letter of ISO-8859-1.
    """
    text = octets.decode("utf-8", "replace")
    wrong = text.count("\N{REPLACEMENT CHARACTER}")
    if wrong and 2 * wrong > len(text) - len(text.encode("ascii", "ignore")):
        return octets.decode("cp1252", "replace")
    return text


def load_charsets() -> None:
    """Read every codec from disk, for a process that will not be able to when a message names it."""
    package = importlib.import_module("encodings")
    for module in pkgutil.iter_modules(package.__path__, "encodings."):
        if sys.platform == "win32" or module.name not in ("encodings.mbcs", "encodings.oem"):
            importlib.import_module(module.name)


def _codec(name: str) -> str | None:
    """Return the codec in which text of that charset is read; None when there is none."""
    name = _OTHER_NAMES.get(name.lower(), name)
    try:
        codec = codecs.lookup(name).name
        if codec.replace("_", "-") in _NO_CHARSETS:
            return None
        b"a".decode(codec, "replace")
    except (LookupError, ValueError):  # unknown, no text encoding at all, or a NUL in the name
        return None
    return _LARGER.get(codec, codec)
