"""Replicas of several hosts, on fake machines in virtual time: launched, lost and ended whole, and nobody's work is killed for it."""

import asyncio
import itertools

import pytest

from rayscaler.errors import Denied, InsufficientCapacity
from rayscaler.executor.base import LaunchSpec
from rayscaler.model.demand import Outcome
from rayscaler.model.instance import Phase
from rayscaler.model.node import DeathReason
from rayscaler.settings import Timings
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines
from rayscaler.testing.loop_clock import LoopClock
from tests.reconciler.builders import config, node_type, tasks
from tests.reconciler.test_unfinished import crashed
from tests.reconciler.world import World, world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]


def slices(hosts: int = 2, name: str = "slice", **fields):
    return node_type(name, hosts_per_replica=hosts, **fields)


def told(w: World) -> dict[str, list[int]]:
    """Return the hosts of each replica that the machines outside were asked for and are still there."""
    found: dict[str, list[int]] = {}
    for machine in w.machines.machines.values():
        found.setdefault(machine.spec.replica, []).append(machine.spec.host)
    return {replica: sorted(hosts) for replica, hosts in sorted(found.items())}


def reasons(w: World, kind: str) -> dict[str, str]:
    return {each.instance_id: each.reason.value for each in w.reconciler.status().actions if each.kind == kind}


async def test_i4_of_four_slices_of_sixteen_with_room_for_56_exactly_three_are_made_and_stay():
    async with world(config(slices(16), max_workers=56)) as w:
        w.ray.demands = tasks(64)
        await w.live(6)
        assert told(w) == {f"demo-slice-1-r{n}": list(range(16)) for n in range(3)}
        await w.live(60)
        assert len(w.launched) == 48
        assert w.executor.terminated == []


async def test_i4_one_lost_host_replaces_its_slice_and_no_other():
    async with world(config(slices(16, min_workers=48))) as w:
        await w.live(6)
        for each in w.launched:
            w.ray.busy(each)
        await w.live(2)
        w.on_drain = lambda command: Outcome.DONE  # taken: the node is drained once its work is done
        w.ray.die("demo-slice-1-20")
        w.executor.lose("demo-slice-1-20")
        await w.live(10)
        assert len(w.launched) == 64
        mates = [f"demo-slice-1-{n}" for n in range(16, 32) if n != 20]
        assert reasons(w, "DRAINING") == dict.fromkeys(mates, "REPLICA_BROKEN")
        assert all(each.is_preemption and each.deadline_at is None for each in w.commands)
        assert w.executor.terminated == []  # none of them has ended its work
        for each in mates:
            w.ray.die(each, DeathReason.DRAINED_PREEMPTED)
        await w.live(10)
        assert sorted(w.executor.terminated) == sorted(mates)
        assert told(w) == {f"demo-slice-{each}": list(range(16)) for each in ("1-r0", "1-r2", "2-r0")}


async def test_i4_a_host_that_is_refused_calls_its_replica_off_once_and_the_type_waits():
    async with world(config(slices(4))) as w:
        w.executor.fail_next_launch(InsufficientCapacity("no quota"))
        w.ray.demands = tasks(4)
        await w.live(4.5)
        assert sorted(w.executor.terminated) == [f"demo-slice-1-{n}" for n in (1, 2, 3)]
        assert set(reasons(w, "TERMINATING").values()) == {"REPLICA_BROKEN"}
        (backoff,) = w.reconciler.status().backoffs
        assert (backoff.failures, backoff.detail) == (1, "INSUFFICIENT_CAPACITY: no quota")
        await w.live(20)
        assert told(w) == {"demo-slice-2-r0": [0, 1, 2, 3]}
        assert set(w.instances.values()) == {"RUNNING"}
        assert w.reconciler.status().backoffs == ()


class Refusing(FakeExecutor):
    """Has no room for the second host of a replica, the first few times."""

    refusals = 3

    def __init__(self, machines: FakeMachines) -> None:
        super().__init__(machines)
        self.asked_at: list[float] = []

    async def launch(self, spec: LaunchSpec) -> str:
        if spec.host == 1:
            self.asked_at.append(asyncio.get_running_loop().time())
            if len(self.asked_at) <= self.refusals:
                raise Denied("no rights")
        return await super().launch(spec)


async def test_i4_while_some_hosts_come_and_others_are_refused_the_pauses_get_longer():
    machines = FakeMachines(LoopClock())
    machines.delays_s = dict.fromkeys(Phase, 0.0)  # those that come have joined before the next plan
    executor = Refusing(machines)
    async with world(config(slices(2)), machines=machines, executor=executor) as w:
        machines.on_ready = w.ray.join
        w.ray.demands = tasks(2)
        await w.live(60)
        first, second, third = (later - sooner for sooner, later in itertools.pairwise(executor.asked_at))
        assert first < second < third
        assert told(w) == {"demo-slice-4-r0": [0, 1]}
    await machines.close()


