"""Salvage: whatever can be read of a damaged data directory, brought out into another place."""
