"""The group commit: what waits together is written together, octets first, then rows in one transaction."""
