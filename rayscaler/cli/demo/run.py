"""The demo's course: start everything, watch from outside until the story is told, end everything."""

import asyncio
import contextlib
import statistics
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import grpc

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.api.head.v1 import head_pb2_grpc
from rayscaler.cli.demo import story
from rayscaler.cli.demo.evidence import Evidence
from rayscaler.cli.demo.loss import Loss, Moment
from rayscaler.cli.demo.tale import Tale
from rayscaler.cli.demo.view import View
from rayscaler.cli.demo.world import JOBS, World
from rayscaler.local.rundir import RunDir
from rayscaler.model.words import counted

LOOK_S = 0.25
"""Between two looks at `/proc`, at the run directory and at the service's status."""
POLL_S = 0.05
"""Between two looks at what was seen."""
HALFWAY_S = 60.0
"""Half of the workers must have joined so long after the job's submission."""
NOTICE_S = 0.5
"""A job whose head is gone mostly ends by itself when it meets the new one; it is ended so long after that."""
BACK_S = 90.0
"""The new head, and then all workers on it, must be there within this each."""
JOB_S = 150.0
"""The job must end within this of its second submission."""
SCALE_DOWN_S = 60.0
"""All workers must be gone this long after the job: idle timeout, drain and end."""
CLUSTER = "demo"
JOB, JOB_AGAIN = JOBS


