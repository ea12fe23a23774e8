"""Observations handed to whoever watches a cluster. Knows no executor."""

import asyncio
from collections.abc import AsyncIterator
from weakref import WeakSet

from rayscaler.errors import RayscalerError
from rayscaler.model.instance import InstanceObservation


class Feed:
    """Tells each watcher of a cluster everything from its first moment on; one that is forgotten is told nothing more."""

    def __init__(self) -> None:
        self._watches: dict[str, WeakSet[Reader]] = {}

    def watch(self, cluster: str) -> AsyncIterator[InstanceObservation]:
        """Return what is told of the cluster from this call on."""
        watch = Reader()
        self._watches.setdefault(cluster, WeakSet()).add(watch)
        return watch

    def tell(self, cluster: str, seen: InstanceObservation) -> None:
        """Tell every watcher of the cluster."""
        for watch in tuple(self._watches.get(cluster, ())):
            watch.tell(seen)


class Reader:
    """What one who watches has not read yet, and the error that ends it. Forgotten with whoever reads it."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[InstanceObservation | RayscalerError] = asyncio.Queue()

    def tell(self, told: InstanceObservation | RayscalerError) -> None:
        """Have it read a change, or why there are no more."""
        self._queue.put_nowait(told)

    def __aiter__(self) -> "Reader":
        return self

    async def __anext__(self) -> InstanceObservation:
        told = await self._queue.get()
        if isinstance(told, RayscalerError):
            self._queue.put_nowait(told)  # and again, whoever reads on
            raise told
        return told
