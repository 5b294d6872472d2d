"""Making a database one that can shrink: SQLite must know it from the beginning, or write all of it anew."""

import logging

import apsw

log = logging.getLogger(__name__)

INCREMENTAL = 2
"""What `PRAGMA auto_vacuum` says of a database that can shrink."""


def allow_shrinking(connection: apsw.Connection) -> None:
    """Let a database shrink from now on: a new one at no cost, an old one by being written anew, alone.

    Where there is no room for that, it goes on as it is.
    """
    if connection.execute("PRAGMA auto_vacuum").get == INCREMENTAL:
        return
    connection.execute("PRAGMA auto_vacuum=INCREMENTAL").fetchall()
    if connection.execute("PRAGMA page_count").get:
        try:
            connection.execute("VACUUM").fetchall()
        except apsw.Error as error:
            log.warning("the database can't be made to shrink", extra={"fields": {"error": str(error)}})