class Demo:
    """One run of the demo."""

    def __init__(self, world: World, view: View, seed: int) -> None:
        self._world = world
        self._view = view
        self._seed = seed
        self._evidence = Evidence(world.mark)
        self._status = pb.ClusterStatus()
        self._tale: Tale | None = None

    async def run(self) -> bool:
        """Tell the story; return whether every step was seen outside rayscaler."""
        await self._start()
        async with contextlib.AsyncExitStack() as stack:
            for follower in (self._follow_table(), self._follow_status(), self._follow_processes()):
                task = asyncio.create_task(follower)
                stack.push_async_callback(_cancelled, task)
            tale = await self._lose_head()
            is_done = await self._run_job_again(tale) if tale is not None else False
            is_down = await self._scale_down() if is_done else False
        self._summary()
        return is_done and is_down

    async def _start(self) -> None:
        world, view = self._world, self._view
        pid = await world.start_service()
        view.step("service.up", f"service at {world.service} (pid {pid})", pid=pid, address=world.service, seed=self._seed)
        await world.start_head()
        self._evidence.look_at_processes()
        head = self._evidence.living_heads()[-1]
        text = f"real Ray head at {world.gcs} (pid {head.pid}, its GCS {head.gcs_pid}), 0 CPUs"
        view.step("head.up", text, head_pid=head.pid, gcs_pid=head.gcs_pid, gcs=world.gcs)
        pid = world.start_monitor(CLUSTER)
        view.step("monitor.up", f"monitor beside the head (pid {pid})", pid=pid)
        world.start_witness()

    async def _lose_head(self) -> Tale | None:
        """Submit the job, kill the head half-way up, and see the next one; return the tale so far, None if it ends there."""
        moment = Moment.drawn(self._seed)
        pid = self._world.start_job(JOB, self._seed)
        self._view.step("job.started", f"job submitted (pid {pid}, seed {self._seed})", pid=pid)
        async with _reading(self._read_job(JOB, HALFWAY_S + BACK_S)) as reading:
            if not await _until(lambda: reading.done() or moment.has_come(self._evidence, time.time()), HALFWAY_S) or reading.done():
                self._view.wrong(f"workers half-way up; the job's last words:\n{self._world.tail(JOB)}")
                return None
            await asyncio.sleep(moment.extra_s)
            self._tale = tale = await self._kill_head(moment)
            if not await _until(lambda: tale.loss.is_head_back(self._evidence), BACK_S):
                self._view.wrong(f"a new head; the end of its log:\n{self._world.tail('head')}")
                return None
            tale.head_back()
            ended_itself = await _until(reading.done, NOTICE_S)
            if not ended_itself:
                await self._world.give_up(JOB)
        text = "job: died with its head" if ended_itself else "job: waits for a head that is no more; ended, as its user would"
        self._view.step("job.lost", text, ended_itself=ended_itself)
        self._evidence.begin_job_anew()
        return tale

    async def _kill_head(self, moment: Moment) -> Tale:
        self._evidence.look_at_processes()
        loss = Loss.seen(self._evidence, time.time())
        killed = self._world.kill_head()
        tale = Tale(loss, self._evidence, self._view)
        tale.killed(moment, killed)
        await tale.waits(RunDir(self._world.run_dir), CLUSTER)
        return tale

    async def _run_job_again(self, tale: Tale) -> bool:
        """Submit the job again, see every worker on the new head, and see the job end."""
        pid = self._world.start_job(JOB_AGAIN, self._seed)
        self._view.step("job.resubmitted", f"job submitted again (pid {pid})", pid=pid)
        async with _reading(self._read_job(JOB_AGAIN, JOB_S)) as reading:
            is_back = await self._see_workers_back(tale)
            await reading
        return is_back and await self._judge_job(tale.loss)

    async def _see_workers_back(self, tale: Tale) -> bool:
        """See each worker join the new head; return whether all did, as they must: in place, and with nothing launched."""
        await _until(tale.workers_back, BACK_S)
        wrong = tale.loss.wrong(self._evidence)
        for each in wrong:
            self._view.wrong(each)
        if not wrong:
            tale.survived()
        return not wrong

    async def _read_job(self, name: str, within_s: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                async for line in self._world.lines(name):
                    self._evidence.take_job(line)
                    self._tell(line)

    async def _judge_job(self, loss: Loss) -> bool:
        await asyncio.sleep(4 * LOOK_S)  # the witness's next reading is after the last answer
        wrong = story.complete(self._evidence) + story.joined(self._evidence) + story.placed(self._evidence)
        wrong += loss.superfluous(self._evidence, story.used(self._evidence))
        for each in wrong:
            self._view.wrong(each)
        if wrong:
            self._view.wrong(f"the job's last words:\n{self._world.tail(JOB_AGAIN)}")
            return False
        workers = self._evidence.workers()
        self._view.step(
            "scaled.up",
            f"{counted(len(workers), 'worker')} in Ray's own node table, each with a process, ran everything",
            cluster_id=self._evidence.cluster_id,
            workers=[
                {
                    "instance": w.instance,
                    "node": w.node,
                    "type": w.node_type,
                    "pid": self._evidence.processes[w.instance].pid,
                    "joined_at": w.seen_at,
                }
                for w in workers
            ],
        )
        return True

    def _tell(self, line: dict[str, object]) -> None:
        step = str(line["step"])
        if step.endswith(".done") and "answers" in line:
            answers = line["answers"]
            nodes = {each["node"] for each in answers} if isinstance(answers, list) else set()
            self._view.step(
                f"job.{step}",
                f"job: {step.removesuffix('.done')} answered, {line['count']} from {counted(len(nodes), 'node')}",
                **line_facts(line),
            )
        elif step.endswith((".done", ".asked")):
            self._view.step(f"job.{step}", f"job: {step.replace('.', ' ')}", **line_facts(line))

    async def _scale_down(self) -> bool:
        await _until(lambda: not story.drained(self._evidence), SCALE_DOWN_S)
        wrong = story.drained(self._evidence)
        for each in wrong:
            self._view.wrong(each)
        if not wrong:
            workers = self._evidence.workers()
            ends = [
                {
                    "instance": w.instance,
                    "node": w.node,
                    "drained_at": w.ended_at,
                    "process_gone_at": self._evidence.processes[w.instance].gone_at,
                }
                for w in workers
            ]
            self._view.step("scaled.down", f"all {len(workers)} workers drained by Ray, then ended", workers=ends)
        return not wrong

    def _summary(self) -> None:
        evidence = self._evidence
        asked = {each.instance_id: each.at.ToNanoseconds() / 1e9 for each in self._status.actions if each.kind == "REQUESTED"}
        said = evidence.job_before + evidence.job
        first = min((each["at"] for each in said if each["step"].endswith((".submitted", ".asked"))), default=None)
        joins = self._joins(asked)
        reaction = min(asked.values()) - first if asked and first is not None else None
        launched = len(evidence.processes)
        needed = len({each.instance for each in evidence.workers() if each.node in story.used(evidence)})
        lost = sum(each.get("lost", 0) for each in evidence.job)
        head_back_s, backs = (None, {}) if self._tale is None else (self._tale.head_back_s, self._tale.backs)
        rows = [
            (
                "first work submitted to first launch",
                "-" if reaction is None else f"{reaction:.2f} s (Ray shows request_resources at once, tasks after about 1 s)",
            ),
            ("launch to joined, median and longest", _median_and_longest(joins)),
            ("head killed to new head", "-" if head_back_s is None else f"{head_back_s:.1f} s"),
            ("head killed to worker on the new head, median and longest", _median_and_longest(list(backs.values()))),
            ("nodes needed, launched", f"{needed}, {launched}"),
            ("tasks lost", str(lost)),
        ]
        self._view.summary(rows)
        self._view.step(
            "summary",
            "done",
            reaction_s=reaction,
            joins_s=joins,
            head_back_s=head_back_s,
            backs_s=backs,
            needed=needed,
            launched=launched,
            lost=lost,
        )

    def _joins(self, asked: dict[str, float]) -> list[float]:
        """Return how long each took to join that did before the head was killed."""
        nodes = {} if self._tale is None else self._tale.loss.nodes
        return [node.seen_at - asked[name] for name, node in nodes.items() if name in asked]

    async def _follow_table(self) -> None:
        async for reading in self._world.lines("witness"):
            self._evidence.take_table(reading)

    async def _follow_processes(self) -> None:
        while True:
            self._evidence.look_at_processes()
            self._evidence.look_at_records(self._world.run_dir / CLUSTER)
            await asyncio.sleep(LOOK_S)

    async def _follow_status(self) -> None:
        async with grpc.aio.insecure_channel(self._world.service) as channel:
            stub = head_pb2_grpc.HeadServiceStub(channel)
            while True:
                with contextlib.suppress(grpc.aio.AioRpcError):
                    answer = await stub.GetStatus(pb.GetStatusRequest(cluster=CLUSTER), timeout=2.0)
                    self._status = answer.clusters[0]
                    self._view.fleet(self._status)
                await asyncio.sleep(LOOK_S)


def line_facts(line: dict[str, object]) -> dict[str, object]:
    """Return what a line of the job says, under names that do not clash with a step's own."""
    return {("job_at" if key == "at" else key): value for key, value in line.items() if key != "step"}


def _median_and_longest(durations: list[float]) -> str:
    return f"{statistics.median(durations):.1f} s, {max(durations):.1f} s" if durations else "-"


async def _until(is_so: Callable[[], bool], within_s: float) -> bool:
    """Wait until something is so; return whether it came in time."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(within_s):
            while not is_so():  # noqa: ASYNC110 - /proc and Ray's table tell no one of their changes
                await asyncio.sleep(POLL_S)
            return True
    return False


@contextlib.asynccontextmanager
async def _reading(work: Coroutine[Any, Any, None]) -> "AsyncIterator[asyncio.Task[None]]":
    """Read beside what else is done; no longer than that."""
    task = asyncio.create_task(work)
    try:
        yield task
    finally:
        await _cancelled(task)


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def new_world(examples: Path) -> World:
    """Return a world in a folder of its own; its path is short because Ray puts unix sockets below it."""
    return World(
        base=Path(tempfile.mkdtemp(prefix="rs-")), definition=examples / "demo.yaml", examples=examples, mark=uuid.uuid4().hex[:12]
    )
