"""Decodes octets in a named charset; any name and any octets are accepted, in time linear in the octets."""

import codecs
import importlib
import pkgutil
import sys

# Codecs of Python that no message means: two take time quadratic in the length, two read the escapes of Python's source
# text, and one decodes nothing at all.
_NO_CHARSETS = frozenset({"punycode", "idna", "unicode-escape", "raw-unicode-escape", "undefined"})
# Mail often names a charset and uses a larger one (https://encoding.spec.whatwg.org/#names-and-labels has these pairs).
# Some names of charsets in mail are not Python's.
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
    except ValueError:  # a codec that does not support replacement
        return decode_undeclared(octets)


def decode_undeclared(octets: bytes) -> str:
    """Return text whose charset was not declared, or was declared as ASCII: as UTF-8, unless most of it can't be UTF-8.

    Then it is read as Windows-1252, which holds every letter of ISO-8859-1.
    """
    text = octets.decode("utf-8", "replace")
    wrong = text.count("\N{REPLACEMENT CHARACTER}")
    if wrong and 2 * wrong > len(text) - len(text.encode("ascii", "ignore")):
        return octets.decode("cp1252", "replace")
    return text


def load_charsets() -> None:
    """Load every codec from disk: a confined process can't do it later, when a message names one."""
    package = importlib.import_module("encodings")
    for module in pkgutil.iter_modules(package.__path__, "encodings."):
        if sys.platform == "win32" or module.name not in ("encodings.mbcs", "encodings.oem"):
            importlib.import_module(module.name)


def _codec(name: str) -> str | None:
    """Return the name of the codec for a charset; None when no codec is known for it."""
    name = _OTHER_NAMES.get(name.lower(), name)
    try:
        codec = codecs.lookup(name).name
        if codec.replace("_", "-") in _NO_CHARSETS:
            return None
        b"a".decode(codec, "replace")
    except (LookupError, ValueError):  # unknown, no text encoding at all, or a NUL in the name
        return None
    return _LARGER.get(codec, codec)
