-- From which networks an account has logged in: failures of others there do not hold its logins up.
-- `seen` is written once a day at most.
CREATE TABLE known_network (
    account TEXT NOT NULL,
    network TEXT NOT NULL,
    seen    INTEGER NOT NULL,
    PRIMARY KEY (account, network)
) WITHOUT ROWID;
