"""Writes header fields folded and in ASCII, for any text (RFC 5322 2.2.3, RFC 2047).

Python's own writer loses spaces where encoded words meet plain ones, and quotes where names are folded; but a
person's text must arrive as it was typed.
"""

import re
from collections.abc import Sequence

from waypost.client.people import Person
from waypost.message.encoded_words import encoded_words, fold

_MAX_PLAIN = 900  # octets of one word that can't be folded; the limit of a line is 998
_MAX_QUOTED = 70

_PLAIN = re.compile(r"[!-~]+(?: [!-~]+)*\Z")
_PHRASE = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*\Z")
_QUOTABLE = re.compile(r"[ -~]+\Z")


def text_field(name: str, text: str) -> bytes:
    """Return the field for free text, such as the subject. Raises `ValueError` for a line break in it."""
    if any(character in text for character in "\r\n\0"):
        raise ValueError(f"{name}: a header field must not hold a line break or a NUL")
    if _PLAIN.match(text) and "=?" not in text and max(map(len, text.split(" "))) <= _MAX_PLAIN:
        return fold(name, text.split(" "))
    return fold(name, encoded_words(text, len(name) + 2))


def people_field(name: str, people: Sequence[Person]) -> bytes:
    """Return the field for a list of people, such as To."""
    tokens: list[str] = []
    for person in people:
        tokens.extend(_phrase(person.name, 1 if tokens else len(name) + 2))
        tokens.append((f"<{person.written}>" if person.name else person.written) + ",")
    tokens[-1] = tokens[-1].removesuffix(",")
    return fold(name, tokens)


def _phrase(name: str, indent: int) -> list[str]:
    """The name before an address: atoms, a quoted string, or encoded words."""
    if not name:
        return []
    if "=?" not in name:
        if _PHRASE.match(name) and max(map(len, name.split(" "))) <= _MAX_QUOTED:
            return name.split(" ")
        if _QUOTABLE.match(name) and len(name) <= _MAX_QUOTED:
            return ['"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"']
    return encoded_words(name, indent)
