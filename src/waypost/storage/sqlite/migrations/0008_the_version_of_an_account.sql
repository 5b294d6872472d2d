-- Grows when an account is disabled or enabled, and with each new password. What a session commits in the name of an
-- account names the version of its login, and fails when the account has another one by then.
ALTER TABLE account ADD COLUMN version INTEGER NOT NULL DEFAULT 1;
