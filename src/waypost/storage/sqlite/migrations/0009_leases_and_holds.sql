-- The number of the claim by which a destination is owned, or was last: no two claims have the same one. What its
-- owner writes names it, and is refused once somebody else has claimed the destination. 0: never claimed.
ALTER TABLE destination ADD COLUMN epoch INTEGER NOT NULL DEFAULT 0;
INSERT INTO counter (name, value) VALUES ('lease', 0);

-- Before this nobody tries an entry: its sender holds it back (RFC 4865). An envelope that can't be read holds nothing.
ALTER TABLE entry ADD COLUMN not_before INTEGER NOT NULL DEFAULT 0;
UPDATE entry SET not_before = held.until
FROM (SELECT id, envelope->>6 AS until FROM message WHERE json_valid(envelope) AND envelope->>6 IS NOT NULL) AS held
WHERE entry.message = held.id;
