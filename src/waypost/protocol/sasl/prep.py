"""Preparation of user names and passwords before they are compared: SASLprep (RFC 4013, RFC 3454).

SCRAM and PLAIN ask for SASLprep (RFC 5802 5.1, RFC 4616 2). It is done here with the tables of the standard
library (Unicode 3.2, as RFC 3454 demands), in full except for one point: code points that Unicode 3.2 did not know
(emoji, for example) pass unchanged everywhere, as RFC 3454 section 7 allows for queries only. It is better to store
such a password than to refuse it, and both sides of a login treat it alike. RFC 8265 (PRECIS) would give another
result for compatibility characters only. All mechanisms share one preparation, so a password works in each of them.
"""

import stringprep
import unicodedata

_PROHIBITED = (
    (stringprep.in_table_c12, "a space other than U+0020"),
    (stringprep.in_table_c21_c22, "a control character"),
    (stringprep.in_table_c3, "a private use character"),
    (stringprep.in_table_c4, "a code point that is not a character"),
    (stringprep.in_table_c5, "half of a surrogate pair"),
    (stringprep.in_table_c6, "a character that is not plain text"),
    (stringprep.in_table_c7, "a description character"),
    (stringprep.in_table_c8, "a character that changes the display"),
    (stringprep.in_table_c9, "a tagging character"),
)
_LONGEST = 1024  # characters; RFC 4616 section 2 asks for 255 octets at least; NFKC can make 18 of one


class PreparationError(ValueError):
    """The text can't be a user name or a password; the message says why in plain words."""


def saslprep(text: str) -> str:
    """Return the prepared form (RFC 4013 2). Raises `PreparationError`, also when nothing is left.

    It takes little time for any text, because a stranger chooses the text before a login.
    """
    if len(text) > _LONGEST:
        raise PreparationError(f"it is longer than {_LONGEST} characters")
    if text.isascii() and text.isprintable():
        prepared = text
    else:
        mapped = "".join(
            " " if stringprep.in_table_c12(character) else character
            for character in text
            if not stringprep.in_table_b1(character)
        )
        prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)
        _check_characters(prepared)
        _check_direction(prepared)
    if not prepared:
        raise PreparationError("it is empty")
    return prepared


def _check_characters(text: str) -> None:
    for character in dict.fromkeys(text):
        for prohibited, name in _PROHIBITED:
            if prohibited(character):
                raise PreparationError(f"it has {name} (U+{ord(character):04X})")


def _check_direction(text: str) -> None:
    """RFC 3454 section 6: right-to-left text begins and ends with such a letter and has no left-to-right letters."""
    characters = dict.fromkeys(text)
    if not any(map(stringprep.in_table_d1, characters)):
        return
    if any(map(stringprep.in_table_d2, characters)):
        raise PreparationError("it mixes letters that are written left to right and right to left")
    if not (stringprep.in_table_d1(text[0]) and stringprep.in_table_d1(text[-1])):
        raise PreparationError("right-to-left text must begin and end with a right-to-left letter")
