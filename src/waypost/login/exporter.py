"""tls-exporter, the channel binding of TLS 1.3 (RFC 9266), read from OpenSSL: Python's ssl module does not offer it.

A client that binds its login to the channel prefers tls-exporter to any other binding, and many know no other. OpenSSL
provides it. Python hides the pointer to OpenSSL's connection; it is the second field of Python's own object in every
CPython version that is listed here. With any other Python, the pointer is not read and the binding is not offered.
"""

import _ssl
import ctypes
import ssl
import sys
from collections.abc import Callable

_LABEL = b"EXPORTER-Channel-Binding"  # RFC 9266 4.2, with an empty context
_OCTETS = 32
_KNOWN = ((3, 11), (3, 12), (3, 13), (3, 14))
_OFFSET = object.__basicsize__ + ctypes.sizeof(ctypes.c_void_p)
"""PyObject_HEAD; PyObject *Socket; SSL *ssl; ... (Modules/_ssl.c)"""


def tls_exporter(connection: ssl.SSLObject | ssl.SSLSocket) -> bytes | None:
    """Return the tls-exporter of a connection whose handshake is done; None where it is not available.

    In TLS 1.2 it is safe only with the extended master secret (RFC 9266 section 3), which can't be checked here.
    """
    if _EXPORT is None or connection.version() != "TLSv1.3":
        return None
    inner = connection._sslobj  # type: ignore[union-attr]
    if type(inner).__module__ != "_ssl" or type(inner).__name__ != "_SSLSocket":
        return None
    openssl = ctypes.c_void_p.from_address(id(inner) + _OFFSET)
    octets = ctypes.create_string_buffer(_OCTETS)
    done = _EXPORT(openssl, octets, _OCTETS, _LABEL, len(_LABEL), b"", 0, 1)
    return octets.raw if done == 1 else None


def _openssl() -> Callable[..., int] | None:
    """Return OpenSSL's function, from the same library that Python uses; None where this Python is not known."""
    if sys.implementation.name != "cpython" or sys.version_info[:2] not in _KNOWN:
        return None
    try:
        export = ctypes.CDLL(getattr(_ssl, "__file__", None)).SSL_export_keying_material
    except (OSError, AttributeError):
        return None
    text, size, number = ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int
    export.restype = number
    export.argtypes = [ctypes.c_void_p, text, size, text, size, text, size, number]
    return export


_EXPORT = _openssl()
"""Found when this module is loaded: a confined worker can't open a library later."""
