"""Octets of messages: append-only segment files, and how messages come into them and are read."""
