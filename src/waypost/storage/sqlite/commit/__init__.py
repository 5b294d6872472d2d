"""The group commit: all waiting operations are written together, octets first, then rows in one transaction."""
