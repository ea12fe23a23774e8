"""The service in one process: a server, and clusters that come and go. One end of a part ends it all.

A service that has lost a part must be started again, not limp on.
"""

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from rayscaler.clock import Clock
from rayscaler.executor.base import Executor
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.reconciler.cluster import ClusterReconciler
from rayscaler.reconciler.registry import Registry
from rayscaler.server.app import Server
from rayscaler.settings import ServiceSettings
from rayscaler.store.base import Store
from rayscaler.tasks import guard

STOP_GRACE_S = 2.0
"""Calls under way at the stop get this long."""


class Service:
    """Owns the tasks of all parts: `run` returns when it is told to stop, or when a part of it ended."""

    def __init__(self, settings: ServiceSettings, *, executor: Executor, store: Store, clock: Clock) -> None:
        self.registry = Registry()
        self._executor = executor
        self._store = store
        self._clock = clock
        self._timings = settings.timings
        self._server = Server(self.registry, listen=settings.listen, max_message_bytes=settings.max_message_bytes)
        self._tasks: set[asyncio.Task[None]] = set()
        self._of_cluster: dict[str, asyncio.Task[None]] = {}
        self._stop = asyncio.Event()
        self._failed: str | None = None

    def add(self, config: ClusterConfig, *, content_hash: str = "", head_address: Callable[[ClusterConfig], str]) -> ClusterReconciler:
        """Begin to keep a cluster, with a task of its own; `head_address` tells where workers find its GCS as it is defined at that time."""
        made = ClusterReconciler(
            config,
            executor=self._executor,
            store=self._store,
            clock=self._clock,
            timings=self._timings,
            head_address=lambda: head_address(made.config),
            definition_hash=content_hash,
        )
        self.registry.add(made)
        self._of_cluster[made.name] = self.own(f"reconciler {made.name}", made.run())
        return made

    async def remove(self, name: str) -> None:
        """Keep a cluster no more. What runs of it is left as it is."""
        self.registry.remove(name)
        task = self._of_cluster.pop(name)
        task.cancel()
        await asyncio.wait({task})

    def own(self, name: str, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run a part that must not end: if it does, the service ends."""
        task = asyncio.create_task(guard(name, work, self.ended), name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def run(self, on_listening: Callable[[int], None]) -> bool:
        """Serve until `stop`; return False if a part ended by itself. Order of the end: reports, cycles, executors, server."""
        try:
            on_listening(await self._server.start())
            await self._stop.wait()
        finally:
            tasks = list(self._tasks)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._server.stop(STOP_GRACE_S)
            await self._executor.close()
            await self._store.close()
        return self._failed is None

    def stop(self) -> None:
        """Ask `run` to return."""
        self._stop.set()

    def ended(self, name: str) -> None:
        """Take the end of a part that should not have ended."""
        self._failed = name
        self.stop()


def stop_on_signals(stop: Callable[[], None]) -> None:
    """Have SIGINT and SIGTERM call `stop`."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)


def calm_collector() -> None:
    """Keep the cyclic garbage collector from stopping a cycle: a report makes tens of thousands of values that hold no cycles.

    Full passes over them took up to 0.1 s, in the middle of planning. What lives from the start is left out for good.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)
