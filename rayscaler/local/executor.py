"""LocalExecutor: each instance is a supervised `ray start` on this machine, in a session of its own. Knows nothing of demand or plans.

The supervisor (`rejoin.py`) keeps the worker with its cluster by itself; what it tells at its socket is the instance's phase.
One task owns each instance at any time: `_live` from launch to death, then, once asked, `_end`. The run directory is the memory:
an intent before the process, its identity after; an executor made later adopts what it finds there.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Coroutine, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import structlog

from rayscaler import rejoin
from rayscaler.clock import Clock, SystemClock
from rayscaler.errors import Conflict, NotFound, RayscalerError, Unavailable, Unsupported
from rayscaler.executor import exits
from rayscaler.executor.base import LaunchSpec
from rayscaler.executor.feed import Feed
from rayscaler.executor.record import spec_hash
from rayscaler.local import command, startup, supervisor
from rayscaler.local.rundir import Record, RunDir
from rayscaler.local.supervisor import Status
from rayscaler.model.instance import InstanceObservation, Phase, Size
from rayscaler.model.resources import Resources
from rayscaler.model.scheduling import GangScheduler, WantedGroup
from rayscaler.processes import Identity, Processes, end, end_stragglers
from rayscaler.throttle import Pace, Unpaced

log = structlog.get_logger(__name__)

MARK = "RAYSCALER_WORKER_LOG"
"""Variable that tells an instance's processes from all others: the path of its log."""


@dataclass(frozen=True)
class LocalTimings:
    """How the executor treats the machine; seconds."""

    starting_at_once: int = 1
    """More than one takes the lock of starts away. Ray 2.60 picks a raylet's socket name by looking which files exist, so two starts at once in one session directory get
    the same: one raylet aborts, and its `ray start` notices 33 s later. One start uses both cores of a small machine anyway.
    More are safe only where start parameters give each worker a temp-dir of its own."""
    start_slot_s: float = 60.0
    """A start that takes longer keeps going, but makes room for the next."""
    grace_s: float = 40.0
    """From SIGTERM to SIGKILL: Ray drains a busy node for up to 30 s, then ends its processes in up to 8 s."""
    starting_grace_s: float = 5.0
    """The same for a worker that is not up: it has no work, but a SIGTERM before it registered makes Ray wait out its 30 s."""


@dataclass
class _Worker:
    """An instance in memory; `task` owns it, `status` is its supervisor's last word."""

    record: Record
    phase: Phase
    task: asyncio.Task[None] | None = None
    status: Status | None = None
    was_up: bool = False

    def take(self, status: Status) -> None:
        """Take what its supervisor says; one that ends keeps its phase until it is gone."""
        self.status = status
        self.was_up |= status.phase is Phase.REGISTERING
        if self.phase is not Phase.ENDING and status.state != "ending":
            self.phase = status.phase

    @property
    def size(self) -> Size:
        brings = self.record.resized or self.record.spec.node_type.resources
        return Size(brings, brings)

    @property
    def is_drained(self) -> bool:
        return self.status is not None and self.status.detail == rejoin.DRAIN_DETAIL

    @property
    def detail(self) -> str:
        identity = self.record.identity
        if identity is None:
            return "waits for a start slot"
        says = "" if self.status is None or self.status.state == "running" else f"{self.status.state}: {self.status.detail}; "
        return f"{says}pid {identity.pid}, log {self.record.log_path}"


