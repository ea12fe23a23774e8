"""What nodes really bring is learned as they join, and later launches are planned with it (J3, scenario 7 D)."""

from dataclasses import replace

import pytest

from rayscaler.executor.base import LaunchSpec
from rayscaler.model.instance import Reason
from rayscaler.model.node import NodeStatus
from rayscaler.model.nodetype import NodeType, Resize
from rayscaler.model.resources import UNIT, Resources
from rayscaler.reconciler import learned
from tests.reconciler.builders import NOW, config, instance, row, tasks
from tests.reconciler.world import Ray, World, world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

R = Resources.of
SMALL = NodeType("small", R(CPU=4, memory=100))


class Smaller(Ray):
    """Nodes join with less memory than their type says."""

    def join(self, spec: LaunchSpec) -> None:
        super().join(spec)
        self.set(spec.instance_id, total=R(CPU=4, memory=90), available=R(CPU=4, memory=90))


def waiting(w: World) -> list[Reason]:
    return [each.reason for each in w.reconciler.status().pending]


async def test_j3_of_a_type_whose_nodes_hold_less_one_node_is_wasted_and_the_mismatch_is_told():
    async with world(config(SMALL), ray=Smaller()) as w:
        w.ray.demands = tasks(1, R(CPU=1, memory=100))
        await w.live(30)
        assert (len(w.launched), waiting(w)) == (1, [Reason.NODES_SMALLER])
        assert "its nodes join with memory 90 B of 100 B" in w.reconciler.status().pending[0].detail
        await w.live(learned.KEPT_S - 60, every_s=5)
        assert (w.instances, len(w.launched), waiting(w)) == ({}, 1, [Reason.NODES_SMALLER])
        await w.live(200, every_s=5)  # the definition is believed again, at the price of one node
        assert len(w.launched) == 2


async def test_j3_a_type_that_is_changed_is_tried_again_at_once():
    async with world(config(SMALL), ray=Smaller()) as w:
        w.ray.demands = tasks(1, R(CPU=1, memory=100))
        await w.live(30)
        w.reconciler.redefine(config(replace(SMALL, resources=R(CPU=4, memory=110))), "mended")
        await w.live(30)
        assert (len(w.launched), waiting(w)) == (2, [Reason.NODES_SMALLER])


def brought(*nodes, made_as: NodeType = SMALL, known=None, at: float = NOW):
    instances = {each.instance_id: instance(each.instance_id, ray_node_id=each.ray_node_id, made_as=made_as) for each in nodes}
    return learned.follow(known or {}, config(SMALL), instances, nodes, at)


def test_the_most_that_any_node_of_todays_make_has_counts_so_one_broken_node_hides_nothing():
    found = brought(row("n1", "a", cpus=4), replace(row("n2", "b"), total=R(CPU=2, memory=90, object_store_memory=7)))
    assert learned.totals(found, config(SMALL)) == (("small", R(CPU=4, memory=90, object_store_memory=7)),)


@pytest.mark.parametrize(
    ("grown", "told"),
    [(R(CPU=8, memory=150, slot=1), R(CPU=4, memory=100, slot=1)), (R(CPU=8, memory=90), R(CPU=4, memory=90))],
    ids=["in both", "in one, with less of the other"],
)
def test_j4_what_a_node_has_grown_by_is_not_what_the_next_one_brings(grown, told):
    grows = replace(SMALL, resize=Resize(R(CPU=8, memory=200)))
    node = replace(row(), total=grown)
    known = instance(
        node.instance_id, ray_node_id=node.ray_node_id, made_as=SMALL
    )  # as it is found at an executor, which notes no `resize`
    assert learned.follow({}, config(grows), {known.instance_id: known}, [node], NOW)["small"].total == told


def test_what_comes_with_one_node_or_one_placement_group_is_not_of_the_type():
    total = Resources({**R(CPU=4, memory=100), "node:10.0.0.1": UNIT, "CPU_group_0_abc": UNIT, "node:__internal_implicit_resource_x": UNIT})
    assert learned.totals(brought(replace(row(), total=total)), config(SMALL)) == ()


@pytest.mark.parametrize(
    ("status", "made_as"),
    [
        pytest.param(NodeStatus.DEAD, SMALL, id="a dead node"),
        pytest.param(NodeStatus.IDLE, replace(SMALL, resources=R(CPU=2)), id="a node of another make"),
        pytest.param(NodeStatus.IDLE, None, id="a node of which nobody knows the make"),
    ],
)
def test_nothing_is_learned_from(status, made_as):
    assert brought(replace(row(), status=status), made_as=made_as) == {}


def test_what_is_known_outlives_the_last_node_for_its_time_and_no_edit_of_its_type():
    known = brought(row(cpus=2))
    assert brought(known=known, at=NOW + learned.KEPT_S - 1) == known
    assert brought(known=known, at=NOW + learned.KEPT_S) == {}
    assert learned.totals(known, config(replace(SMALL, resources=R(CPU=3)))) == ()
    assert learned.totals(known, config(replace(SMALL, max_workers=3))) == (("small", R(CPU=2)),)
