-- A failed round of a whole destination is written once, here, and not into each entry that waits for it.
-- failed_at: when the last one ended; again_at: until when those who waited then are left alone; failure: its words;
-- outage: the failed rounds, as JSON (storage/sqlite/outage.py).
ALTER TABLE destination ADD COLUMN failed_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE destination ADD COLUMN again_at INTEGER NOT NULL DEFAULT 0;
ALTER TABLE destination ADD COLUMN failure TEXT;
ALTER TABLE destination ADD COLUMN outage TEXT;
-- From when on failed rounds count for an entry, where that is later than its last attempt: when it was released.
ALTER TABLE entry ADD COLUMN counts_from INTEGER NOT NULL DEFAULT 0;

-- UIDs that went are forgotten in time; `forgotten` is the highest MODSEQ of which some may be (RFC 7162 section 3.2.5.2).
ALTER TABLE expunged ADD COLUMN time INTEGER NOT NULL DEFAULT 0;
UPDATE expunged SET time = unixepoch() * 1000000;
CREATE INDEX expunged_time ON expunged (time);
ALTER TABLE mailbox ADD COLUMN forgotten INTEGER NOT NULL DEFAULT 0;
