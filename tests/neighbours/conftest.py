"""The stage of the neighbours: one worker without limits on commands, its accounts, and the loop of workers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvloop
from tests.neighbours.frame import ALICE, BOB, CAROL, Work
from tests.security.live import Live, changed, host

from waypost.config.settings import ListenerProtocol, Submission

NO_LIMIT = 1_000_000_000
LIMITS = {"junk_commands": NO_LIMIT, "errors": NO_LIMIT, "transactions": NO_LIMIT, "recipients": 1000}


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loop of a test."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> Work:
    return Work(monkeypatch)


@pytest.fixture
async def opened(tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Opens the worker: `await opened(routes=…)`, with alice, bob and carol."""
    async with AsyncExitStack() as closing:

        async def open_(**parts: Any) -> Live:
            made = host(tmp_path, "here.test")
            listeners = made.settings.listeners
            pop3s = tuple(
                replace(one, protocol=ListenerProtocol.POP3S)
                for one in listeners
                if one.protocol is ListenerProtocol.POP3
            )
            unlimited = Submission(NO_LIMIT, NO_LIMIT, NO_LIMIT, NO_LIMIT)
            made = changed(made, limits=LIMITS, submission=unlimited, listeners=(*listeners, *pop3s))
            live = await closing.enter_async_context(changed(made, **parts))
            for address in (ALICE, BOB, CAROL):
                await live.account(address)
            return live

        yield open_


@pytest.fixture
async def live(opened: Callable[..., Any]) -> Live:
    made: Live = await opened()
    return made
