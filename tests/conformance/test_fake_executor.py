"""The fake keeps the promises of the port, in virtual time; and does what it is told."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from rayscaler.errors import InsufficientCapacity
from rayscaler.executor.base import LaunchSpec
from rayscaler.model.instance import Phase
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.testing import conformance
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines
from rayscaler.testing.loop_clock import LoopClock

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]


class FakeHarness:
    patience_s = 600.0

    def __init__(self) -> None:
        self.machines = FakeMachines(LoopClock())

    def executor(self) -> FakeExecutor:
        return FakeExecutor(self.machines)

    def spec(self, instance_id: str) -> LaunchSpec:
        return LaunchSpec("c", instance_id, NodeType("small", Resources.of(CPU=1)), "192.0.2.9:6379")

    async def kill(self, instance_id: str) -> None:
        self.machines.lose(instance_id)


@pytest.fixture
async def harness() -> AsyncIterator[FakeHarness]:
    harness = FakeHarness()
    yield harness
    await harness.machines.close()


@pytest.mark.parametrize("case", conformance.CASES, ids=conformance.name)
async def test_the_fake_conforms(case, harness):
    await case(harness)


async def test_an_executor_that_breaks_a_promise_is_found(harness):
    class Forgetful(FakeExecutor):
        async def list(self, cluster):
            return (await super().list(cluster))[:-1]

    harness.executor = lambda: Forgetful(harness.machines)
    with pytest.raises(conformance.Breach, match="lists one instance"):
        await conformance.launch_twice_is_one(harness)


async def test_a_failure_is_told_once_and_does_nothing(harness):
    executor = harness.executor()
    executor.fail_next_launch(InsufficientCapacity("no room"))
    with pytest.raises(InsufficientCapacity):
        await executor.launch(harness.spec("a"))
    assert (executor.launched, await executor.list("c")) == ([], [])
    await executor.launch(harness.spec("a"))
    assert [spec.instance_id for spec in executor.launched] == ["a"]


async def test_an_instance_is_ready_after_its_delays_and_the_hooks_hear_of_it(harness):
    heard = []
    harness.machines.on_ready = lambda spec: heard.append(("ready", spec.instance_id))
    harness.machines.on_gone = lambda spec: heard.append(("gone", spec.instance_id))
    harness.machines.delays_s[Phase.STARTING] = 100.0
    executor = harness.executor()
    await executor.launch(harness.spec("a"))
    await asyncio.sleep(100.5)
    assert heard == []
    await asyncio.sleep(1.0)
    await executor.terminate("c", "a")
    await asyncio.sleep(10.0)
    assert (heard, executor.terminated) == ([("ready", "a"), ("gone", "a")], ["a"])


async def test_a_hanging_call_hangs_once(harness):
    executor = harness.executor()
    executor.hang_next("list")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1000.0):
            await executor.list("c")
    assert await executor.list("c") == []
