"""Domain names as octets and as text (RFC 1035 sections 3.1 and 5.1).

A `Name` has wire form: labels with their lengths, the empty label last, in lower case, without compression. Two names
are equal when their octets are equal.
"""

from collections.abc import Iterator

Name = bytes

ROOT: Name = b"\0"
MOST_OCTETS = 255
"""Octets of a name, lengths included (RFC 1035 section 2.3.4)."""
MOST_LABEL = 63
"""Octets of a label."""

_DIGITS = b"0123456789"


def name_of(text: str) -> Name:
    """Return the name that `text` stands for, with or without a trailing dot.

    `\\.` is a dot inside a label, and `\\032` an octet by its number (RFC 1035 section 5.1). Raises `ValueError`.
    """
    labels: list[bytearray] = [bytearray()]
    octets = iter(text.encode("ascii"))
    for octet in octets:
        if octet == 0x5C:
            labels[-1].append(_escaped(octets))
        elif octet == 0x2E:
            labels.append(bytearray())
        elif octet == 0x40:
            raise ValueError("an @ is not escaped")  # in a zone file, @ stands for the origin
        else:
            labels[-1].append(octet)
    if not labels[-1]:
        labels.pop()  # the dot at the end
    if not all(0 < len(label) <= MOST_LABEL for label in labels):
        raise ValueError("a label has no octets, or more than 63")
    name = b"".join(bytes((len(label),)) + label for label in labels) + ROOT
    if len(name) > MOST_OCTETS:
        raise ValueError("a name has more than 255 octets")
    return name.lower()  # lengths are below 64, so they don't change


def _escaped(octets: Iterator[int]) -> int:
    """Return the octet that is written after a backslash."""
    first = next(octets, None)
    if first is None:
        raise ValueError("a name ends with a backslash")
    if first not in _DIGITS:
        return first
    digits = bytes((first, next(octets, 0), next(octets, 0)))
    if not digits.isdigit() or int(digits) > 255:
        raise ValueError("a backslash and a digit are not the number of an octet")
    return int(digits)


def text_of(name: Name) -> str:
    """Return a name as text for other rooms: no trailing dot, unusual octets escaped; "" for the root."""
    return ".".join("".join(_CHARACTERS[octet] for octet in label) for label in labels_of(name))


def labels_of(name: Name) -> list[bytes]:
    """Return the labels of a name without the empty one at its end."""
    labels, at = [], 0
    while name[at]:
        end = at + 1 + name[at]
        labels.append(name[at + 1 : end])
        at = end
    return labels


def is_below(name: Name, other: Name) -> bool:
    """True when `name` is `other` or lies below it."""
    own, wanted = labels_of(name), labels_of(other)
    return len(own) >= len(wanted) and own[len(own) - len(wanted) :] == wanted


def _character(octet: int) -> str:
    if octet in b'.\\"();@$':
        return "\\" + chr(octet)
    return chr(octet) if 0x20 < octet < 0x7F else f"\\{octet:03}"


_CHARACTERS = tuple(map(_character, range(256)))
