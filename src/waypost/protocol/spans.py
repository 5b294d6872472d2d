"""Spans of time in words, for replies that people read."""


def in_words(seconds: int) -> str:
    """Return whole seconds as "1 second", "40 seconds", or from two minutes on "3 minutes", rounded up."""
    if seconds >= 120:
        return f"{-(-seconds // 60)} minutes"
    return "1 second" if seconds == 1 else f"{seconds} seconds"
