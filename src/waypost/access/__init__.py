"""Access: the sessions in which people read their mailboxes (RFC 1939)."""
