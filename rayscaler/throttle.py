"""How fast something is done at most: the Pace door, and asyncio-throttle behind it.

asyncio-throttle lets waiters look again every so often, so only as many as may be in flight ever wait for it. Turns go round: a
cluster that wants a thousand does not keep another waiting that wants one.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from asyncio_throttle.throttler import Throttler

LOOK_S = 0.01
"""Between two looks of a waiter: a hundredth of the period that is counted."""


class Pace(Protocol):
    """Gives turns."""

    def turn(self, of: str) -> AbstractAsyncContextManager[None]:
        """Wait for a turn for `of`, such as a cluster, and hold it until the block ends."""
        ...


class Unpaced:
    """Every turn is at once: for what has nobody to spare."""

    def turn(self, of: str) -> AbstractAsyncContextManager[None]:  # noqa: ARG002 - the form of a Pace
        """Give a turn."""
        return contextlib.nullcontext()


class Throttle:
    """At most `per_second` turns begin in any second, and `in_flight` run at the same time; each `of` gets one in turn."""

    def __init__(self, *, per_second: int, in_flight: int) -> None:
        self._throttler = Throttler(rate_limit=per_second, period=1.0, retry_interval=LOOK_S)
        self._free = in_flight
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # in the order of their next turns

    @contextlib.asynccontextmanager
    async def turn(self, of: str) -> AsyncIterator[None]:
        """Wait for a turn and hold it until the block ends."""
        await self._wait(of)
        try:
            await self._throttler.acquire()
            yield
        finally:
            self._pass_on()

    async def _wait(self, of: str) -> None:
        if self._free:  # then nobody waits
            self._free -= 1
            return
        called: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(of, deque()).append(called)
        try:
            await called
        except asyncio.CancelledError:
            if called.done() and not called.cancelled():
                self._pass_on()  # called and cancelled in the same moment
            raise

    def _pass_on(self) -> None:
        """Call the next who still waits."""
        while self._waiting:
            of = next(iter(self._waiting))
            queue = self._waiting.pop(of)
            called = queue.popleft()
            if queue:
                self._waiting[of] = queue
            if not called.done():
                called.set_result(None)
                return
        self._free += 1