class LocalExecutor:
    """Launches and ends Ray workers on this machine; `root` is the run directory of this service alone."""

    def __init__(
        self,
        processes: Processes,
        root: Path,
        *,
        timings: LocalTimings | None = None,
        build: command.Builder = command.ray_worker,
        clock: Clock | None = None,
    ) -> None:
        self._processes = processes
        self._rundir = RunDir(root)
        self._timings = timings or LocalTimings()
        self._build = build
        self._clock = clock or SystemClock()
        self.pace: Pace = Unpaced()  # a launch only notes the intent; starts have slots of their own
        self._slots = asyncio.Semaphore(self._timings.starting_at_once)
        self._clusters: dict[str, dict[str, _Worker]] = {}
        self._feed = Feed()
        self._tasks: set[asyncio.Task[None]] = set()

    async def launch(self, spec: LaunchSpec) -> str:
        """Note the intent and queue the start; the command is built here too, so that a refusal is the answer."""
        workers = self._workers(spec.cluster)
        known = workers.get(spec.instance_id)
        if known is not None:
            if known.record.spec_hash != spec_hash(spec):
                raise Conflict(f"{spec.instance_id} exists with another spec; use a new instance_id")
            return spec.instance_id
        self._build(spec)
        record = Record(spec, self._rundir.log_path(spec.cluster, spec.instance_id))
        self._rundir.write(record)
        worker = workers[spec.instance_id] = _Worker(record, Phase.UNSCHEDULED)
        self._own(worker, self._live(worker))
        self._tell(worker)
        return spec.instance_id

    async def terminate(self, cluster: str, instance_id: str) -> None:
        """Begin the end: SIGTERM, on which Ray drains the node, and SIGKILL of the session after the grace."""
        worker = self._workers(cluster).get(instance_id)
        if worker is None or worker.phase is Phase.ENDING:
            return
        # Noted first: whoever reads the record after a crash goes on ending it.
        try:
            self._note(worker, is_ending=True)
        except Unavailable as error:
            # A full disk must not keep an instance alive; after a crash it is asked for again.
            log.warning("worker.end.unrecorded", cluster=cluster, instance_id=instance_id, error=str(error))
        worker.phase = Phase.ENDING
        self._own(worker, self._end(worker, worker.task))
        self._tell(worker)

    async def resize(self, cluster: str, instance_id: str, resources: Resources) -> None:
        """Note another size: a process has none but what its raylet is told, so that it brings at once what it is asked to."""
        worker = self._workers(cluster).get(instance_id)
        if worker is None:
            raise NotFound(f"{instance_id} is not there")
        if worker.size.asked != resources:
            self._note(worker, resized=resources)
            self._tell(worker)

    async def group(self, cluster: str, scheduler: GangScheduler, groups: Sequence[WantedGroup]) -> None:  # noqa: ARG002 - the form of an Executor
        """Refuse: a machine has no scheduler."""
        raise Unsupported(f"{cluster}: {scheduler.value} schedules pods, and these are processes")

    async def list(self, cluster: str) -> list[InstanceObservation]:
        """Tell every instance of the cluster that is not gone, also those begun by an earlier process."""
        return [self._observation(worker) for worker in self._workers(cluster).values()]

    def watch(self, cluster: str) -> AsyncIterator[InstanceObservation]:
        """Yield an observation at each change of phase, from this call on."""
        self._workers(cluster)
        return self._feed.watch(cluster)

    async def close(self) -> None:
        """Stop following; the workers live on, and queued ones are started by the next executor of this run directory."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _workers(self, cluster: str) -> dict[str, _Worker]:
        """Return the cluster's instances; at the first call, adopt those of the run directory."""
        workers = self._clusters.get(cluster)
        if workers is None:
            records = self._rundir.read(cluster)
            workers = self._clusters[cluster] = {}
            for record in records:
                self._adopt(workers, record)
        return workers

    def _adopt(self, workers: dict[str, _Worker], record: Record) -> None:
        """Take over an instance of an earlier process; one that has died meanwhile is cleaned up and never told."""
        if record.identity is None and (found := self._processes.find(_mark(record))):
            record = replace(record, identity=found)
            self._rundir.write(record)
        worker = _Worker(record, _phase(record))
        if record.identity is None or self._processes.is_alive(record.identity):
            status = None if record.identity is None else supervisor.peek(self._socket_path(record))
            if status is not None:
                worker.take(status)
            workers[record.spec.instance_id] = worker
            log.info("worker.adopted", cluster=record.spec.cluster, instance_id=record.spec.instance_id, detail=worker.detail)
            self._own(worker, self._end(worker, None) if record.is_ending else self._live(worker))
        else:
            self._rundir.remove(record, keep_log=not record.is_ending)
            self._own(worker, end_stragglers(self._processes, record.identity))

    async def _live(self, worker: _Worker) -> None:
        """Start the supervisor, or join one that runs; then pass on what it tells until it ends."""
        try:
            if worker.record.identity is None:
                async with self._slots:
                    await self._pass_on(worker, self._spawn(worker), slot_s=self._timings.start_slot_s)
            code = await self._await_end(worker)
        except RayscalerError as error:
            if worker.record.identity is not None:
                await end(self._processes, worker.record.identity, 0.0)
            self._gone(worker, "did not start", error=f"{error.name}: {error}")
            return
        what = "exited" if worker.was_up else "exited while it started"
        if code is None and worker.is_drained:
            code = rejoin.DRAINED
        end_of_log = "" if code == rejoin.DRAINED else startup.tail(worker.record.log_path)
        self._gone(worker, f"{what}, {exits.meaning(code)}", error=end_of_log)

    async def _await_end(self, worker: _Worker) -> int | None:
        identity = worker.record.identity
        if identity is None:
            return None
        code = await self._pass_on(worker, identity, slot_s=None)
        await end_stragglers(self._processes, identity)
        return code

    async def _pass_on(self, worker: _Worker, identity: Identity, *, slot_s: float | None) -> int | None:
        """Pass on what a supervisor tells until it ends; in a slot, at most until it needs that no more or has had it for long enough."""
        ended = asyncio.ensure_future(self._processes.wait(identity))
        told = asyncio.ensure_future(self._listen(worker, until_settled=slot_s is not None))
        try:
            await asyncio.wait({ended} if slot_s is None else {ended, told}, timeout=slot_s, return_when=asyncio.FIRST_COMPLETED)
            if not ended.done():
                return None
            await asyncio.wait({told}, timeout=supervisor.LAST_WORD_S)
            return ended.result()
        finally:
            ended.cancel()
            told.cancel()
            # Not `await ended`: its CancelledError could not be told from our own.
            await asyncio.wait({ended, told})

    async def _listen(self, worker: _Worker, *, until_settled: bool) -> None:
        async with contextlib.aclosing(supervisor.follow(self._socket_path(worker.record))) as statuses:
            async for status in statuses:
                worker.take(status)
                self._tell(worker)
                if until_settled and status.is_settled:
                    return

    def _socket_path(self, record: Record) -> Path:
        return self._rundir.socket_path(record.spec.cluster, record.spec.instance_id)

    def _spawn(self, worker: _Worker) -> Identity:
        """Start the process and note who it is: no await lies between, so no cancellation either."""
        spec, log_path = worker.record.spec, worker.record.log_path
        argv, env = self._build(spec)
        # Without the lock whoever says that several may start at once has given each a session directory of its own.
        lock_path = self._rundir.lock_path(spec.cluster) if self._timings.starting_at_once == 1 else None
        argv = supervisor.argv(argv, gcs=spec.head_address, socket_path=self._socket_path(worker.record), lock_path=lock_path)
        identity = self._processes.spawn(argv, env={**env, MARK: str(log_path)}, log_path=log_path, mark=_mark(worker.record))
        self._note(worker, identity=identity)
        worker.phase = Phase.STARTING
        self._tell(worker)
        log.info("worker.spawned", cluster=spec.cluster, instance_id=spec.instance_id, node_type=spec.node_type.name, pid=identity.pid)
        return identity

    async def _end(self, worker: _Worker, former: asyncio.Task[None] | None) -> None:
        """End the process after the former owner has let go of it; one that was never started is just dropped."""
        if former is not None:
            former.cancel()
            await asyncio.wait({former})
        identity = worker.record.identity
        if identity is None:
            self._gone(worker, "ended before it was started")
            return
        is_up = startup.has_started(worker.record.log_path)
        grace_s = self._timings.grace_s if is_up else self._timings.starting_grace_s
        enough = await end(self._processes, identity, grace_s)
        self._gone(worker, "ended" if enough else f"killed: it did not end within {grace_s:g} s")

    def _gone(self, worker: _Worker, detail: str, error: str = "") -> None:
        spec = worker.record.spec
        self._rundir.remove(worker.record, keep_log=bool(error))
        del self._clusters[spec.cluster][spec.instance_id]
        worker.phase = Phase.GONE
        log.info("worker.gone", cluster=spec.cluster, instance_id=spec.instance_id, detail=detail)
        self._tell(worker, detail, error)

    def _note(self, worker: _Worker, **changes: Any) -> None:
        worker.record = replace(worker.record, **changes)
        self._rundir.write(worker.record)

    def _own(self, worker: _Worker, work: Coroutine[Any, Any, None]) -> None:
        worker.task = asyncio.create_task(work, name=f"worker {worker.record.spec.instance_id}")
        self._tasks.add(worker.task)
        worker.task.add_done_callback(self._let_go)

    def _let_go(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("task.failed", task=task.get_name(), exc_info=error)

    def _tell(self, worker: _Worker, detail: str = "", error: str = "") -> None:
        self._feed.tell(worker.record.spec.cluster, self._observation(worker, detail, error))

    def _observation(self, worker: _Worker, detail: str = "", error: str = "") -> InstanceObservation:
        spec = worker.record.spec
        return InstanceObservation(
            instance_id=spec.instance_id,
            node_type=spec.node_type.name,
            external_id=spec.instance_id,
            phase=worker.phase,
            detail=detail or worker.detail,
            observed_at=self._clock.now(),
            error=error,
            made_as=spec.node_type,
            replica=spec.replica,
            host=spec.host,
            size=worker.size,
        )


async def terminate_all(processes: Processes, root: Path, grace_s: float) -> int:
    """End every instance of a run directory, whoever began it, and return how many; no executor may use it meanwhile."""
    rundir = RunDir(root)
    records = [record for cluster in rundir.clusters() for record in rundir.read(cluster)]

    async def finish(record: Record) -> None:
        identity = record.identity or processes.find(_mark(record))
        if identity is not None:
            await end(processes, identity, grace_s)
        rundir.remove(record, keep_log=False)

    async with asyncio.TaskGroup() as tasks:
        for record in records:
            tasks.create_task(finish(record), name=f"end {record.spec.instance_id}")
    return len(records)


def _mark(record: Record) -> str:
    """Return what stands in the environment of all processes of an instance, and of no other on this machine."""
    return f"{MARK}={record.log_path}"


def _phase(record: Record) -> Phase:
    if record.is_ending:
        return Phase.ENDING
    if record.identity is None:
        return Phase.UNSCHEDULED
    return Phase.REGISTERING if startup.has_started(record.log_path) else Phase.STARTING
