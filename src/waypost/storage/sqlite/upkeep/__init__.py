"""Housekeeping, checks and repairs: space of deleted messages comes back, and damage is found and mended."""
