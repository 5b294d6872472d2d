"""Before a process uses a data directory: its schema, its identity, and whether its parts belong together."""
