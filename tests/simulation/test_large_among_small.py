"""Complaint J2: whatever number of small tasks waits, in whatever number of shapes, the large one is seen and has its node in the first plan."""

import asyncio

import pytest

from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from tests.simulation.whole import running

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime, pytest.mark.timeout(120)]

R = Resources.of
SMALL, LARGE = NodeType("small", R(CPU=4), max_workers=40), NodeType("large", R(CPU=64), max_workers=1)
CONFIG = ClusterConfig("demo", (SMALL, NodeType("medium", R(CPU=8), max_workers=4), LARGE))
TINY = 5_000
FEWEST = 0.02
"""CPUs of the smallest; shapes differ by ten thousandths, the least that Ray knows."""


@pytest.mark.parametrize("shapes", [1, 1_000])
async def test_j2_behind_5000_tiny_tasks_the_large_one_has_its_node_in_the_first_plan_and_no_shape_is_dropped(shapes):
    async with running(CONFIG) as whole:
        await asyncio.sleep(2)
        for index in range(shapes):
            whole.gcs.submit(R(CPU=FEWEST + index / 10_000), TINY // shapes)
        whole.gcs.submit(R(CPU=60))
        assert whole.reconciler is not None
        while not whole.of("launch"):  # noqa: ASYNC110 - the fake machines tell nobody
            await asyncio.sleep(0.05)
        first = [name for name in whole.of("launch") if name.split("-")[2] == whole.of("launch")[0].split("-")[2]]
        assert sum(name.startswith("demo-large-") for name in first) == 1
        shown = whole.reconciler.explanation().shapes
        assert len(shown) == shapes + 1
        assert sum(each.count for each in shown) == TINY + 1
