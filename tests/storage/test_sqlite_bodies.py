"""Bodies of the embedded engine: past a threshold they go to disk, and leave nothing there when they are discarded."""

import asyncio

import pytest
from tests.storage.letters import HEAD, Engine, Letters, files_in, stored

from waypost.storage import Expense, LimitReached, Storage, StorageError

LARGE = bytes(range(256)) * 1024  # four times the threshold of the tests


async def test_a_large_message_goes_to_disk_while_it_arrives(
    engine: Engine, storage: Storage, letters: Letters
) -> None:
    message = await letters.letter(LARGE, to=["bob@builder.test"])
    assert [name for name in files_in(engine.data) if name.startswith("arriving-")]
    await storage.spool.accept(message)
    message.body.discard()
    assert not [name for name in files_in(engine.data) if name.startswith("arriving-")]
    assert await stored(storage.spool, message.trace) == HEAD + LARGE


class TestBodies:
    """Bodies are used by three threads; their owner may go at any moment."""

    async def test_a_discarded_body_leaves_nothing(self, engine: Engine, letters: Letters) -> None:
        message = await letters.letter(LARGE)
        message.body.discard()
        message.body.discard()
        assert files_in(engine.data) == []

    async def test_a_message_whose_owner_is_cancelled_in_the_commit_is_whole(
        self, storage: Storage, letters: Letters
    ) -> None:
        for octets in (b"small", LARGE):
            message = await letters.letter(octets, to=["bob@builder.test"])
            accepting = asyncio.ensure_future(storage.spool.accept(message))
            await asyncio.sleep(0)
            accepting.cancel()
            message.body.discard()
            await letters.post(b"behind it")  # answered after it, but for a large one, which is flushed beside it
            await asyncio.gather(*storage.spool._writer._writing)  # type: ignore[attr-defined]
            assert await stored(storage.spool, message.trace) == HEAD + octets

    async def test_a_body_discarded_while_a_thread_writes_it_leaves_nothing(
        self, engine: Engine, storage: Storage
    ) -> None:
        body = storage.spool.new_body()
        writing = asyncio.ensure_future(body.write(LARGE))
        await asyncio.sleep(0)
        writing.cancel()
        body.discard()
        with pytest.raises(asyncio.CancelledError):
            await writing
        await asyncio.get_running_loop().run_in_executor(None, lambda: None)
        for _ in range(100):
            if not files_in(engine.data):
                break
            await asyncio.sleep(0.01)
        assert files_in(engine.data) == []

    async def test_nothing_is_accepted_after_close(self, engine: Engine, storage: Storage, letters: Letters) -> None:
        message = await letters.letter(LARGE, to=["bob@builder.test"])
        await engine.close()
        with pytest.raises(StorageError, match="closed"):
            await storage.spool.accept(message)
        message.body.discard()


async def test_a_large_message_past_a_limit_leaves_nothing_on_the_disk(engine: Engine, letters: Letters) -> None:
    await letters.post(to=["eve@elsewhere.test"])
    before = files_in(engine.data)
    with pytest.raises(LimitReached):
        await letters.post(
            b"x" * 200_000, to=["eve@elsewhere.test"], expense=Expense("bob@builder.test", 3, 2, 2, 2, 2)
        )
    assert files_in(engine.data) == before
