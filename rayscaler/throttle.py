"""How fast something is done at most: the Pace door, and asyncio-throttle behind it.

asyncio-throttle lets waiters look again every so often, so only as many as may be in flight ever wait for it.
"""

import asyncio
from types import TracebackType
from typing import Protocol

from asyncio_throttle.throttler import Throttler

LOOK_S = 0.01
"""Between two looks of a waiter: a hundredth of the period that is counted."""


class Pace(Protocol):
    """`async with pace:` waits for its turn, and holds it until the block ends."""

    async def __aenter__(self) -> None:
        """Wait for a turn."""
        ...

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Give the turn back."""
        ...


class Throttle:
    """At most `per_second` turns begin in any second, and `in_flight` run at the same time; who came first is served first."""

    def __init__(self, *, per_second: int, in_flight: int) -> None:
        self._throttler = Throttler(rate_limit=per_second, period=1.0, retry_interval=LOOK_S)
        self._slots = asyncio.Semaphore(in_flight)

    async def __aenter__(self) -> None:
        """Wait for a turn."""
        await self._slots.acquire()
        try:
            await self._throttler.acquire()
        except BaseException:
            self._slots.release()
            raise

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Give the turn back."""
        self._slots.release()
