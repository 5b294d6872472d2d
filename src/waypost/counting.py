"""How many of something, in words."""


def counted(number: int, one: str, many: str | None = None) -> str:
    """Return a number with its noun: `1 message`, `2 messages`, `1 entry`."""
    return f"{number} {one if number == 1 else many or one + 's'}"
