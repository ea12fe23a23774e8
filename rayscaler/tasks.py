"""Owning tasks: eternal ones are guarded, what must be in time runs apart, processes are stopped by asking first, garbage is collected seldom."""

import asyncio
import gc
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Self, TypeVar

import structlog

log = structlog.get_logger(__name__)

T = TypeVar("T")


async def guard(name: str, work: Coroutine[Any, Any, None], on_end: Callable[[str], None]) -> None:
    """Run presumably eternal work; if it returns or raises, that is a bug: say so and call `on_end`, which ends the process."""
    try:
        await work
    except asyncio.CancelledError:
        raise
    except Exception:
        # Whatever it was, the task is gone: the log keeps the traceback, `on_end` the consequence.
        log.exception("task.failed", task=name)
    else:
        log.error("task.returned", task=name)
    on_end(name)


class News:
    """Wakes all who wait when there is something new; who comes later waits for the next. Look first, then wait, with nothing awaited between."""

    def __init__(self) -> None:
        self._next = asyncio.Event()

    def tell(self) -> None:
        """Wake all who wait."""
        self._next.set()
        self._next = asyncio.Event()

    async def wait(self) -> None:
        """Wait for what is told next."""
        await self._next.wait()


class Apart:
    """An event loop in a thread of its own, for what must be in time however busy ours is. What runs there stays there: its sockets are that loop's."""

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)

    async def __aenter__(self) -> Self:
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join)
        self._loop.close()

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run something there and return what it returns, or raise what it raises; cancelled with whoever waits."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


async def stop_gracefully(
    *, ask: Callable[[], None], wait: Callable[[], Awaitable[Any]], force: Callable[[], None], grace_s: float
) -> bool:
    """Ask something to end, wait `grace_s`, then force it and wait again; return whether asking was enough."""
    ask()
    try:
        async with asyncio.timeout(grace_s):
            await wait()
    except TimeoutError:
        force()
        await wait()
        return False
    return True


def calm_collector() -> None:
    """Keep the cyclic garbage collector from stopping all else.

    A report, or a call for a thousand instances, makes values by the ten thousand that hold no cycles. Full passes over them took up to 0.1 s, and one
    over the 100,000 and more that a thousand launches hold at once 0.04 s of their 0.45. What lives from the start is left out for good.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)
