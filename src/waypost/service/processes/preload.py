"""What the service loads before its first fork.

Libraries import parts of themselves only when they need them. The program may stand where the workers' user can't read
(below /root, say), or may be upgraded while the service runs; then such an import would fail, or mix two versions, in
the middle of somebody's mail. So all of them are named here, and `tests/service/test_preload.py` looks for those that
are not.
"""

import contextlib
import importlib

from waypost.message.charset import load_charsets
from waypost.service.sockets.tls import load_openssl
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
    """Load them, every charset that a message may name, the schema of the storage, and what OpenSSL keeps."""
    for name in MODULES:
        with contextlib.suppress(ImportError):  # uvloop is no must, and not every Python has each
            importlib.import_module(name)
    load_charsets()
    load()
    load_openssl()
