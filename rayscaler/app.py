"""Assembly only: builds everything, hands every door in, creates every long-lived task and names it.

One end of a task ends the process: a service that has lost a part must be started again, not limp on.
"""

import asyncio
import gc
import signal
from collections.abc import Callable, Sequence

import structlog

from rayscaler.cli.exits import Exit
from rayscaler.clock import Clock, SystemClock
from rayscaler.config.file import DefinitionFile
from rayscaler.executor.base import Executor
from rayscaler.local.executor import LocalExecutor
from rayscaler.local.parts import only_one
from rayscaler.local.processes import SystemProcesses
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.reconciler.cluster import ClusterReconciler
from rayscaler.reconciler.follow import follow
from rayscaler.reconciler.registry import Registry
from rayscaler.server.app import Server
from rayscaler.settings import ServiceSettings
from rayscaler.store.base import Store
from rayscaler.store.sqlite import SqliteStore
from rayscaler.tasks import guard

log = structlog.get_logger(__name__)

STOP_GRACE_S = 2.0
"""Calls under way at the stop get this long."""
DEFAULT_GCS_PORT = "6379"
"""Ray's default for `ray start --head --port`."""


class Service:
    """The service in one process: `run` returns when it is told to stop, or when a part of it ended."""

    def __init__(
        self,
        definitions: Sequence[ClusterConfig | DefinitionFile],
        settings: ServiceSettings,
        *,
        executor: Executor,
        store: Store,
        clock: Clock,
    ) -> None:
        """Take definitions; those in files are followed."""
        self._executor = executor
        self._store = store
        self._clock = clock
        self._timings = settings.timings
        self._reconcilers = [self._reconciler(each) for each in definitions]
        self._followed = [(each, own) for each, own in zip(definitions, self._reconcilers, strict=True) if isinstance(each, DefinitionFile)]
        self._server = Server(Registry(self._reconcilers), listen=settings.listen, max_message_bytes=settings.max_message_bytes)
        self._stop = asyncio.Event()
        self._failed: str | None = None

    async def run(self, on_listening: Callable[[int], None]) -> bool:
        """Serve until `stop`; return False if a part ended by itself. Order of the end: reports, cycles, executors, server."""
        tasks = [
            asyncio.create_task(guard(each.name, each.run(), self._ended), name=f"reconciler {each.name}") for each in self._reconcilers
        ]
        tasks += [
            asyncio.create_task(
                guard(f"{own.name}'s definition", follow(file, own, clock=self._clock, timings=self._timings), self._ended),
                name=f"definition of {own.name}",
            )
            for file, own in self._followed
        ]
        try:
            on_listening(await self._server.start())
            await self._stop.wait()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await self._server.stop(STOP_GRACE_S)
            await self._executor.close()
            await self._store.close()
        return self._failed is None

    def _reconciler(self, definition: ClusterConfig | DefinitionFile) -> ClusterReconciler:
        config, content_hash = (definition.config, definition.content_hash) if isinstance(definition, DefinitionFile) else (definition, "")
        made = ClusterReconciler(
            config,
            executor=self._executor,
            store=self._store,
            clock=self._clock,
            timings=self._timings,
            head_address=lambda: _local_head(made.config),
            definition_hash=content_hash,
        )
        return made

    def stop(self) -> None:
        """Ask `run` to return."""
        self._stop.set()

    def _ended(self, name: str) -> None:
        self._failed = name
        self.stop()


def _local_head(config: ClusterConfig) -> str:
    """Return where local workers find the cluster's GCS: this machine, at the definition's port."""
    return f"127.0.0.1:{dict(config.head.start_params).get('port', DEFAULT_GCS_PORT)}"


def calm_collector() -> None:
    """Keep the cyclic garbage collector from stopping a cycle: a report makes tens of thousands of values that hold no cycles.

    Full passes over them took up to 0.1 s, in the middle of planning. What lives from the start is left out for good.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 50, 100)


async def serve(definitions: Sequence[DefinitionFile], settings: ServiceSettings, on_listening: Callable[[int], None]) -> int:
    """Run the service with local workers until SIGINT or SIGTERM; return the exit code. Workers live on.

    Two services on one state directory would both own its workers: raises Busy.
    """
    calm_collector()
    with only_one(settings.state_dir / "service.lock", "another service"):
        return await _serve(definitions, settings, on_listening)


async def _serve(definitions: Sequence[DefinitionFile], settings: ServiceSettings, on_listening: Callable[[int], None]) -> int:
    executor = LocalExecutor(SystemProcesses(), settings.run_dir)
    store = SqliteStore(settings.state_dir / "record.sqlite")
    service = Service(definitions, settings, executor=executor, store=store, clock=SystemClock())
    _on_signals(service.stop)
    return Exit.DONE if await service.run(on_listening) else Exit.FAILED


def _on_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
