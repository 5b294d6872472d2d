"""The PROXY protocol, versions 1 and 2 (HAProxy's proxy-protocol.txt): a load balancer says who the client really is.

Sans-IO: feed what may be looked at, take away what belonged to the header, never more. Only networks that the
configuration names are asked for a header, and then a connection without one is worth nothing.
"""

import re
import struct
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from waypost.config.settings import IpAddress

_SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
_START = b"PROXY "
_LONGEST_LINE = 107  # version 1, its CRLF included
_FIXED = 16  # version 2: signature, version and command, family, length
_LONGEST_REST = 4096  # addresses, and what load balancers add behind them
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
_LOCAL, _PROXY = 0x20, 0x21
_UNSPECIFIED, _TCP4, _TCP6 = 0x00, 0x11, 0x21


class ProxyError(Exception):
    """What came is no PROXY header, or a broken one; the message says what is wrong."""


@dataclass(frozen=True, slots=True)
class Ends:
    """The two ends of the connection that the client made."""

    source: IpAddress
    source_port: int
    destination: IpAddress
    destination_port: int


class ProxyHeader:
    """Reads one header. `done` says when it is complete; `ends` is None when it names nobody (LOCAL, UNKNOWN):
    then the connection's own ends count."""

    def __init__(self) -> None:
        self._buffer = b""
        self.done = False
        self.ends: Ends | None = None

    def feed(self, data: bytes) -> int:
        """Take octets; return how many of them belong to the header. Raises `ProxyError`, after which it is over."""
        if self.done or not data:
            return 0
        before = len(self._buffer)
        self._buffer = (self._buffer + data)[: _FIXED + _LONGEST_REST]
        if self._buffer[:1] == _START[:1]:
            end = self._line()
        else:
            end = self._block()
        self._buffer = self._buffer[:end]
        return len(self._buffer) - before

    def _line(self) -> int:
        """Version 1; returns how far the header reaches in the buffer."""
        _same_start(self._buffer, _START)
        line, found, _ = self._buffer[:_LONGEST_LINE].partition(b"\r\n")
        if b"\n" in line or (not found and len(self._buffer) >= _LONGEST_LINE):
            raise ProxyError("the line of version 1 does not end")
        if not found:
            return len(self._buffer)
        self.ends = _ends_of_line(line)
        self.done = True
        return len(line) + 2

    def _block(self) -> int:
        """Version 2; returns how far the header reaches in the buffer."""
        _same_start(self._buffer, _SIGNATURE)
        if len(self._buffer) < _FIXED:
            return len(self._buffer)
        command, family, length = struct.unpack_from("!BBH", self._buffer, len(_SIGNATURE))
        if command not in (_LOCAL, _PROXY):
            raise ProxyError(f"version and command {command:#04x} are unknown")
        if length > _LONGEST_REST:
            raise ProxyError(f"{length} octets of addresses are too many")
        end = _FIXED + length
        if len(self._buffer) < end:
            return len(self._buffer)
        if command == _PROXY:
            self.ends = _ends_of_block(family, self._buffer[_FIXED:end])
        self.done = True
        return int(end)


def _same_start(buffer: bytes, start: bytes) -> None:
    if not start.startswith(buffer[: len(start)]):
        raise ProxyError("the connection does not begin with a PROXY header")


def _ends_of_line(line: bytes) -> Ends | None:
    try:
        words = line.decode("ascii").split(" ")
    except UnicodeDecodeError:
        raise ProxyError("the line of version 1 is not ASCII") from None
    if words[1] == "UNKNOWN":
        return None
    kinds: dict[str, type[IPv4Address] | type[IPv6Address]] = {"TCP4": IPv4Address, "TCP6": IPv6Address}
    if words[1] not in kinds or len(words) != 6:
        raise ProxyError("the line of version 1 is malformed")
    kind = kinds[words[1]]
    try:
        return Ends(kind(words[2]), _port(words[4]), kind(words[3]), _port(words[5]))
    except AddressValueError as error:
        raise ProxyError(f"an address of version 1 is malformed: {error}") from None


def _port(text: str) -> int:
    if not _PORT.fullmatch(text) or int(text) > 0xFFFF:
        raise ProxyError("a port of version 1 is malformed")
    return int(text)


def _ends_of_block(family: int, rest: bytes) -> Ends | None:
    if family == _UNSPECIFIED:
        return None
    if family not in (_TCP4, _TCP6):
        raise ProxyError(f"address family {family:#04x} is not TCP over IPv4 or IPv6")
    layout = struct.Struct("!4s4sHH" if family == _TCP4 else "!16s16sHH")
    if len(rest) < layout.size:
        raise ProxyError("the addresses of version 2 are too short")
    source, destination, source_port, destination_port = layout.unpack_from(rest)
    kind = IPv4Address if family == _TCP4 else IPv6Address
    return Ends(kind(source), source_port, kind(destination), destination_port)
