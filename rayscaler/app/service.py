"""The service: clusters that come and go, each with a task of its own, and the server before them."""

import asyncio
from collections.abc import Awaitable, Callable

from rayscaler.app.process import Process
from rayscaler.app.webhook import Outward
from rayscaler.clock import Clock
from rayscaler.executor import clearing
from rayscaler.executor.base import Executor
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.reconciler.cluster import ClusterReconciler, Shared
from rayscaler.reconciler.improver import ImproverProcess
from rayscaler.reconciler.registry import Registry
from rayscaler.server.app import Server
from rayscaler.settings import Timings
from rayscaler.store.base import Store

STOP_GRACE_S = 2.0
"""Calls under way at the stop get this long."""


class Service:
    """Keeps clusters: `run` returns when the process is told to stop, or when a part of it ended."""

    def __init__(self, process: Process, timings: Timings, *, executor: Executor, store: Store, clock: Clock, outward: Outward) -> None:
        self.registry = Registry()
        self._process = process
        self._timings = timings
        self._executor = executor
        self._store = store
        self._clock = clock
        self._of_cluster: dict[str, asyncio.Task[None]] = {}
        self._improver = ImproverProcess()
        self._outward = outward
        self._shared = Shared(improver=self._improver, has_webhook=outward.is_on)

    def add(
        self,
        config: ClusterConfig,
        *,
        content_hash: str = "",
        head_address: Callable[[ClusterConfig], str],
        served_head: Callable[[], str] = lambda: "",
        told: Callable[[], None] = lambda: None,
        executor: Executor | None = None,
    ) -> ClusterReconciler:
        """Begin to keep a cluster, with an executor of its own if it has one, which is then its giver's to close.

        `head_address` tells where workers find its GCS as it is defined at that time, `served_head` which incarnation alone is heard, if
        not every one; `told` is called when there may be news of it.
        """

        def tell() -> None:
            told()
            self._outward.note(made)

        made = ClusterReconciler(
            config,
            executor=executor or self._executor,
            store=self._store,
            clock=self._clock,
            timings=self._timings,
            head_address=lambda: head_address(made.config),
            served_head=served_head,
            definition_hash=content_hash,
            told=tell,
            shared=self._shared,
        )
        self.registry.add(made)
        self._of_cluster[made.name] = self._process.own(f"reconciler {made.name}", made.run())
        return made

    def remove(self, name: str) -> None:
        """Keep a cluster no more. What runs of it is left as it is."""
        self._outward.gone(self.registry.get(name))
        self.registry.remove(name)
        self._of_cluster.pop(name).cancel()

    async def clear(self, name: str, told: Callable[[str], None]) -> None:
        """End all instances of a cluster that is kept no more; return once there is none. `told` hears what is waited for."""
        await clearing.clear(name, self._executor, told, timings=self._timings, clock=self._clock)

    async def run(self, server: Server, on_listening: Callable[[int], None], *, ready: Callable[[], Awaitable[None]] | None = None) -> bool:
        """Serve, once `ready` returns; return False if a part ended by itself. Order of the end: reports, cycles, executors, server."""
        self._process.own("improver", self._improver.run())
        self._outward.begin(self._process)
        try:
            if ready is None or await self._process.lasts_until(ready):
                on_listening(await server.start())
                await self._process.until_stopped()
                if self._process.failed is None:
                    await self._outward.settle()
        finally:
            await self._process.end()
            await self._outward.close()
            await server.stop(STOP_GRACE_S)
            await self._executor.close()
            await self._store.close()
        return self._process.failed is None
