"""`rayscaler demo` on the real thing: its steps are what Ray and /proc show, and at whatever moment it is told to end, nothing is left."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from rayscaler.processes import Identity
from tests.counts import counted
from tests.ray.workers import Workers, environ_of, marked

pytestmark = pytest.mark.tier("ray")

MARK = "RAYSCALER_WHOLE"
PATIENCE_S = 300.0
PARTS = {"tasks", "actors", "strict_spread", "pack", "floor"}


class Demo:
    """A running demo: its lines so far, and its workers as /proc shows them."""

    def __init__(self, process: asyncio.subprocess.Process, base: Path) -> None:
        self.process = process
        self.base = base
        self.mark = f"{MARK}={base.name}"
        self.workers = Workers(self.mark)
        self.lines: list[dict[str, Any]] = []

    async def read(self) -> None:
        """Read its lines to their end."""
        assert self.process.stdout is not None
        async for line in self.process.stdout:
            self.lines.append(json.loads(line))

    def step(self, name: str) -> dict[str, Any] | None:
        """Return a step's line, if it has come."""
        return next((each for each in self.lines if each["step"] == name), None)

    async def until(self, is_so: Callable[["Demo"], Any]) -> None:
        """Wait until something is so."""
        async with asyncio.timeout(PATIENCE_S):
            while not is_so(self):
                assert self.process.returncode is None, self.said()
                self.workers.look()
                await asyncio.sleep(0.1)

    async def end(self) -> int:
        """Wait for its end, all the while looking at the workers."""
        async with asyncio.timeout(PATIENCE_S):
            while self.process.returncode is None:
                self.workers.look()
                await asyncio.sleep(0.1)
        return self.process.returncode

    def said(self) -> str:
        """Return all it printed, for a diagnosis."""
        return "\n".join(map(str, self.lines)) + "\n" + (self.base / "stderr").read_text()


@contextlib.asynccontextmanager
async def running_demo(*flags: str) -> AsyncIterator[Demo]:
    """Run `rayscaler demo --json` at the head of a session of its own, as at a terminal; all it starts inherits a mark."""
    base = Path(tempfile.mkdtemp(prefix="d", dir="/tmp"))
    try:
        with (base / "stderr").open("wb") as stderr:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                *("-m", "rayscaler", "demo", "--json", *flags),
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
                env={**os.environ, MARK: base.name, "TMPDIR": str(base)},
                start_new_session=True,
                limit=1 << 24,
            )
        demo = Demo(process, base)
        reading = asyncio.create_task(demo.read())
        try:
            yield demo
            await reading
        finally:
            reading.cancel()
            await asyncio.wait({reading})
            _kill(demo)
            await process.wait()
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _kill(demo: Demo) -> None:
    """End what a demo that failed its test has left."""
    while left := marked(demo.mark):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if demo.process.pid in left:
            return


async def test_the_demo_exits_0_and_its_steps_are_what_was_seen_outside():
    async with running_demo("--seed", "3") as demo:
        await demo.until(lambda demo: demo.step("head.up"))
        head = demo.step("head.up")
        environ = environ_of(head["head_pid"])
        assert demo.mark.encode() in environ, "the head's pid is that of a process that the demo started"
        await demo.until(lambda demo: demo.step("head.killed"))
        before, launched_before = supervisors(demo), set(demo.workers.seen)
        await demo.until(lambda demo: demo.step("head.back"))
        heads = gcs_pids(demo.mark)
        await demo.until(lambda demo: demo.step("head.survived"))
        survived_at = demo.step("head.survived")["at"]  # a worker that comes just after it may be seen before its line is read
        launched_after = {name for name, each in demo.workers.seen.items() if each.seen_at <= survived_at}
        after = {name: identity for name, identity in supervisors(demo).items() if name in launched_after}
        code = await demo.end()
        demo.workers.look()
    assert code == 0, demo.said()
    at = [each["at"] for each in demo.lines]
    assert at == sorted(at)
    assert {each["step"].removeprefix("job.").removesuffix(".done") for each in demo.lines} >= PARTS
    up, down, summary = demo.step("scaled.up"), demo.step("scaled.down"), demo.step("summary")
    assert {each["instance"]: each["pid"] for each in up["workers"]}.items() <= {
        instance: seen.identity.pid for instance, seen in demo.workers.seen.items()
    }.items(), "its pids are those of /proc"
    answers = {answer["node"] for line in demo.lines for answer in line.get("answers", ())}
    assert answers <= {each["node"] for each in up["workers"]}
    assert {each["instance"] for each in down["workers"]} >= {each["instance"] for each in up["workers"]}
    assert all(each["drained_at"] <= each["process_gone_at"] for each in down["workers"])
    assert summary["lost"] == 0
    assert not marked(demo.mark)
    check_head_loss(demo)
    assert heads == {demo.step("head.back")["gcs_pid"]} != {head["gcs_pid"]}, "the GCS in /proc is the one that it tells, and a new one"
    recorded = {each["instance"] for each in demo.step("head.killed")["workers"]}
    assert before.items() <= after.items(), "each supervisor of before the kill is there after it"
    assert launched_before <= launched_after == recorded, "nothing was launched but what was recorded before"
    backs = {each["instance"]: each["supervisor_pid"] for each in demo.lines if each["step"] == "worker.back"}
    assert backs == {name: identity.pid for name, identity in after.items()}
    print({key: summary[key] for key in ("reaction_s", "needed", "launched", "lost")}, "workers seen in /proc:", len(demo.workers.seen))


