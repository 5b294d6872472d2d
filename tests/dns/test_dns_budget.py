"""What one piece of work may ask: so many questions, so many at once, for so long; what is known costs nothing."""

import asyncio

import dns.message
import pytest
from tests.dns.servers import FakeClock, ScriptedServer, answer, zone

from waypost.dns import DnsTemporary, OverBudget, QueryBudget, StubResolver


def budget(questions: int = 100, at_once: int = 100, seconds: float = 1000.0) -> QueryBudget:
    return QueryBudget(questions=questions, at_once=at_once, seconds=seconds, clock=FakeClock())


ZONE = zone({f"n{number}.test TXT": [f'n{number}.test. 60 IN TXT "{number}"'] for number in range(30)})


async def test_after_so_many_questions_no_further_one_is_asked() -> None:
    async with ScriptedServer(ZONE) as server:
        resolver = StubResolver([server.place], timeout=30)
        small = budget(3)
        for number in range(3):
            await resolver.txt(f"n{number}.test", small)
        with pytest.raises(OverBudget, match=r"TXT of n3\.test: one piece of work has asked too many questions"):
            await resolver.txt("n3.test", small)
        assert len(server.queries) == 3
        assert (await resolver.txt("n0.test", small)).records == (b"0",), "what is known costs nothing"
        assert (await resolver.txt("n3.test", budget())).records == (b"3",), "another piece of work has its own"
        await resolver.close()


async def test_each_step_along_aliases_is_a_question() -> None:
    chain = {f"a{number}.test A": [f"a{number}.test. 60 IN CNAME a{number + 1}.test."] for number in range(8)}
    async with ScriptedServer(zone({**chain, "a8.test A": ["a8.test. 60 IN A 192.0.2.1"]})) as server:
        resolver = StubResolver([server.place], timeout=30)
        with pytest.raises(OverBudget):
            await resolver.addresses("a0.test", budget(6))
        assert len(server.queries) == 6
        await resolver.close()


async def test_only_so_many_questions_are_on_the_wire_at_once() -> None:
    """The third is not sent before one of the first two is answered."""
    held: list[dns.message.Message] = []

    def script(query: dns.message.Message) -> list[dns.message.Message]:
        held.append(query)
        return []

    async with ScriptedServer(script) as server:
        resolver = StubResolver([server.place], timeout=30)
        pair = budget(at_once=2)
        asking = [asyncio.create_task(resolver.txt(f"n{number}.test", pair)) for number in range(5)]
        for answered in range(5):
            while len(held) <= answered:
                server.asked.clear()
                await server.asked.wait()
            assert len(held) <= answered + 2
            query, port = held[answered], server.ports[answered]
            wire = answer(query, f'{query.question[0].name} 60 IN TXT "x"').to_wire()
            server._datagrams.sendto(wire, ("127.0.0.1", port))
            await asyncio.wait(asking, return_when=asyncio.FIRST_COMPLETED)
        assert all(found.records == (b"x",) for found in await asyncio.gather(*asking))
        await resolver.close()


async def test_when_the_time_is_over_the_answer_is_temporary_and_comes_for_others() -> None:
    async with ScriptedServer(lambda query: []) as server:
        resolver = StubResolver([server.place], timeout=30)
        with pytest.raises(OverBudget, match="the time for all questions"):
            await resolver.txt("n0.test", budget(seconds=0.05))
        assert issubclass(OverBudget, DnsTemporary)
        other = asyncio.create_task(resolver.txt("n0.test"))
        await server.asked.wait()
        wire = answer(server.queries[0], 'n0.test. 60 IN TXT "late"').to_wire()
        server._datagrams.sendto(wire, ("127.0.0.1", server.ports[0]))
        assert (await other).records == (b"late",)
        await resolver.close()


async def test_who_waits_for_a_place_gives_up_when_the_time_is_over() -> None:
    async with ScriptedServer(lambda query: []) as server:
        resolver = StubResolver([server.place], timeout=30)
        one = budget(at_once=1, seconds=0.1)
        results = await asyncio.gather(
            *(resolver.txt(f"n{number}.test", one) for number in range(3)), return_exceptions=True
        )
        assert all(isinstance(result, OverBudget) for result in results)
        assert len({str(query.question[0].name) for query in server.queries}) == 1
        await resolver.close()
