"""The demo's course: start everything, watch from outside until the story is told, end everything."""

import asyncio
import contextlib
import statistics
import tempfile
import uuid
from pathlib import Path

import grpc

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.api.head.v1 import head_pb2_grpc
from rayscaler.cli.demo import story
from rayscaler.cli.demo.evidence import Evidence
from rayscaler.cli.demo.view import View
from rayscaler.cli.demo.world import World

LOOK_S = 0.25
"""Between two looks at `/proc` and at the service's status."""
JOB_S = 150.0
"""The job must end within this."""
SCALE_DOWN_S = 60.0
"""All workers must be gone this long after the job: idle timeout, drain and end."""
CLUSTER = "demo"


class Demo:
    """One run of the demo."""

    def __init__(self, world: World, view: View, seed: int) -> None:
        self._world = world
        self._view = view
        self._seed = seed
        self._evidence = Evidence(world.mark)
        self._status = pb.ClusterStatus()

    async def run(self) -> bool:
        """Tell the story; return whether every step was seen outside rayscaler."""
        await self._start()
        async with contextlib.AsyncExitStack() as stack:
            for follower in (self._follow_table(), self._follow_status(), self._follow_processes()):
                task = asyncio.create_task(follower)
                stack.push_async_callback(_cancelled, task)
            is_done = await self._run_job()
            is_down = await self._scale_down() if is_done else False
        self._summary()
        return is_done and is_down

    async def _start(self) -> None:
        world, view = self._world, self._view
        pid = await world.start_service()
        view.step("service.up", f"service at {world.service} (pid {pid})", pid=pid, address=world.service, seed=self._seed)
        pid = await world.start_head()
        view.step("head.up", f"real Ray head at {world.gcs} (pid {pid}), 0 CPUs", head_pid=pid, gcs=world.gcs)
        pid = world.start_monitor(CLUSTER)
        view.step("monitor.up", f"monitor beside the head (pid {pid})", pid=pid)
        world.start_witness()

    async def _run_job(self) -> bool:
        pid = self._world.start_job(self._seed)
        self._view.step("job.started", f"job submitted (pid {pid}, seed {self._seed})", pid=pid)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(JOB_S):
                async for line in self._world.lines("job"):
                    self._evidence.take_job(line)
                    self._tell(line)
        await asyncio.sleep(4 * LOOK_S)  # the witness's next reading is after the last answer
        wrong = story.complete(self._evidence) + story.joined(self._evidence) + story.placed(self._evidence)
        for each in wrong:
            self._view.wrong(each)
        if wrong:
            self._view.wrong(f"the job's last words:\n{self._world.tail('job')}")
            return False
        workers = self._evidence.workers()
        self._view.step(
            "scaled.up",
            f"{len(workers)} workers in Ray's own node table, each with a process, ran everything",
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
                f"job.{step}", f"job: {step.removesuffix('.done')} answered, {line['count']} from {len(nodes)} nodes", **line_facts(line)
            )
        elif step.endswith((".done", ".asked")):
            self._view.step(f"job.{step}", f"job: {step.replace('.', ' ')}", **line_facts(line))

    async def _scale_down(self) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SCALE_DOWN_S):
                while story.drained(self._evidence):  # noqa: ASYNC110 - /proc tells no one of its changes
                    await asyncio.sleep(LOOK_S)
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
        first = min((each["at"] for each in evidence.job if each["step"].endswith((".submitted", ".asked"))), default=None)
        joins = [each.seen_at - asked[each.instance] for each in evidence.workers() if each.instance in asked]
        reaction = min(asked.values()) - first if asked and first is not None else None
        launched = len(evidence.processes)
        needed = len(story.used(evidence))
        lost = sum(each.get("lost", 0) for each in evidence.job)
        rows = [
            (
                "first work submitted to first launch",
                "-" if reaction is None else f"{reaction:.2f} s (Ray shows placement groups at once, tasks after about 1 s)",
            ),
            ("launch to joined, median and longest", f"{statistics.median(joins):.1f} s, {max(joins):.1f} s" if joins else "-"),
            ("nodes needed, launched", f"{needed}, {launched}"),
            ("tasks lost", str(lost)),
        ]
        self._view.summary(rows)
        self._view.step("summary", "done", reaction_s=reaction, joins_s=joins, needed=needed, launched=launched, lost=lost)

    async def _follow_table(self) -> None:
        async for reading in self._world.lines("witness"):
            self._evidence.take_table(reading)

    async def _follow_processes(self) -> None:
        while True:
            self._evidence.look_at_processes()
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


async def _cancelled(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def new_world(examples: Path) -> World:
    """Return a world in a folder of its own; its path is short because Ray puts unix sockets below it."""
    return World(
        base=Path(tempfile.mkdtemp(prefix="rs-")), definition=examples / "demo.yaml", examples=examples, mark=uuid.uuid4().hex[:12]
    )
