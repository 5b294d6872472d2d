-- Which storage this is, and how far it has come; the file `life` of the data directory says the same, so that a
-- database that is older than its data directory can be told. One row, made at the first start.
CREATE TABLE life (
    id       TEXT NOT NULL,
    mark     INTEGER NOT NULL,
    restores INTEGER NOT NULL,
    former   TEXT NOT NULL
);
