"""The lab's name server answers as an authoritative server should, to a resolver that is not ours."""

from collections.abc import AsyncIterator

import dns.asyncquery
import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import pytest

from waypost.lab.names import LabNameServer

ADDRESS = "127.0.9.1"
LONG = "\n".join(f"big IN A 10.0.{number // 250}.{number % 250}" for number in range(300))
BUILDER = f"@ IN MX 10 mx\nmx IN A 127.0.0.12\nwww IN CNAME mx\ndeep.down IN A 127.0.0.9\n{LONG}"


@pytest.fixture
async def port() -> AsyncIterator[int]:
    server = LabNameServer(
        {
            "builder.test": BUILDER,
            "nomail.test": "@ IN MX 0 .",
        }
    )
    port = await server.start(ADDRESS, 0)
    yield port
    await server.stop()


async def ask(port: int, name: str, kind: str, *, tcp: bool = False) -> dns.message.Message:
    query = dns.message.make_query(name, kind)
    transport = dns.asyncquery.tcp if tcp else dns.asyncquery.udp
    return await transport(query, ADDRESS, port=port, timeout=5)


async def test_the_mx_of_a_domain_is_answered_with_authority(port: int) -> None:
    answer = await ask(port, "builder.test", "MX")
    assert answer.flags & dns.flags.AA
    assert [record.to_text() for record in answer.answer[0]] == ["10 mx.builder.test."]


async def test_a_null_mx_is_answered(port: int) -> None:
    answer = await ask(port, "nomail.test", "MX")
    assert [record.to_text() for record in answer.answer[0]] == ["0 ."]


async def test_a_cname_is_followed_within_the_zone(port: int) -> None:
    answer = await ask(port, "www.builder.test", "A")
    assert [rrset.rdtype for rrset in answer.answer] == [dns.rdatatype.CNAME, dns.rdatatype.A]


async def test_unknown_names_do_not_exist_and_empty_ones_do(port: int) -> None:
    assert (await ask(port, "no.builder.test", "A")).rcode() == dns.rcode.NXDOMAIN
    assert (await ask(port, "elsewhere.test", "MX")).rcode() == dns.rcode.NXDOMAIN
    empty = await ask(port, "down.builder.test", "A")
    assert empty.rcode() == dns.rcode.NOERROR and not empty.answer


async def test_a_large_answer_is_truncated_over_udp_and_whole_over_tcp(port: int) -> None:
    assert (await ask(port, "big.builder.test", "A")).flags & dns.flags.TC
    whole = await ask(port, "big.builder.test", "A", tcp=True)
    assert len(whole.answer[0]) == 300


def test_rubbish_gets_no_answer() -> None:
    assert LabNameServer({}).respond(b"\x00\x01") is None
