-- The number of the claim by which a destination is owned, or was last: no two claims have the same one. What its
-- owner writes names it, and is refused once somebody else has claimed the destination. 0: never claimed.
ALTER TABLE destination ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
INSERT INTO counter (name, value) VALUES ('lease', 0);
