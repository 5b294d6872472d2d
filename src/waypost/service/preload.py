"""What a worker loads before it gives up root.

Libraries import parts of themselves only when they need them. The program may stand where the workers' user can't read
(below /root, say); then such an import would fail in the middle of somebody's mail. So all of them are named here.
"""

import contextlib
import importlib

from waypost.storage.sqlite.migrate import migrations

MODULES = (
    "asyncio.sslproto",
    "concurrent.futures.thread",
    *(f"encodings.{name}" for name in ("ascii", "idna", "latin_1", "punycode", "utf_8")),
    "encodings.raw_unicode_escape",
    "encodings.unicode_escape",
    "linecache",
    "tokenize",
    "traceback",
    "unicodedata",
    "uvloop",
)


def preload() -> None:
    """Load them, and the schema of the storage."""
    for name in MODULES:
        with contextlib.suppress(ImportError):  # uvloop is no must
            importlib.import_module(name)
    migrations()
