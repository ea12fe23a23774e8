"""The end of all that an executor has of a cluster: nothing is left behind, nobody else's is touched, and no failure ends it."""

import asyncio

import pytest
import structlog
import structlog.testing

from rayscaler.errors import Unavailable
from rayscaler.executor import clearing
from rayscaler.executor.base import LaunchSpec
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.settings import Timings
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines
from rayscaler.testing.loop_clock import LoopClock

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

TIMINGS = Timings()
SMALL = NodeType("small", Resources.of(CPU=1))


def spec(instance_id: str, cluster: str = "c") -> LaunchSpec:
    return LaunchSpec(cluster, instance_id, SMALL, "192.0.2.1:6379")


class World:
    """An executor with two instances of the cluster and one of another, which has to stay."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.machines = FakeMachines(self.clock)
        self.executor = FakeExecutor(self.machines)
        self.told: list[str] = []
        for each in (spec("a"), spec("b"), spec("a", "other")):
            self.machines.begin(each)

    async def clear(self) -> float:
        """Clear; return how long it took."""
        began = self.clock.mono()
        await clearing.clear("c", self.executor, self.told.append, timings=TIMINGS, clock=self.clock)
        assert list(self.machines.machines) == [("other", "a")]
        return self.clock.mono() - began


async def test_all_are_ended_once_and_those_of_another_cluster_stay():
    world = World()
    await world.clear()
    assert sorted(world.executor.terminated) == ["a", "b"]
    assert set(world.told) == {"its instances are ended first"}


async def test_what_a_call_that_was_under_way_begins_late_is_ended_too():
    world = World()

    async def late() -> None:
        await asyncio.sleep(TIMINGS.executor_call_s - 0.1)
        world.machines.begin(spec("late"))

    task = asyncio.create_task(late())
    await world.clear()
    assert task.done()
    assert sorted(world.executor.terminated) == ["a", "b", "late"]


async def test_failures_and_silence_are_told_and_tried_again_with_growing_pauses():
    world = World()
    for _ in range(3):
        world.executor.fail_next("list", Unavailable("the plugin is away"))
    world.executor.fail_next("terminate", Unavailable("not now"))
    world.executor.hang_next("list")
    took_s = await world.clear()
    whys = [each.removeprefix("its instances cannot be ended yet: ") for each in dict.fromkeys(world.told)]
    assert whys == [f"no answer within {TIMINGS.executor_call_s:g} s", "the plugin is away", "not now", "its instances are ended first"]
    assert took_s > TIMINGS.executor_call_s


async def test_an_executor_that_never_answers_is_asked_seldom_and_never_given_up(monkeypatch):
    world = World()
    asked = []

    async def away(cluster: str) -> list:
        asked.append(cluster)
        raise RuntimeError("a bug")

    monkeypatch.setattr(world.executor, "list", away)
    task = asyncio.create_task(clearing.clear("c", world.executor, world.told.append, timings=TIMINGS, clock=world.clock))
    with structlog.testing.capture_logs() as logs:  # a traceback takes its time to be drawn
        await asyncio.sleep(3600.0)
    assert not task.done()
    assert [each["exc_info"] for each in logs] == [True], "told once, with where it comes from"
    assert 3600 / (1.5 * TIMINGS.executor_retry_max_s) - 1 <= len(asked) <= 3600 / TIMINGS.executor_retry_max_s + 7
    assert set(world.told) == {"its instances cannot be ended yet: RuntimeError, a bug; the log has it"}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
