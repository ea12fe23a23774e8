"""Observations handed to whoever watches a cluster. Knows no executor."""

import asyncio
from collections.abc import AsyncIterator
from weakref import WeakSet

from rayscaler.model.instance import InstanceObservation


class Feed:
    """Tells each watcher of a cluster everything from its first moment on; one that is forgotten is told nothing more."""

    def __init__(self) -> None:
        self._watches: dict[str, WeakSet[_Watch]] = {}

    def watch(self, cluster: str) -> AsyncIterator[InstanceObservation]:
        """Return what is told of the cluster from this call on."""
        watch = _Watch()
        self._watches.setdefault(cluster, WeakSet()).add(watch)
        return watch

    def tell(self, cluster: str, seen: InstanceObservation) -> None:
        """Tell every watcher of the cluster."""
        for watch in tuple(self._watches.get(cluster, ())):
            watch.tell(seen)


class _Watch:
    """What one watcher has not read yet."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[InstanceObservation] = asyncio.Queue()

    def tell(self, seen: InstanceObservation) -> None:
        self._queue.put_nowait(seen)

    def __aiter__(self) -> "_Watch":
        return self

    async def __anext__(self) -> InstanceObservation:
        return await self._queue.get()
