"""Complaint D4: limits of what is on its way hold exactly, at every moment, however demand comes; as the fake machines and the fake Ray saw it."""

import asyncio
import random
from collections import Counter
from collections.abc import Iterator

import pytest

from rayscaler.errors import InsufficientCapacity
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from tests.counts import counted
from tests.simulation.whole import Whole, running

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime, pytest.mark.timeout(120)]

R = Resources.of
FLOOR = 5
"""So many of a type may always be on their way (SP-1)."""


def moments(whole: Whole) -> Iterator[tuple[str, Counter[str], Counter[str]]]:
    """Yield after each launch that was not refused its type, and how many of each type are on their way and have joined."""
    flying, joined = Counter[str](), Counter[str]()
    made = {each.instance_id for each in whole.executor.launched}
    for _, what, name in whole.events:
        if name not in made:
            continue
        kind = name.split("-")[1]
        if what == "launch":
            flying[kind] += 1
            yield kind, flying.copy(), joined.copy()
        elif what == "join":
            flying[kind] -= 1
            joined[kind] += 1


async def test_d4_with_ten_at_work_and_a_speed_of_one_ten_are_on_their_way_and_never_eleven():
    config = ClusterConfig("demo", (NodeType("small", R(CPU=1), min_workers=10),), max_workers=200, upscaling_speed=1.0)
    async with running(config) as whole:
        whole.gcs.submit(R(CPU=1), 10)
        await asyncio.sleep(20)
        assert (len(whole.gcs.running()), whole.nodes()) == (10, {"small": 10})
        whole.gcs.submit(R(CPU=1), 25)
        await asyncio.sleep(60)
        assert len(whole.gcs.running()) == 35
        seen = [(flying["small"], joined["small"]) for _, flying, joined in moments(whole) if joined["small"] == 10]
        assert max(seen) == (10, 10)


@pytest.mark.parametrize("seed", range(counted(gate=4, full=100)))
async def test_d4_no_limit_is_passed_by_one_at_any_moment(seed):
    dice = random.Random(seed)
    speed, total = dice.choice([0.5, 1.0, 2.0]), dice.randint(8, 40)
    kinds = NodeType("small", R(CPU=1), max_workers=dice.randint(3, 30)), NodeType("large", R(CPU=4), max_workers=dice.randint(3, 30))
    async with running(ClusterConfig("demo", kinds, max_workers=total, upscaling_speed=speed, idle_timeout_s=1000.0)) as whole:
        whole.gcs.submit(R(CPU=1), 60)
        for _ in range(8):
            whole.gcs.submit(R(CPU=dice.choice([0.5, 1, 2, 4])), dice.randint(1, 20))
            if dice.random() < 0.3:
                whole.executor.fail_next_launch(InsufficientCapacity("none left"))
            await asyncio.sleep(dice.uniform(0.1, 6.0))
        await asyncio.sleep(60)
        most = {each.name: each.max_workers for each in kinds}
        bound = 0
        for kind, flying, joined in moments(whole):
            allowed = max(FLOOR, int(speed * max(joined[kind], 1)))
            assert flying[kind] <= allowed, (kind, flying, joined)
            assert flying[kind] + joined[kind] <= most[kind]
            assert (flying + joined).total() <= total
            bound += flying[kind] == allowed or (flying + joined).total() == total
        assert bound  # some limit was in the way
