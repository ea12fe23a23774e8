"""The service on one machine: definitions in files, workers as processes or by way of plugins, the record in SQLite."""

from collections.abc import Callable, Sequence
from pathlib import Path

from rayscaler.app.executors import Executors
from rayscaler.app.process import Process
from rayscaler.app.service import Service
from rayscaler.app.webhook import Outward
from rayscaler.cli.exits import Exit
from rayscaler.clock import SystemClock
from rayscaler.config.executors import is_plugin
from rayscaler.config.file import DefinitionFile
from rayscaler.local.executor import LocalExecutor
from rayscaler.local.parts import only_one
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.processes import SystemProcesses
from rayscaler.reconciler.follow import follow
from rayscaler.reconciler.lastgood import opened
from rayscaler.server.app import Server
from rayscaler.settings import ServiceSettings
from rayscaler.store.sqlite import SqliteStore
from rayscaler.tasks import calm_collector

DEFAULT_GCS_PORT = "6379"
"""Ray's default for `ray start --head --port`."""
LOOPBACK = "127.0.0.1"


async def serve(files: Sequence[Path], settings: ServiceSettings, on_listening: Callable[[int], None], warn: Callable[[str], None]) -> int:
    """Run the service until SIGINT or SIGTERM; return the exit code. Workers live on.

    Two services on one state directory would both own its workers: raises Busy. Raises InvalidRequest for files that have nothing to start
    with; what is wrong with one that starts as it was good last goes to `warn`.
    """
    calm_collector()
    with only_one(settings.state_dir / "service.lock", "another service"):
        store, clock = SqliteStore(settings.state_dir / "record.sqlite"), SystemClock()
        definitions = await opened(files, store)
        for each in definitions:
            _warn(each, warn)
        executor = LocalExecutor(SystemProcesses(), settings.run_dir)
        process = Process()
        service = Service(process, settings.timings, executor=executor, store=store, clock=clock, outward=Outward(settings, clock))
        executors = Executors(settings, local=executor, own=process.own, clock=clock)
        for each in definitions:
            config = each.first.config
            own = service.add(config, content_hash=each.first.content_hash, head_address=head_address, executor=executors.of(config))
            process.own(f"definition of {own.name}", follow(each, own, kept=store, clock=clock, timings=settings.timings))
        process.stop_on_signals()
        server = Server(service.registry, listen=settings.listen, max_message_bytes=settings.max_message_bytes)
        try:
            return Exit.DONE if await service.run(server, on_listening) else Exit.FAILED
        finally:
            await executors.close()


def head_address(config: ClusterConfig) -> str:
    """Return where workers find the cluster's GCS: this machine, at the definition's port. Those of a plugin may run elsewhere."""
    told = dict(config.head.start_params)
    host = told.get("node-ip-address", LOOPBACK) if is_plugin(config.executor) else LOOPBACK
    return f"{host}:{told.get('port', DEFAULT_GCS_PORT)}"


def _warn(file: DefinitionFile, warn: Callable[[str], None]) -> None:
    for problem in file.problems:
        warn(problem)
    if file.problems:
        warn(
            f"{file.path}: starts as it was good last, version {file.first.content_hash}; put the file right and it is taken, without a restart"
        )
