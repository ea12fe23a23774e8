"""The process: tasks that must not end by themselves, and the word to stop. One end of a part ends it all.

A service that has lost a part must be started again, not limp on.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

from rayscaler.tasks import guard


class Process:
    """Owns the tasks of all parts."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()
        self._stop = asyncio.Event()
        self.failed: str | None = None
        """The part that ended by itself."""

    def own(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a part that must not end: if it does, the process stops."""
        task = asyncio.create_task(guard(name, work, self.ended), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def ended(self, name: str) -> None:
        """Take the end of a part that should not have ended."""
        self.failed = name
        self.stop()

    def stop(self) -> None:
        """Ask the process to stop."""
        self._stop.set()

    def stop_on_signals(self) -> None:
        """Have SIGINT and SIGTERM ask for it."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.stop)

    async def until_stopped(self) -> None:
        """Wait until it was asked to stop."""
        await self._stop.wait()

    async def lasts_until(self, ready: Callable[[], Awaitable[None]]) -> bool:
        """Wait for `ready`, or until asked to stop; return whether it was the former."""
        waits = [asyncio.ensure_future(each) for each in (ready(), self._stop.wait())]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for each in waits:
            each.cancel()
        return not self._stop.is_set()

    async def end(self) -> None:
        """End every part."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
