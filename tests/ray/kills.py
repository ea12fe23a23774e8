"""kill -9 of service, monitor and head in the midst of a scale-up and of a scale-down. Run by test_kills.py once each, by the soak often.

A round scales up for three tasks and down again, with one kill of its victim in each course. A kill comes at a moment drawn over the
whole course, or between a write of the service and its effect: the service's own process then dies there, or stands there until the
victim is dead. What lives goes on, the victim is started again, and a job whose head died is submitted again.
"""

import asyncio
import random
import signal
from dataclasses import dataclass, field

from tests.ray.service_main import DOWN, UP
from tests.ray.wreck import Wreck
from tests.ray_tier import Driver

VICTIMS = ("service", "monitor", "head")
WIDTH, BUSY = 3, 1
"""Nodes of a scale-up; those that the scale-down leaves, for their tasks go on."""
IDLE_TIMEOUT_S = 5.0
SPEC = {"idleTimeout": f"{IDLE_TIMEOUT_S:g}s", "maxWorkers": 10, "nodeTypes": [{"name": "small", "resources": {"slot": 1}}]}
START_S = 3.0
"""A worker's start, about: a moment is drawn over so many seconds for each."""
LEAVE_S = 4.0
"""From an idle timeout to the end of the process, about."""
AWAY_S = 2.0
"""The longest time for which a victim is away."""
LIFE = 1000

JOB = """
@ray.remote(num_cpus=0, resources={"slot": 1}, max_retries=0)
def hold(index):
    note("start", index)
    while not os.path.exists(f"{BASE}/done{index}"):
        time.sleep(0.1)
    note("end", index)

ray.get([hold.remote(index) for index in INDICES])
print("finished")
"""


@dataclass
class Blow:
    """One kill: whom it hit, when, and where the service stood then."""

    victim: str
    course: str
    moment: str
    step: str = ""
    nodes: int = 0
    processes: int = 0


@dataclass
class Round:
    """A scale-up and a scale-down of one stack, with a kill in each."""

    stack: Wreck
    victim: str
    draw: random.Random
    first: int
    blows: list[Blow] = field(default_factory=list)
    tasks: list[int] = field(default_factory=list)
    driver: Driver | None = None

    async def run(self, between: tuple[bool, bool]) -> list[Blow]:
        """Go up and down; `between` says for each course whether its kill comes between a write and its effect."""
        stack = self.stack
        before = stack.launched()
        await self._submit(WIDTH)
        await self._strike("up", between[0])
        await stack.until(lambda: self._started() == WIDTH, "every task of the job runs")
        await stack.until(lambda: not stack.zombies() and len(stack.alive()) == WIDTH, "each on a node of its own")
        assert len(stack.launched() - before) == WIDTH, f"{stack.launched() - before}\n{stack.told()}"

        await self._scale_down(between[1])
        await stack.until(lambda: self._started() == BUSY, "the last task runs")
        await stack.until(self._is_down, "the idle ones go, the busy one stays")
        assert {node for _, index, node, _ in stack.ledger.lines() if index in self.tasks} == {each.node_id for each in stack.alive()}
        self._finish(self.tasks)
        assert await stack.line(self.driver) == "finished"
        await stack.until(lambda: stack.all_gone() and not stack.records() and not stack.raylets(), "nothing stays after the job")
        assert all(stack.ledger.counts(kind)[index] == 1 for index in self.tasks for kind in ("start", "end")), "each ran once, to its end"
        assert len(stack.launched() - before) == WIDTH, f"nothing is launched in a scale-down: {stack.launched() - before}"
        stack.assert_started_once()
        return self.blows

    async def _submit(self, count: int) -> None:
        self.tasks = list(range(self.first, self.first + count))
        self.first += count
        self.driver = await self.stack.start_driver(f"INDICES, BASE = {self.tasks}, {str(self.stack.base)!r}\n{JOB}")

    def _started(self) -> int:
        return len(set(self.tasks) & set(self.stack.ledger.counts("start")))

    def _is_down(self) -> bool:
        return len(self.stack.alive()) == BUSY and not self.stack.zombies()

    def _finish(self, tasks: list[int]) -> None:
        for index in tasks:
            (self.stack.base / f"done{index}").touch()

    async def _scale_down(self, is_between: bool) -> None:
        idle, self.tasks = self.tasks[:-BUSY], self.tasks[-BUSY:]
        strike = asyncio.create_task(self._strike("down", is_between), name="strike")
        for index in idle:
            self._finish([index])
            await asyncio.sleep(self.draw.uniform(0.0, 1.0))  # they fall idle one after the other
        await strike

    async def _strike(self, course: str, is_between: bool) -> None:
        """Wait for the moment, kill the victim, and start it again after a while."""
        stack, draw = self.stack, self.draw
        blow, is_stopped = Blow(self.victim, course, ""), False
        self.blows.append(blow)
        if is_between:
            step = draw.choice(UP if course == "up" else DOWN)
            blow.moment = f"behind the write of {step}"
            stack.set_trap(step, signal.SIGKILL if self.victim == "service" else signal.SIGSTOP)
            is_stopped = await stack.until_trapped(lambda: course == "down" and self._is_down())
            blow.moment += "" if is_stopped else ", which never came"
        elif course == "up":
            joined, part = divmod(draw.uniform(0.0, WIDTH), 1.0)
            blow.moment = f"{part * START_S:.2f} s after task {joined:.0f}"
            await stack.until(lambda: self._started() >= joined, "so many tasks run")
            await asyncio.sleep(part * START_S)
        else:
            after_s = draw.uniform(0.0, IDLE_TIMEOUT_S + LEAVE_S)
            blow.moment = f"{after_s:.2f} s after the tasks' end"
            await asyncio.sleep(after_s)
        blow.step, blow.nodes, blow.processes = stack.last_line(), len(stack.alive()), len(stack.supervisors())
        print(blow, flush=True)
        away_s = draw.uniform(0.0, AWAY_S)
        if self.victim == "head":
            await stack.kill_head()
        else:
            await stack.kill(self.victim)
        if is_stopped and self.victim != "service":
            stack.pause("service", is_paused=False)
        await asyncio.sleep(away_s)
        if self.victim == "head":
            await stack.relaunch_head()
            await self._submit(len(self.tasks))
        else:
            await stack.start_again(self.victim)
