"""Complaint I2 as far as it is planning: what a placement group takes comes at once or not at all, and its size follows each change of scale."""

import asyncio
import random

import pytest

from rayscaler.errors import InsufficientCapacity
from rayscaler.model.demand import Strategy
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from tests.counts import counted
from tests.simulation.whole import Whole, running

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime, pytest.mark.timeout(300)]

WHOLE = Resources.of(CPU=4)
WORKER = NodeType("worker", WHOLE)
CHANGES = counted(gate=12, full=100)
MOST = 12
MANY = 20
"""More than there may be."""


def cluster(most: int) -> ClusterConfig:
    return ClusterConfig("demo", (WORKER,), max_workers=most, idle_timeout_s=5.0)


def plans(whole: Whole) -> dict[str, int]:
    """Return how many workers were launched by each plan: they have its number in their names."""
    found: dict[str, int] = {}
    for name in whole.of("launch"):
        number = name.split("-")[2]
        found[number] = found.get(number, 0) + 1
    return found


async def test_i2_growth_of_8_for_one_group_is_one_plan_of_8():
    async with running(cluster(MOST)) as whole:
        await asyncio.sleep(3)
        gang = whole.gcs.create_gang(Strategy.STRICT_SPREAD, [WHOLE] * 8)
        await asyncio.sleep(10)
        assert list(plans(whole).values()) == [8]
        assert len({node.ray_node_id for node in whole.gcs.gangs[gang].nodes}) == 8


async def test_i2_where_only_7_of_8_may_come_none_does():
    async with running(cluster(7)) as whole:
        await asyncio.sleep(3)
        whole.gcs.create_gang(Strategy.STRICT_SPREAD, [WHOLE] * 8)
        await asyncio.sleep(60)
        assert whole.of("launch") == []


@pytest.mark.parametrize("refused", [1, 8])
async def test_i2_of_which_launches_were_refused_once_has_all_its_nodes_after_the_pause(refused):
    """The first try after a pause is of all that the gang lacks: it would wait for ever for one node to join first."""
    async with running(cluster(MOST)) as whole:
        await asyncio.sleep(3)
        for _ in range(refused):
            whole.executor.fail_next_launch(InsufficientCapacity("none left"))
        gang = whole.gcs.create_gang(Strategy.STRICT_SPREAD, [WHOLE] * 8)
        await asyncio.sleep(30)
        assert list(plans(whole).values()) == [8, refused]
        assert len({node.ray_node_id for node in whole.gcs.gangs[gang].nodes}) == 8


async def test_i2_after_each_change_of_scale_there_are_as_many_workers_as_the_group_wants():
    dice = random.Random(5002)
    async with running(cluster(MOST)) as whole:
        for change in range(CHANGES):
            size = dice.choice([*range(1, MOST + 1), MANY])
            before, there = plans(whole), len(whole.gcs.alive())
            gang = whole.gcs.create_gang(Strategy.STRICT_SPREAD, [WHOLE] * size)
            await asyncio.sleep(12)
            nodes = {node.ray_node_id for node in whole.gcs.gangs[gang].nodes}
            wanted = 0 if size == MANY else size
            assert len(nodes) == wanted, (change, size)
            assert whole.nodes().get("worker", 0) == wanted  # those left of the one before have been idle for their time
            new = [count for number, count in plans(whole).items() if number not in before]
            assert new == ([size - there] if there < wanted else []), (change, size, there)
            whole.gcs.remove_gang(gang)
            await asyncio.sleep(dice.choice([1.0, 20.0]))
