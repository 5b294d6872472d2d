"""Memory of a process that is about to be forked: it is arranged so that its children write to few of its pages.

A child shares each page with its parent until one of them writes to it. Importing leaves thousands of small gaps
between objects that live for ever: what a child allocates would go into them, and copy a page for a few octets. The
collector and the interpreter's cache of attributes write to the objects that they know.
"""

import ctypes
import gc
import sys

_POOL = 1 << 14  # octets of a pool of the interpreter's allocator, whose first object follows a header
_POOL_HEADER = 48
_SMALLEST, _LARGEST = 48, 512  # octets of what it serves, in steps of 16
_BYTES_OVERHEAD = 33  # octets of an empty `bytes`
_HEAP_SIZES = (*range(24, 1024, 16), 1536, 2048, 4096, 8192, 16384)
_EDGE = 32 << 10  # octets, less than what the C library maps apart
_MOST = 20_000  # gaps of one size

_filling: list[object] = []
"""What fills the gaps of the interpreter's allocator, for ever."""


def pack() -> None:
    """Prepare for a fork, after everything has been imported. What fills the gaps is never given back."""
    gc.collect()
    _forget_attributes()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):  # other C libraries arrange their memory in other ways
        _fill_pools()
        _fill_heap(libc)
    gc.freeze()


def _forget_attributes() -> None:
    """Empty the cache of attributes: each entry that gives way later writes to the name that it held."""
    for name in ("_clear_internal_caches", "_clear_type_cache"):  # Python 3.13 and later, and before
        if (clear := getattr(sys, name, None)) is not None:
            clear()
            return


def _fill_pools() -> None:
    """Make objects of each size until one is the first in a pool: then no other pool of that size has a gap."""
    for size in range(_SMALLEST, _LARGEST + 1, 16):
        for _ in range(_MOST):
            made = bytes(size - _BYTES_OVERHEAD)
            _filling.append(made)
            if id(made) % _POOL == _POOL_HEADER:
                break


def _fill_heap(libc: ctypes.CDLL) -> None:
    """Allocate chunks of each size, large ones first, until one comes from behind all that is allocated."""
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = (ctypes.c_size_t,)
    edge = libc.malloc(_EDGE) or 0
    for size in reversed(_HEAP_SIZES):
        for _ in range(_MOST):
            if (libc.malloc(size) or edge) >= edge:
                break
