"""Reads header values as a person would, malformed ones too. The counterpart of `fields.py`."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from waypost.message.decoded_words import decode_value

__all__ = ["decode_date", "decode_value"]


def decode_date(value: bytes) -> datetime | None:
    """Return the time of a Date field, with its zone (UTC where it has none); None when it can't be read."""
    try:
        date = parsedate_to_datetime(value.decode("ascii", "replace"))
        return date if date.tzinfo else date.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError):  # malformed dates raise each of these
        return None
