"""Assembly only: builds everything, hands every door in, creates every long-lived task and names it.

One end of a task ends the process: a service that has lost a part must be started again, not limp on.
"""

import asyncio
import gc
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

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
from rayscaler.reconciler.lastgood import opened
from rayscaler.reconciler.registry import Registry
from rayscaler.server.app import Server
from rayscaler.settings import ServiceSettings
from rayscaler.store.base import Definitions, Store
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
        kept: Definitions,
        clock: Clock,
    ) -> None:
        """Take definitions; those in files are followed, and what is good in them is kept."""
        self._executor = executor
        self._store = store
        self._kept = kept
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
            asyncio.create_task(guard(f"{own.name}'s definition", self._follow(file, own), self._ended), name=f"definition of {own.name}")
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
        if isinstance(definition, DefinitionFile):
            config, content_hash = definition.first.config, definition.first.content_hash
        else:
            config, content_hash = definition, ""
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

    async def _follow(self, file: DefinitionFile, own: ClusterReconciler) -> None:
        await follow(file, own, kept=self._kept, clock=self._clock, timings=self._timings)

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


async def serve(files: Sequence[Path], settings: ServiceSettings, on_listening: Callable[[int], None], warn: Callable[[str], None]) -> int:
    """Run the service with local workers until SIGINT or SIGTERM; return the exit code. Workers live on.

    Two services on one state directory would both own its workers: raises Busy. Raises InvalidRequest for files that have nothing to start
    with; what is wrong with one that starts as it was good last goes to `warn`.
    """
    calm_collector()
    with only_one(settings.state_dir / "service.lock", "another service"):
        store = SqliteStore(settings.state_dir / "record.sqlite")
        definitions = await opened(files, store)
        for each in definitions:
            _warn(each, warn)
        executor = LocalExecutor(SystemProcesses(), settings.run_dir)
        service = Service(definitions, settings, executor=executor, store=store, kept=store, clock=SystemClock())
        _on_signals(service.stop)
        return Exit.DONE if await service.run(on_listening) else Exit.FAILED


def _warn(file: DefinitionFile, warn: Callable[[str], None]) -> None:
    for problem in file.problems:
        warn(problem)
    if file.problems:
        warn(
            f"{file.path}: starts as it was good last, version {file.first.content_hash}; put the file right and it is taken, without a restart"
        )


def _on_signals(stop: Callable[[], None]) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
