"""What is learned of packed gangs that Ray does not make where they have room."""

from dataclasses import replace

import pytest

from rayscaler.model.demand import Bundle, Demand, Gang, Snapshot, Strategy
from rayscaler.model.instance import Instance, InstanceStatus, Reason
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan
from rayscaler.reconciler import stayed
from rayscaler.reconciler.misfit import LEARNED_S
from tests.reconciler.builders import config
from tests.reconciler.world import world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

R = Resources.of
FOUR, TWO, EIGHT = (NodeType(name, R(CPU=8, GPU=gpus)) for name, gpus in (("four", 4), ("two", 2), ("eight", 8)))
PAIR = Gang("pair", Strategy.PACK, (Demand(Bundle(R(GPU=0.6)), 2),))


def shown(free: float, *gangs: Gang) -> Snapshot:
    """A node of four GPUs: of each the half may be in use, then 0.6 has no room on any though there are 2 in sum."""
    row = RayNode("n-a", "a", "four", NodeStatus.RUNNING, R(CPU=8, GPU=4), R(CPU=8, GPU=free))
    return Snapshot(nodes=(row,), gangs=gangs)


def planned(known: stayed.Places, snapshot: Snapshot, at: float, *types: NodeType):
    """One plan and what is known after it."""
    state = ClusterState(
        now=at,
        config=ClusterConfig("c", (replace(FOUR, max_workers=1), *types)),
        instances=(Instance("a", "four", InstanceStatus.RUNNING, 0.0, ray_node_id="n-a"),),
        nodes=snapshot.nodes,
        gangs=snapshot.gangs,
        stayed=stayed.learned(known, snapshot, at),
    )
    found = plan(state)
    told = [each.reason for each in found.infeasible]
    return [each.node_type for each in found.launches], told, stayed.follow(known, found, snapshot, {"n-a": "a"}, at)


def test_dk_11_a_packed_gang_that_stays_where_it_had_room_is_told_and_not_launched_for():
    """Nor is a node of two GPUs launched, which Ray likes no better."""
    launches, told, known = planned({}, shown(2.0, PAIR), 0.0, TWO)
    assert (launches, told, list(known)) == ([], [], ["pair"])
    launches, told, known = planned(known, shown(2.0, PAIR), LEARNED_S - 0.1, TWO)
    assert (launches, told) == ([], [])
    assert stayed.next_learned(known, LEARNED_S - 0.1) == LEARNED_S
    for at in (LEARNED_S, LEARNED_S + 1, LEARNED_S * 5):
        launches, told, known = planned(known, shown(2.0, PAIR), at, TWO)
        assert (launches, told, list(known)) == ([], [Reason.PACKED_BY_SUM], ["pair"])


def test_it_is_launched_for_where_ray_likes_the_new_node_best_and_its_devices_hold_it():
    _, _, known = planned({}, shown(2.0, PAIR), 0.0, TWO, EIGHT)
    launches, told, _ = planned(known, shown(2.0, PAIR), LEARNED_S, TWO, EIGHT)
    assert (launches, told) == (["eight"], [])


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(shown(3.0, PAIR), id="a device has come free"),
        pytest.param(shown(2.0), id="what nobody asks for is forgotten"),
        pytest.param(replace(shown(2.0, PAIR), nodes=()), id="a node that is gone is forgotten"),
    ],
)
def test_a_lesson_ends_with_what_taught_it(after):
    _, _, known = planned({}, shown(2.0, PAIR), 0.0)
    assert stayed.learned(known, shown(2.0, PAIR), LEARNED_S) == (("pair", 1),)
    assert stayed.learned(known, after, LEARNED_S) == ()
    _, _, known = planned(known, after, LEARNED_S)
    assert stayed.learned(known, shown(2.0, PAIR), LEARNED_S) == ()


@pytest.mark.parametrize(
    "gang",
    [replace(PAIR, strategy=Strategy.SPREAD), replace(PAIR, bundles=(Demand(Bundle(R(GPU=1)), 2),))],
)
def test_nothing_is_learned_of_gangs_that_are_not_packed_or_take_whole_devices(gang):
    assert planned({}, shown(2.0, gang), 0.0)[1:] == ([], {})


async def test_dk_11_a_service_launches_once_for_a_gang_that_ray_does_not_make_and_then_tells_of_it():
    """Here Ray never makes it, wherever it has room."""
    async with world(config(FOUR)) as w:
        w.ray.demands = (Demand(Bundle(R(GPU=1)), 1),)
        await w.live(5)
        (first,) = w.launched
        w.ray.demands = ()
        w.ray.set(first, status=NodeStatus.RUNNING, available=R(CPU=8, GPU=2))
        await w.live(30)
        w.ray.gangs = (PAIR,)
        await w.live(LEARNED_S - 1)
        assert w.launched == [first]
        await w.live(LEARNED_S)
        assert len(w.launched) == 2
        await w.live(60)
        (told,) = w.reconciler.explanation().shapes
        assert (told.because.reason, len(w.launched)) == (Reason.PACKED_BY_SUM, 2)
        assert "Ray has not made it" in told.because.detail
