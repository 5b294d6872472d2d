"""The house of tests/intake/conversation.py, for the tests of this room."""

from tests.intake.conversation import house

__all__ = ["house"]
