-- What readers of a message can't take as it is stored (protocol/canonical.py). Most messages have none of it.

-- NULL: it consists of CRLF lines without NUL. Otherwise the octets that it gains when it is written as such lines;
-- the least number there is where nobody has counted yet.
ALTER TABLE message ADD COLUMN growth INTEGER;
-- 0: the header is ASCII; 1: it may hold other octets, and so may that of a message from before this column.
ALTER TABLE message ADD COLUMN eight_bit_header INTEGER NOT NULL DEFAULT 1;
UPDATE message SET growth = -9223372036854775807 - 1 WHERE envelope LIKE '%"BINARYMIME"%';

CREATE INDEX message_form ON message (id) WHERE growth IS NOT NULL OR eight_bit_header;
