"""What a worker loads before it gives up root and confines itself.

Libraries import parts of themselves only when they need them. The program may stand where the workers' user can't read
(below /root, say); then such an import would fail in the middle of somebody's mail. So all of them are named here, and
`tests/service/test_preload.py` looks for those that are not.
"""

import contextlib
import importlib

from waypost.message.charset import load_charsets
from waypost.storage.engine.opening import load

MODULES = (
    "_strptime",
    "_tokenize",
    "asyncio.sslproto",
    "concurrent.futures.thread",
    "idna.uts46data",
    "linecache",
    "tokenize",
    "traceback",
    "unicodedata",
    "uvloop",
)


def preload() -> None:
    """Load them, every charset that a message may name, and the schema of the storage."""
    for name in MODULES:
        with contextlib.suppress(ImportError):  # uvloop is no must, and not every Python has each
            importlib.import_module(name)
    load_charsets()
    load()
