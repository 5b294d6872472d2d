"""POP3, both sides, sans-IO (RFC 1939 and its extensions)."""
