"""The PROXY header names the real client, however it is split, and nothing else passes for one."""

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waypost.service.sockets.proxy import Ends, ProxyError, ProxyHeader

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
ENDS4 = Ends(ip_address("192.0.2.7"), 4711, ip_address("198.51.100.1"), 25)
ENDS6 = Ends(ip_address("2001:db8::7"), 4711, ip_address("2001:db8::1"), 25)


def block(ends: Ends, *, extra: bytes = b"", command: int = 0x21) -> bytes:
    family = 0x11 if ends.source.version == 4 else 0x21
    rest = ends.source.packed + ends.destination.packed + struct.pack("!HH", ends.source_port, ends.destination_port)
    return SIGNATURE + struct.pack("!BBH", command, family, len(rest + extra)) + rest + extra


HEADERS = {
    b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\r\n": ENDS4,
    b"PROXY TCP6 2001:db8::7 2001:db8::1 4711 25\r\n": ENDS6,
    b"PROXY UNKNOWN\r\n": None,
    b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n": None,
    block(ENDS4): ENDS4,
    block(ENDS6): ENDS6,
    block(ENDS6, extra=b"\x02\x00\x0bexample.org"): ENDS6,
    block(ENDS4, command=0x20): None,
    SIGNATURE + b"\x21\x00\x00\x00": None,
    SIGNATURE + b"\x20\x31\x00\x02xx": None,
}


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_is_read_and_nothing_behind_it_is_taken(header: bytes) -> None:
    reader = ProxyHeader()
    assert reader.feed(header + b"EHLO there\r\n") == len(header)
    assert reader.done
    assert reader.ends == HEADERS[header]
    assert reader.feed(b"more") == 0


@given(st.sampled_from(list(HEADERS)), st.lists(st.integers(1, 40)), st.binary(max_size=50))
def test_any_split_reads_the_same(header: bytes, steps: list[int], behind: bytes) -> None:
    reader, stream = ProxyHeader(), header + behind
    position = 0
    for step in [*steps, *[1] * len(stream)]:
        position += reader.feed(stream[position : position + step])
        if reader.done:
            break
    assert position == len(header)
    assert reader.ends == HEADERS[header]


@pytest.mark.parametrize(
    "wrong",
    [
        b"EHLO there\r\n",
        b"PRO\r\n",
        b"proxy TCP4 192.0.2.7 198.51.100.1 4711 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711\r\n",
        b"PROXY UNKNOWN \n\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25 7\r\n",
        b"PROXY TCP4 192.0.2.7  198.51.100.1 4711 25\r\n",
        b"PROXY TCP4 192.0.2.007 198.51.100.1 4711 25\r\n",
        b"PROXY TCP4 2001:db8::7 2001:db8::1 4711 25\r\n",
        b"PROXY TCP6 192.0.2.7 198.51.100.1 4711 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 65536 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 +1 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 01 25\r\n",
        b"PROXY TCP4 192.0.2.7 198.51.100.1 4711 25\n",
        b"PROXY UDP4 192.0.2.7 198.51.100.1 4711 25\r\n",
        b"PROXY TCP4 192.0.2.\xb2 198.51.100.1 4711 25\r\n",
        b"PROXY UNKNOWN " + b"x" * 200,
        SIGNATURE + b"\x11\x11\x00\x00",
        SIGNATURE + b"\x22\x11\x00\x00",
        SIGNATURE + b"\x21\x11\x00\x0bxxxxxxxxxxx",
        SIGNATURE + b"\x21\x31\x00\x00",
        SIGNATURE + b"\x21\x11\xff\xff",
        b"\r\n\r\n\x00\r\nQUIX",
    ],
)
def test_what_is_no_header_is_refused(wrong: bytes) -> None:
    with pytest.raises(ProxyError):
        ProxyHeader().feed(wrong)


@given(st.lists(st.binary(max_size=200)))
def test_no_octets_crash_it_or_make_it_grow(parts: list[bytes]) -> None:
    reader = ProxyHeader()
    taken = 0
    try:
        for part in parts:
            count = reader.feed(part)
            assert 0 <= count <= len(part)
            taken += count
    except ProxyError:
        pass
    assert taken <= 16 + 4096
