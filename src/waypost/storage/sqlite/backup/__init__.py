"""Backups of a storage: taken while it serves, incremental by segments, verified, and restored."""
