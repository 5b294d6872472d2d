"""How destinations are paced, as their rows keep it for people (`waypost queue show`); nothing decides by it."""

from collections.abc import Mapping, Sequence

import apsw
import msgspec

from waypost.storage.queue import Lease, Pacing
from waypost.storage.sqlite.reading import Reading
from waypost.storage.sqlite.rows import text

_NOTE = """
UPDATE destination SET pacing = new.value->>2
FROM json_each(?) AS new
WHERE destination.name = new.value->>0 AND destination.epoch = new.value->>1 AND owner >= 0"""

_decode = msgspec.json.Decoder(list[Pacing]).decode


def pacing_text(pacing: Sequence[Pacing]) -> str | None:
    """Return how a destination is paced as its row keeps it; None where nothing is said."""
    return text(list(pacing)) if pacing else None


def note_pacing(connection: apsw.Connection, pacing: Mapping[Lease, Sequence[Pacing]]) -> None:
    """Keep how destinations are paced that are owned by these leases."""
    said = sorted((lease.destination, lease.epoch, pacing_text(each)) for lease, each in pacing.items() if each)
    if said:
        connection.execute(_NOTE, (text(said),)).fetchall()


def read_pacing(reading: Reading, destination: str) -> list[Pacing]:
    """Return how a destination was paced; empty where nothing is known, or its row can't be read."""
    row = reading.row("SELECT CAST(pacing AS BLOB) FROM destination WHERE name = ?", (destination,))
    if row is None or row[0] is None:
        return []
    try:
        return _decode(row[0])
    except msgspec.MsgspecError:
        return []
