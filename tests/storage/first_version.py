"""A data directory as version 0.1.0 left it, written out: its first schema, rows in its form, and a segment.

Nothing here uses today's code but the file of the first schema, which never changes: so a reader of old rows that
forgets how they look fails its test.
"""

import os
import struct
import zlib
from pathlib import Path

import apsw

from waypost.storage.sqlite.opening.migrate import migrations

SECOND = 1_000_000
THEN = 1_795_000_000 * SECOND
HELD_UNTIL = THEN + 86_400 * SECOND
PLAIN, BINARY, HELD, REPORT = 1_795_000_000_000_001, 1_795_000_000_000_002, 1_795_000_000_000_003, 1_795_000_000_000_004
HEAD = "Received: from caf\xe9 by here\r\n"
OCTETS = {
    PLAIN: b"Received: from there by here\r\nSubject: plain\r\n\r\nHow do you do?\r\n",
    BINARY: bytes(range(256)) * 300,  # its head stands in its row, as with all that went to disk while it arrived
    HELD: b"Received: from there by here\r\nSubject: later\r\n\r\nNot yet.\r\n",
    REPORT: b"Subject: Undelivered\r\n\r\nIt came back.\r\n",
}
BOX_HEAD = "Return-Path: <alice@wonderland.test>\r\nDelivered-To: bob@builder.test\r\n"

_MESSAGE = "INSERT INTO message VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_ROWS = f"""
INSERT INTO segment VALUES (1, 0, 1, :size, :live);
INSERT INTO account VALUES (1, 'bob@builder.test', '$argon2id$v=19$x', x'0102', 4096, x'0304', x'0506', 1000000, 0,
                            {THEN}, 1, :usage);
INSERT INTO account VALUES (2, 'carol@builder.test', '$argon2id$v=19$y', x'1112', 4096, x'1314', x'1516', 0, 1,
                            {THEN + 1}, 3, 0);
INSERT INTO mailbox VALUES (1, 1, 'INBOX', 1795000000, 5, 9), (2, 1, 'Sent', 1795000001, 1, 1),
                           (3, 2, 'INBOX', 1795000002, 1, 1);
INSERT INTO counter VALUES ('uidvalidity', 1795000002);
INSERT INTO mailbox_message VALUES
    (1, 2, {PLAIN}, :head, :plain, {THEN}, 4, '["$Forwarded","\\\\Seen"]'),
    (1, 4, {BINARY}, :head, :binary, {THEN + 5}, 8, '[]');
INSERT INTO expunged VALUES (1, 5, 1), (1, 6, 3);
INSERT INTO entry VALUES
    (7, {PLAIN}, 'carpenter.test', '[["carol","carpenter.test",3,"rfc822","carol@elsewhere.test"],["dave",
     "carpenter.test",null]]', 0, -4, {THEN}, {THEN + 60 * SECOND}, {THEN + 1}, 2, {60 * SECOND}, 1, '450 4.2.1 Busy'),
    (8, {HELD}, 'builder.test', '[["eve","builder.test",0]]', 0, 0, {THEN}, {HELD_UNTIL}, NULL, 0, 0, 0, NULL),
    (9, {REPORT}, 'wonderland.test', '[["alice","wonderland.test",0]]', 1, 0, {THEN}, {THEN}, NULL, 0, 0, 0, NULL);
INSERT INTO destination VALUES
    ('carpenter.test', {THEN + 60 * SECOND}, {THEN + 30 * SECOND}, 3, {THEN + 90 * SECOND}),
    ('builder.test', {HELD_UNTIL}, 0, -1, 0), ('wonderland.test', NULL, 0, -1, 0);
INSERT INTO alias VALUES ('all@builder.test', '["bob@builder.test","carol@elsewhere.test"]');
INSERT INTO spending VALUES ('bob@builder.test', {THEN // SECOND // 300}, 3, 5);
INSERT INTO journal VALUES
    (1, {PLAIN}, {THEN}, '[[{THEN},"submitted",{{"account":"bob@builder.test","peer":"192.0.2.1"}}]]'),
    (2, {PLAIN}, {THEN + 1}, '[[{THEN + 1},"attempt",{{"host":"mx.carpenter.test","reply":"450 4.2.1 Busy"}}]]');
INSERT INTO message_name VALUES ('<1@wonderland.test>', {PLAIN});
INSERT INTO unconfirmed VALUES ('00ff', {PLAIN}, {THEN});
PRAGMA user_version = 1;
"""
ENVELOPES = {
    PLAIN: '[["alice","wonderland.test"],"8BITMIME",true,4711,"HDRS","QQ314159",null,' + f'[{THEN + 9},"N",true],-4]',
    BINARY: '[["alice","wonderland.test"],"BINARYMIME",false,null,null,null,null,null,0]',
    HELD: '[["alice","wonderland.test"],"7BIT",false,null,null,null,' + f"{HELD_UNTIL},null,0]",
    REPORT: '[null,"7BIT",false,null,null,null,null,null,0]',
}
TABLES = (
    "segment",
    "message",
    "entry",
    "destination",
    "account",
    "alias",
    "spending",
    "mailbox",
    "counter",
    "mailbox_message",
    "expunged",
    "journal",
    "message_name",
)
"""What has rows in it, but for `unconfirmed`, which the second schema drops."""


def write(data: Path) -> None:
    """Make the data directory."""
    for folder in (data, data / "segments", data / "locks"):
        folder.mkdir(mode=0o700)
    heads = {BINARY: HEAD}
    segment, places = b"", {}
    for trace, octets in OCTETS.items():
        segment += struct.pack("<4sQQI", b"WPS1", trace, len(octets), zlib.crc32(octets))
        places[trace] = len(segment)
        segment += octets
    (data / "segments" / "000000000001.seg").write_bytes(segment)
    os.close(os.open(data / "waypost.db", os.O_CREAT | os.O_RDWR, 0o600))
    database = apsw.Connection(str(data / "waypost.db"))
    database.execute("PRAGMA journal_mode=WAL").fetchall()
    with database:
        database.execute(migrations()[0][2]).fetchall()
        refs = {PLAIN: 2}
        for trace, octets in OCTETS.items():
            path = "<>" if trace == REPORT else "alice@wonderland.test"
            account = None if trace == REPORT else "bob@builder.test"
            place = (trace, places[trace], len(octets), zlib.crc32(octets), heads.get(trace, ""), refs.get(trace, 1))
            database.execute(_MESSAGE, (*place, THEN, path, ENVELOPES[trace], account)).fetchall()
        plain, binary = (len(BOX_HEAD) + len(OCTETS[one]) + len(heads.get(one, "")) for one in (PLAIN, BINARY))
        values = {
            "size": len(segment),
            "live": sum(map(len, OCTETS.values())),
            "head": BOX_HEAD,
            "plain": plain,
            "binary": binary,
            "usage": plain + binary,
        }
        database.execute(_ROWS, values).fetchall()
    database.close()