def check_head_loss(demo: Demo) -> None:
    """Check what its lines say of the head's loss against each other: pids, cluster ids, node ids."""
    killed, back, survived, up = (demo.step(name) for name in ("head.killed", "head.back", "head.survived", "scaled.up"))
    assert killed["head_pid"] == demo.step("head.up")["head_pid"]
    assert survived["head_pids"] == [killed["head_pid"], back["head_pid"]]
    assert len(set(survived["head_pids"])) == 2
    assert survived["cluster_ids"] == [killed["cluster_id"], back["cluster_id"]]
    assert up["cluster_id"] == back["cluster_id"] != killed["cluster_id"]
    assert survived["launches_between"] == 0
    workers = {each["instance"]: each for each in killed["workers"]}
    backs = {each["instance"]: each for each in demo.lines if each["step"] == "worker.back"}
    joined = [name for name, each in workers.items() if each["node"]]
    assert 0 < len(joined) < len(workers) == survived["launched_before"], "half-way up"
    assert any(each["busy"] for each in workers.values())
    assert backs.keys() == workers.keys()
    for name in joined:
        assert backs[name]["node_before"] == workers[name]["node"] != backs[name]["node"]
        assert backs[name]["supervisor_pid"] == workers[name]["supervisor_pid"]
    # One more may come after that: a group that is asked for before Ray shows the last one's room as free.
    assert {name: each["node"] for name, each in backs.items()}.items() <= {
        each["instance"]: each["node"] for each in up["workers"]
    }.items()


def supervisors(demo: Demo) -> dict[str, Identity]:
    """Return who leads each worker's session now."""
    demo.workers.look()
    return {each.instance_id: each.identity for each in demo.workers.alive()}


def gcs_pids(mark: str) -> set[int]:
    """Return the GCSs that run, by their executable."""
    return {pid for pid, line in marked(mark).items() if line.split(" ", 1)[0].endswith("/gcs_server")}


MOMENTS: dict[str, Callable[[Demo], Any]] = {
    "the head starts": lambda demo: demo.step("service.up"),
    "workers start": lambda demo: demo.workers.alive(),
    "the head is dead": lambda demo: demo.step("head.killed"),
    "workers rejoin": lambda demo: demo.step("worker.back"),
    "the job runs": lambda demo: any(each["step"].endswith(".done") for each in demo.lines),
}


BOTH = (signal.SIGINT, signal.SIGTERM)
ONE = {"workers start": BOTH[1:], "the head is dead": BOTH[:1], "workers rejoin": BOTH[1:], "the job runs": BOTH[:1]}
"""Moments of which one signal each is enough: the way to them is long, and both signals take the same path. The soak has both everywhere."""
TOLD = [(number, moment) for moment in MOMENTS for number in counted(gate=ONE, full={}).get(moment, BOTH)]


@pytest.mark.parametrize(("number", "moment"), TOLD, ids=[f"{number.name}-{moment}" for number, moment in TOLD])
async def test_told_to_end_while(number, moment):
    async with running_demo("--seed", "5") as demo:
        await demo.until(MOMENTS[moment])
        running = marked(demo.mark)
        os.killpg(demo.process.pid, number)  # as a terminal does: to the whole foreground group
        code = await demo.end()
        left = marked(demo.mark)
    assert code == 130, demo.said()
    assert left == {}
    print(f"{number.name} while {moment}: ended {len(running)} processes, 0 left")
