"""The rooms that touch the event loop are tested on both loops that Waypost runs on."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop

ON_BOTH_LOOPS = (
    "test_connection.py",
    "test_acceptor.py",
    "test_bus.py",
    "test_floods.py",
    "test_wake.py",
    "test_ending.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(item: pytest.Item) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    factories: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"asyncio": asyncio.new_event_loop}
    if item.path.name in ON_BOTH_LOOPS:
        factories["uvloop"] = uvloop.new_event_loop
    return factories
