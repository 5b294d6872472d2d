-- Messages, their bytes' places, the queue, mailboxes, accounts, and the journal.

-- A segment is an append-only file of message bytes; `live` counts the octets that a message row still needs.
CREATE TABLE segment (
    id      INTEGER PRIMARY KEY AUTOINCREMENT,
    worker  INTEGER NOT NULL,
    sealed  INTEGER NOT NULL DEFAULT 0,
    size    INTEGER NOT NULL DEFAULT 0,
    live    INTEGER NOT NULL DEFAULT 0
);
-- What housekeeping looks for, among maybe a million segments of large messages.
CREATE INDEX segment_open ON segment (id) WHERE sealed = 0;
CREATE INDEX segment_empty ON segment (id) WHERE sealed = 1 AND live <= 0;
CREATE INDEX segment_half_dead ON segment (live) WHERE sealed = 1 AND live > 0 AND size > live * 2;

-- Octets whose segment has not been flushed since they were appended: a power loss leaves them here alone.
CREATE TABLE unflushed (
    id      INTEGER PRIMARY KEY,
    segment INTEGER NOT NULL,
    offset  INTEGER NOT NULL,
    octets  BLOB NOT NULL
);

-- One row a message; `id` is the trace id. `refs` counts queue entries and mailbox rows. `head` is in front of
-- the bytes in the segment (only where those went to disk before the head was known).
CREATE TABLE message (
    id           INTEGER PRIMARY KEY,
    segment      INTEGER NOT NULL,
    offset       INTEGER NOT NULL,
    length       INTEGER NOT NULL,
    crc          INTEGER NOT NULL,
    head         TEXT NOT NULL DEFAULT '',
    refs         INTEGER NOT NULL,
    received_at  INTEGER NOT NULL,
    reverse_path TEXT NOT NULL,
    envelope     TEXT NOT NULL,
    account      TEXT
);
CREATE INDEX message_in_segment ON message (segment);

-- One row for each message and destination. state: 0 ready, 1 held.
CREATE TABLE entry (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    message        INTEGER NOT NULL,
    destination    TEXT NOT NULL,
    recipients     TEXT NOT NULL,
    state          INTEGER NOT NULL DEFAULT 0,
    priority       INTEGER NOT NULL DEFAULT 0,
    queued_at      INTEGER NOT NULL,
    next_attempt   INTEGER NOT NULL,
    last_attempt   INTEGER,
    attempts       INTEGER NOT NULL DEFAULT 0,
    waited         INTEGER NOT NULL DEFAULT 0,
    delay_notified INTEGER NOT NULL DEFAULT 0,
    last_error     TEXT
);
CREATE INDEX entry_due ON entry (destination, state, priority, next_attempt);
CREATE INDEX entry_of_message ON entry (message);

-- One row for each destination that something waits for. `wake` is when to look at it next, NULL when everything
-- is held; `owner` is the worker that holds its lease, -1 for nobody.
CREATE TABLE destination (
    name        TEXT PRIMARY KEY,
    wake        INTEGER,
    not_before  INTEGER NOT NULL DEFAULT 0,
    owner       INTEGER NOT NULL DEFAULT -1,
    lease_until INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE INDEX destination_due ON destination (owner, wake);

CREATE TABLE account (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    address     TEXT NOT NULL UNIQUE,
    argon2      TEXT NOT NULL,
    salt        BLOB NOT NULL,
    iterations  INTEGER NOT NULL,
    stored_key  BLOB NOT NULL,
    server_key  BLOB NOT NULL,
    quota       INTEGER NOT NULL,
    disabled    INTEGER NOT NULL DEFAULT 0,
    created_at  INTEGER NOT NULL,
    inbox       INTEGER NOT NULL DEFAULT 0,
    usage       INTEGER NOT NULL DEFAULT 0
);

CREATE TABLE alias (
    address TEXT PRIMARY KEY,
    targets TEXT NOT NULL
) WITHOUT ROWID;

-- What accounts send, in buckets of five minutes.
CREATE TABLE spending (
    account    TEXT NOT NULL,
    bucket     INTEGER NOT NULL,
    messages   INTEGER NOT NULL,
    recipients INTEGER NOT NULL,
    PRIMARY KEY (account, bucket)
) WITHOUT ROWID;

CREATE TABLE mailbox (
    id             INTEGER PRIMARY KEY AUTOINCREMENT,
    account        INTEGER NOT NULL,
    name           TEXT NOT NULL,
    uidvalidity    INTEGER NOT NULL,
    uidnext        INTEGER NOT NULL DEFAULT 1,
    highest_modseq INTEGER NOT NULL DEFAULT 1,
    UNIQUE (account, name)
);

-- UIDVALIDITY only grows, over all mailboxes that ever were (RFC 9051 2.3.1.1).
CREATE TABLE counter (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE mailbox_message (
    mailbox       INTEGER NOT NULL,
    uid           INTEGER NOT NULL,
    message       INTEGER NOT NULL,
    head          TEXT NOT NULL,
    size          INTEGER NOT NULL,
    internal_date INTEGER NOT NULL,
    modseq        INTEGER NOT NULL,
    flags         TEXT NOT NULL,
    PRIMARY KEY (mailbox, uid)
) WITHOUT ROWID;

-- Which UIDs went, and when (VANISHED of RFC 7162).
CREATE TABLE expunged (
    mailbox INTEGER NOT NULL,
    modseq  INTEGER NOT NULL,
    uid     INTEGER NOT NULL,
    PRIMARY KEY (mailbox, modseq, uid)
) WITHOUT ROWID;

-- Each row: the events of one commit for one message, as JSON.
CREATE TABLE journal (
    id      INTEGER PRIMARY KEY,
    message INTEGER NOT NULL,
    time    INTEGER NOT NULL,
    events  TEXT NOT NULL
);
CREATE INDEX journal_of_message ON journal (message);

CREATE TABLE message_name (
    message_id TEXT NOT NULL,
    message    INTEGER NOT NULL,
    PRIMARY KEY (message_id, message)
) WITHOUT ROWID;
CREATE INDEX message_name_of_message ON message_name (message);

-- Messages whose client has not yet shown that it saw our 250 (docs/decisions/0005).
CREATE TABLE unconfirmed (
    digest  TEXT PRIMARY KEY,
    message INTEGER NOT NULL,
    time    INTEGER NOT NULL
) WITHOUT ROWID;
