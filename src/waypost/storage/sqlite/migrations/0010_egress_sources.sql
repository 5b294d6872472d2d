-- From which of our addresses an entry was tried last, and is tried again (docs/decisions/0040); NULL before.
ALTER TABLE entry ADD COLUMN source TEXT;
-- How a destination was paced from each source when it was left last, and why, as JSON (storage/sqlite/pacing.py).
ALTER TABLE destination ADD COLUMN pacing TEXT;
