"""What all tests of the monitor need."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from rayscaler.testing.fake_gcs import FakeGcs
from rayscaler.testing.loop_clock import LoopClock
from tests.monitor.doors import FakeService, World, running


@pytest.fixture(scope="session", autouse=True)
def _no_stray_event_loop() -> None:
    """Say that no loop is current, or looptime makes one for the first test without asyncio, which nobody closes."""
    asyncio.set_event_loop(None)


@pytest.fixture
async def begin() -> AsyncIterator[Callable[[], Awaitable[World]]]:
    """Starts a world; called by the test itself, since time is virtual there and not in fixtures."""
    async with contextlib.AsyncExitStack() as stack:

        async def begin() -> World:
            return await stack.enter_async_context(running(FakeGcs(LoopClock()), FakeService()))

        yield begin
