-- Queue entries that storage refuses to change: nobody hands them out until `storage check --repair` holds them.
CREATE TABLE set_aside (
    entry   INTEGER PRIMARY KEY,
    time    INTEGER NOT NULL,
    problem TEXT NOT NULL
);
