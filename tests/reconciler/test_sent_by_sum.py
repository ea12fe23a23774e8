"""What Ray keeps on a node by the sum of its devices, beside others with room, is told with its cause; as seen with Ray 2.60, three times 0.6 of two GPUs."""

import pytest

from rayscaler.model.demand import Bundle, Demand
from rayscaler.model.instance import Reason
from rayscaler.model.node import NodeStatus
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from tests.reconciler.builders import config
from tests.reconciler.world import world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

R = Resources.of
BOARD = NodeType("board", R(CPU=4, GPU=2), max_workers=4)


def asked(amount, count):
    return (Demand(Bundle(R(CPU=1, GPU=amount)), count),)


async def waits_beside_a_node_with(w, amount, free):
    """Have two nodes, work on the first of which `free` is left, and one more that asks for `amount`; return why it waits."""
    w.ray.demands = asked(0.6, 3)
    await w.live(4)
    assert len(w.launched) == 2
    w.ray.set("demo-board-1-0", status=NodeStatus.RUNNING, available=free)
    w.ray.demands = asked(amount, 1)
    await w.live(30)
    assert len(w.launched) == 2  # what is there would do
    (shape,) = w.reconciler.explanation().shapes
    return shape.because


@pytest.mark.parametrize(("amount", "free"), [(0.6, 0.8), (1, 1.4)])
async def test_what_ray_keeps_where_the_sum_would_do_is_told_with_its_cause(amount, free):
    async with world(config(BOARD, idle_timeout_s=600.0)) as w:
        because = await waits_beside_a_node_with(w, amount, R(CPU=2, GPU=free))
        assert because.reason is Reason.PLACED
        assert because.detail.startswith("1 on nodes that are there; Ray sends tasks by the sum of a node's devices")
        assert "1 in use with so much free in all, and on no device by itself; ask for whole devices" in because.detail


@pytest.mark.parametrize(
    ("amount", "free"),
    [pytest.param(1, R(CPU=2, GPU=1), id="whole ones are not sent so"), pytest.param(0.6, R(CPU=2, GPU=0.5), id="the sum would not do")],
)
async def test_of_anything_else_nothing_is_said_of_sums(amount, free):
    async with world(config(BOARD, idle_timeout_s=600.0)) as w:
        assert (await waits_beside_a_node_with(w, amount, free)).detail == "1 on nodes that are there"