async def test_a_host_that_does_not_join_in_time_ends_its_replica_and_work_on_its_mates_is_waited_for():
    async with world(config(slices(2)), timings=Timings(registering_s=20.0)) as w:
        w.ray.demands = tasks(2)
        joined = []

        def ready(spec):
            if spec.host == 0 or len(w.launched) > 2:
                w.ray.join(spec)
                joined.append(spec.instance_id)

        w.machines.on_ready = ready
        await w.live(8)
        assert joined == ["demo-slice-1-0"]
        w.ray.busy("demo-slice-1-0")
        w.ray.demands = tasks(1)
        w.on_drain = lambda command: Outcome.DONE
        await w.live(40)
        assert reasons(w, "TERMINATING")["demo-slice-1-1"] == "OVERDUE"
        assert reasons(w, "DRAINING") == {"demo-slice-1-0": "REPLICA_BROKEN"}
        assert w.executor.terminated == ["demo-slice-1-1"]
        assert told(w) == {"demo-slice-1-r0": [0], "demo-slice-2-r0": [0, 1]}


async def test_sp_8_a_replica_ends_when_all_its_hosts_have_been_idle_for_long_enough():
    async with world(config(slices(2))) as w:
        w.ray.demands = tasks(2)
        await w.live(5)
        w.ray.demands = ()
        w.ray.busy("demo-slice-1-1")
        await w.live(90)
        assert w.commands == []
        w.ray.die("demo-slice-1-1", DeathReason.UNEXPECTED)
        await w.live(8)
        assert reasons(w, "DRAINING") == {"demo-slice-1-0": "REPLICA_BROKEN"}
        assert told(w) == {}


async def test_sp_8_a_drain_that_ray_refuses_for_one_host_lets_the_others_end_with_their_work():
    async with world(config(slices(2))) as w:
        w.ray.demands = tasks(2)
        await w.live(5)
        w.ray.demands = ()
        w.on_drain = lambda command: (
            Outcome.DONE
            if command.is_preemption
            else Outcome.REJECTED
            if w.ray.nodes[command.ray_node_id].instance_id.endswith("0")
            else w.accept(command)
        )
        await w.live(80)
        drains = [(w.ray.nodes[each.ray_node_id].instance_id, each.is_preemption) for each in w.commands]
        assert sorted(drains[:2]) == [("demo-slice-1-0", False), ("demo-slice-1-1", False)]
        assert drains[2:] == [("demo-slice-1-0", True)]
        assert "demo-slice-1-0" not in w.executor.terminated


@pytest.mark.parametrize("sends", range(5))
async def test_2b_1_after_a_crash_the_hosts_that_were_not_sent_are_sent_as_the_same_ones(sends):
    async with crashed(sends, config(slices(2))) as (left, unsent), world(config(slices(2)), **left) as w:
        assert sorted(w.launched) == sorted(each.instance_id for each in unsent)
        await w.live(10)
        assert told(w) == {"demo-slice-1-r0": [0, 1], "demo-slice-1-r1": [0, 1]}
        assert set(w.instances.values()) == {"RUNNING"}
        assert w.executor.terminated == []


async def test_after_a_restart_the_hosts_that_the_executor_lists_are_known_as_replicas():
    async with world(config(slices(2))) as w:
        w.ray.demands = tasks(4)
        await w.live(5)
        w.ray.demands = ()
        for each in w.launched:
            w.ray.busy(each)
        async with world(config(slices(2)), machines=w.machines, ray=w.ray, store=w.store) as again:
            await w.kill()
            await again.live(40)
            assert again.launched == []
            assert again.commands == []
            again.on_drain = lambda command: Outcome.DONE
            w.ray.die("demo-slice-1-3")
            await again.live(8)
            assert reasons(again, "DRAINING") == {"demo-slice-1-2": "REPLICA_BROKEN"}


async def test_an_idle_host_says_that_it_waits_for_its_replica():
    async with world(config(slices(2))) as w:
        w.ray.demands = tasks(2)
        await w.live(5)
        w.ray.demands = ()
        w.ray.busy("demo-slice-1-1")
        await w.live(70)
        found = {each.instance_id: each.because for each in w.reconciler.explanation().nodes}
        assert found["demo-slice-1-0"].reason.value == "REPLICA"
        assert found["demo-slice-1-0"].detail == "idle; others of replica demo-slice-1-r0 are not, and its 2 hosts go together"
