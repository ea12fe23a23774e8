"""Slices of several hosts under a seeded storm: hosts die, the service dies, launches are refused; what stays is whole, and only a dead host loses work."""

import asyncio
import random
from collections import Counter

import pytest

from rayscaler.errors import InsufficientCapacity
from rayscaler.model.demand import Strategy
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from tests.counts import counted
from tests.simulation.whole import Whole, running

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

CHIPS = Resources.of(chip=4)
SLICE = NodeType("slice", Resources.of(CPU=8, chip=4), hosts_per_replica=4, max_workers=16)
SMALL = NodeType("small", Resources.of(CPU=2), max_workers=8)
CONFIG = ClusterConfig("demo", (SLICE, SMALL), max_workers=23, idle_timeout_s=10.0)
"""With room for four slices only while there are less than eight of the others."""


def replicas(whole: Whole) -> dict[str, list[int]]:
    """Return the hosts of each replica that are there, with none that is being ended."""
    found: dict[str, list[int]] = {}
    for machine in whole.machines.machines.values():
        if machine.spec.replica:
            found.setdefault(machine.spec.replica, []).append(machine.spec.host)
    return {name: sorted(hosts) for name, hosts in found.items()}


async def lose(whole: Whole, rng: random.Random) -> int:
    """Let a host die; return how many tasks it takes along."""
    (names := [node.instance_id for node in whole.gcs.alive() if node.node_type == "slice"]).sort()
    if not names:
        return 0
    name = rng.choice(names)
    lost = sum(task.node is not None and task.node.instance_id == name for task in whole.gcs.running())
    whole.executor.lose(name)
    return lost


@pytest.mark.parametrize("seed", range(counted(gate=6, full=100)))
async def test_i4_what_stays_is_whole_and_only_work_of_dead_hosts_is_lost(seed):
    print(f"seed {seed}")
    rng, lost = random.Random(seed), 0
    async with running(CONFIG) as whole:
        await asyncio.sleep(3)
        for _ in range(12):
            match rng.choice(["tasks", "tasks", "gang", "lose", "service", "refuse"]):
                case "tasks":
                    what = rng.choice([CHIPS, Resources.of(CPU=1), Resources.of(chip=1)])
                    whole.gcs.submit(what, rng.randint(1, 6), runtime_s=rng.uniform(2.0, 40.0))
                case "gang":
                    gang = whole.gcs.create_gang(Strategy.STRICT_SPREAD, [CHIPS] * rng.choice([2, 4]))
                    asyncio.get_running_loop().call_later(rng.uniform(10.0, 40.0), whole.gcs.remove_gang, gang)
                case "lose":
                    lost += await lose(whole, rng)
                case "service":
                    await whole.kill("service")
                    await asyncio.sleep(rng.uniform(0.0, 3.0))
                    whole.start_service()
                case "refuse":
                    whole.executor.fail_next_launch(InsufficientCapacity("no quota"))
            await asyncio.sleep(rng.uniform(0.3, 20.0))
        actors = whole.gcs.submit(CHIPS, 6)
        await asyncio.sleep(150)
        assert all(hosts == [0, 1, 2, 3] for hosts in replicas(whole).values()), replicas(whole)
        assert len(whole.gcs.running()) == len(actors)
        assert sum(task.times_lost for task in whole.gcs.tasks.values()) == lost
        at_work = {task.node.instance_id for task in whole.gcs.running() if task.node is not None}
        assert {each.spec.replica for each in whole.machines.machines.values() if each.spec.instance_id in at_work} == {*replicas(whole)}
        whole.gcs.finish(*actors)
        await asyncio.sleep(60)
        assert whole.machines.machines == {}
        assert max(Counter(whole.of("launch")).values(), default=1) == 1


@pytest.mark.timeout(120)
async def test_i4_of_4_slices_of_16_hosts_with_room_for_56_3_come_and_one_lost_host_replaces_16_and_no_others():
    wide = NodeType("slice", CHIPS, hosts_per_replica=16)
    async with running(ClusterConfig("demo", (wide,), max_workers=56, idle_timeout_s=10.0)) as whole:
        await asyncio.sleep(3)
        whole.gcs.submit(CHIPS, 4 * 16)
        await asyncio.sleep(counted(gate=120, full=1800))
        first = replicas(whole)
        assert {name: len(hosts) for name, hosts in first.items()} == dict.fromkeys(first, 16)
        assert (len(first), len(whole.of("launch")), whole.of("terminate")) == (3, 48, [])  # and none again and again
        victim = next(each for each in whole.machines.machines.values() if each.spec.host == 7)
        lost = victim.spec.replica
        mates = {each.spec.instance_id for each in whole.machines.machines.values() if each.spec.replica == lost}
        whole.executor.lose(victim.spec.instance_id)
        failed = [each.task_id for each in whole.gcs.running() if each.node is not None and each.node.instance_id in mates]
        await asyncio.sleep(3)
        whole.gcs.finish(*failed)  # a slice's job fails with its host, and is begun again
        whole.gcs.submit(CHIPS, len(failed))
        await asyncio.sleep(120)
        second = replicas(whole)
        assert {name: len(hosts) for name, hosts in second.items()} == dict.fromkeys(second, 16)
        assert (len(second), {*first} - {*second}) == (3, {lost})
        assert len(whole.of("launch")) == 48 + 16
        assert {*whole.of("gone")} == mates
        assert len(whole.gcs.running()) == 48
