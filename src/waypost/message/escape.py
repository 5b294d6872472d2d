"""Escapes for characters that are invisible or steer a terminal. It needs no codec, which a worker could not load."""


def escape(character: str) -> str:
    """Return a character as the escape that Python writes for it: `\\x1b`, `\\u202e`, `\\U000e0001`."""
    code = ord(character)
    if character in _SHORT:
        return _SHORT[character]
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


_SHORT = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
