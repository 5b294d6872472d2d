"""Characters that nobody can see, or that steer a terminal, as escapes. It needs no codec that might not be loaded."""


def escape(character: str) -> str:
    """Return a character as the escape that Python writes for it: `\\x1b`, `\\u202e`, `\\U000e0001`."""
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
