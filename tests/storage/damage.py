"""Damage to pages of the database, while nobody has it open."""

from pathlib import Path

import apsw

from waypost.storage.sqlite.opening.migrate import DATABASE


def pages_of(data: Path, name: str) -> list[int]:
    """Return the numbers of the pages of a table or an index: its root first, then the leaves in their order.

    As SQLite's file format says: an interior page has its rightmost child in its header, and the others in its cells.
    """
    connection = apsw.Connection(str(data / DATABASE))
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    root = int(connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (name,)).get)
    size = int(connection.execute("PRAGMA page_size").get)
    connection.close()
    octets = (data / DATABASE).read_bytes()
    found: list[int] = []

    def walk(page: int) -> None:
        found.append(page)
        start = (page - 1) * size
        if octets[start] not in (2, 5):  # a leaf
            return
        cells = int.from_bytes(octets[start + 3 : start + 5])
        for number in range(cells):
            place = start + 12 + 2 * number
            cell = start + int.from_bytes(octets[place : place + 2])
            walk(int.from_bytes(octets[cell : cell + 4]))
        walk(int.from_bytes(octets[start + 8 : start + 12]))

    walk(root)
    return found


def wreck(data: Path, page: int, octets: bytes = b"\0", size: int = 4096) -> None:
    """Overwrite a page."""
    with (data / DATABASE).open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(octets * size)
