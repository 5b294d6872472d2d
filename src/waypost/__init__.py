"""Waypost: a complete mail system in one readable program."""

__version__ = "0.1.0"
