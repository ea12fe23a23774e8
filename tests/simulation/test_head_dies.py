"""Heads, services and monitors die all through a scale-up and a scale-down, in virtual time: nothing is launched twice, nothing busy ends."""

import asyncio
import random

import pytest

from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from tests.simulation.whole import Whole, running

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

CPU = Resources.of(CPU=1)
IDLE_S = 15.0
CLUSTER = ClusterConfig("demo", (NodeType("small", Resources.of(CPU=2), max_workers=20),), max_workers=20, idle_timeout_s=IDLE_S)
BLOWS = ("service", "monitor", "head", "head with stored state")


def check_ends(whole: Whole) -> None:
    """No node that lived was ended: no task died by rayscaler."""
    assert whole.of("lost") == []


async def strike(whole: Whole, blow: str, rng: random.Random, count: int) -> None:
    """Kill one part, bring it back after a while; after a head without stored state the job is submitted again."""
    away_s = rng.uniform(0.0, 8.0)
    if blow in ("service", "monitor"):
        await whole.kill(blow)
        whole.transport.is_down = blow == "service"
        await asyncio.sleep(away_s)
        whole.transport.is_down = False
        whole.start_service() if blow == "service" else whole.start_monitor()
        return
    await whole.kill_head(away_s, is_stored=blow != "head")
    if blow == "head" and count:
        await asyncio.sleep(rng.uniform(0.0, 5.0))
        whole.gcs.submit(CPU, count)


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_dies_in_a_scale_up_exactly_the_workers_needed_are_ever_launched(seed):
    rng = random.Random(seed)
    count = rng.randint(4, 20)
    async with running(CLUSTER) as whole:
        whole.gcs.submit(CPU, count)
        for blow in rng.choices(BLOWS, k=rng.randint(1, 4)):
            await asyncio.sleep(rng.uniform(0.0, 6.0))
            await strike(whole, blow, rng, count)
        await asyncio.sleep(60)
        needed = -(-count // 2)
        assert len(whole.gcs.running()) == count, whole.events
        assert whole.nodes() == {"small": needed}
        assert len(whole.of("launch")) == len(set(whole.of("launch"))) == needed, "\n".join(map(str, whole.events))
        check_ends(whole)


@pytest.mark.parametrize("seed", range(40))
async def test_whatever_dies_in_a_scale_down_busy_nodes_stay_and_idle_ones_go(seed):
    rng = random.Random(1000 + seed)
    async with running(CLUSTER) as whole:
        tasks = whole.gcs.submit(CPU, 12)
        await asyncio.sleep(20)
        whole.gcs.finish(*tasks[: rng.randint(2, 12)])
        await asyncio.sleep(IDLE_S - 3.0)
        for blow in rng.choices(BLOWS, k=rng.randint(1, 3)):
            await asyncio.sleep(rng.uniform(0.0, 5.0))
            await strike(whole, blow, rng, 0)
        await asyncio.sleep(3 * IDLE_S)
        busy = {task.node.instance_id for task in whole.gcs.running() if task.node}
        assert {node.instance_id for node in whole.gcs.alive()} == busy, whole.events
        assert {name for _, name in whole.machines.machines} == busy
        assert len(whole.of("launch")) == 6
        check_ends(whole)


async def test_f2_after_twenty_heads_in_a_row_the_workers_are_the_first_ones_and_no_record_is_stale():
    async with running(CLUSTER) as whole:
        for _ in range(20):
            whole.gcs.submit(CPU, 8)
            await asyncio.sleep(6)
            await whole.kill_head(1.0)
        whole.gcs.submit(CPU, 8)
        await asyncio.sleep(30)
        assert len(whole.of("launch")) == 4
        assert whole.nodes() == {"small": 4}
        record = whole.store.saves[-1]
        assert (record.targets, record.drains, len(record.retired)) == ((("small", 4),), (), 20)
        check_ends(whole)
