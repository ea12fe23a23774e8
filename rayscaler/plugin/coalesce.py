"""Calls for single instances that begin in one turn of the event loop go out together. Knows no method."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

from rayscaler.errors import RayscalerError

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


class Coalesced(Generic[Item, Outcome]):
    """Sends items by cluster with `send`, which returns the outcome of each, by its key; one that is an error is raised at its caller.

    Each call waits for `ready` first; who has given up by then is not sent.
    """

    def __init__(
        self,
        ready: Callable[[str], Awaitable[None]],
        send: Callable[[str, Mapping[str, Item]], Awaitable[Mapping[str, Outcome | RayscalerError]]],
        name: str,
    ) -> None:
        self._ready = ready
        self._send = send
        self._name = name
        self._waiting: dict[str, dict[str, tuple[Item, asyncio.Future[Outcome]]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def call(self, cluster: str, key: str, item: Item) -> Outcome:
        """Return the item's outcome, or raise it."""
        loop = asyncio.get_running_loop()
        if key in self._waiting.get(cluster, ()):
            self._flush(cluster)  # the same once more is another call
        waiting = self._waiting.setdefault(cluster, {})
        if not waiting:
            loop.call_soon(self._flush, cluster)
        future: asyncio.Future[Outcome] = loop.create_future()
        waiting[key] = (item, future)
        return await future

    async def close(self) -> None:
        """End the calls under way; whoever waits is cancelled."""
        for _, future in (each for waiting in self._waiting.values() for each in waiting.values()):
            future.cancel()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _flush(self, cluster: str) -> None:
        if waiting := self._waiting.pop(cluster, {}):
            task = asyncio.create_task(self._settle(cluster, waiting), name=f"{self._name} of {len(waiting)} in {cluster}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _settle(self, cluster: str, waiting: Mapping[str, tuple[Item, asyncio.Future[Outcome]]]) -> None:
        """Have every future done, whatever happens."""
        try:
            await self._ready(cluster)
            wanted = {key: item for key, (item, future) in waiting.items() if not future.done()}
            outcomes = await self._send(cluster, wanted) if wanted else {}
            for key in wanted:
                outcome, future = outcomes[key], waiting[key][1]
                if future.done():
                    continue
                if isinstance(outcome, RayscalerError):
                    future.set_exception(outcome)
                else:
                    future.set_result(outcome)
        except Exception as error:  # noqa: BLE001 - raised at every caller
            for _, future in waiting.values():
                if not future.done():
                    future.set_exception(error)
        finally:
            for _, future in waiting.values():
                future.cancel()
