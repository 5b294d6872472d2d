"""The gateways of all routes, as the kernel tells them over netlink (rtnetlink(7)): also those of further routing
tables, and of a route with several next hops, which /proc/net/route leaves out.

`gateways_in` reads octets and knows no socket; every length in them is checked.
"""

import errno
import socket
import struct
from collections.abc import Iterator
from ipaddress import ip_address

from waypost.config.settings import IpAddress

_HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port
_ROUTE = 12  # octets of a rtmsg
_ATTRIBUTE = struct.Struct("=HH")  # rtattr: length, type
_LENGTH = struct.Struct("=H")
_HOP = 8  # octets of a rtnexthop: its length first, then flags, hops, interface
_ERROR, _DONE, _NEW_ROUTE, _GET_ROUTE = 2, 3, 24, 26
_REQUEST_DUMP = 0x301
_GATEWAY, _MULTIPATH, _VIA = 5, 9, 18
_NOT_ALLOWED = (errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EOPNOTSUPP, errno.EPERM, errno.EACCES)
_SECONDS = 5.0


def kernel_gateways() -> frozenset[IpAddress]:
    """Return the gateways; none where the process may not ask (`RestrictAddressFamilies=` of systemd), and /proc is all
    there is. Raises `OSError`.
    """
    found: set[IpAddress] = set()
    for family in (socket.AF_INET, socket.AF_INET6):
        for datagram in _dump(family):
            found |= gateways_in(datagram)
    return frozenset(found)


def _dump(family: int) -> Iterator[bytes]:
    try:
        asking = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    except OSError as error:
        if error.errno in _NOT_ALLOWED:
            return
        raise
    with asking:
        asking.settimeout(_SECONDS)
        header = _HEADER.pack(_HEADER.size + _ROUTE, _GET_ROUTE, _REQUEST_DUMP, 1, 0)
        asking.sendto(header + bytes([family]) + bytes(_ROUTE - 1), (0, 0))
        while True:
            datagram = asking.recv(1 << 18)
            yield datagram
            if not datagram or _is_last(datagram):
                return


def _is_last(datagram: bytes) -> bool:
    return any(kind in (_DONE, _ERROR) for kind, _ in _messages(datagram))


def gateways_in(datagram: bytes) -> set[IpAddress]:
    """Return the gateways that a datagram of the kernel's answer names."""
    found: set[IpAddress] = set()
    for kind, body in _messages(datagram):
        if kind == _NEW_ROUTE:
            found.update(_gateways(body[_ROUTE:]))
    return found


def _messages(datagram: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + _HEADER.size <= len(datagram):
        length, kind, *_ = _HEADER.unpack_from(datagram, position)
        if length < _HEADER.size:
            return
        yield kind, datagram[position + _HEADER.size : position + length]
        position += _aligned(length)


def _gateways(attributes: bytes) -> Iterator[IpAddress]:
    position = 0
    while position + _ATTRIBUTE.size <= len(attributes):
        length, kind = _ATTRIBUTE.unpack_from(attributes, position)
        if length < _ATTRIBUTE.size:
            return
        value = attributes[position + _ATTRIBUTE.size : position + length]
        if kind == _VIA:  # a gateway of the other family, behind two octets that name it
            value = value[2:]
        if kind in (_GATEWAY, _VIA) and len(value) in (4, 16):
            yield ip_address(value)
        elif kind == _MULTIPATH:
            yield from _hops(value)
        position += _aligned(length)


def _hops(value: bytes) -> Iterator[IpAddress]:
    position = 0
    while position + _HOP <= len(value):
        (length,) = _LENGTH.unpack_from(value, position)
        if length < _HOP:
            return
        yield from _gateways(value[position + _HOP : position + length])
        position += _aligned(length)


def _aligned(length: int) -> int:
    return length + 3 & ~3
