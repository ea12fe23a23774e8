"""What is learned of devices from demand that stays."""

from dataclasses import replace

import pytest

from rayscaler.model.demand import Bundle, Demand, Snapshot
from rayscaler.model.instance import Instance, InstanceStatus
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from rayscaler.model.state import ClusterState, Misfit
from rayscaler.planner.plan import plan
from rayscaler.reconciler import misfit
from rayscaler.reconciler.misfit import LEARNED_S

pytestmark = pytest.mark.tier("unit")

R = Resources.of
NAMES = {"n-a": "a"}


def shown(free: float, *asked: float, total: int = 4) -> Snapshot:
    row = RayNode("n-a", "a", "t", NodeStatus.RUNNING, R(CPU=8, GPU=total), R(CPU=8, GPU=free))
    return Snapshot(nodes=(row,), demands=tuple(Demand(Bundle(R(GPU=each)), 1) for each in asked))


def planned(known: misfit.Guesses, snapshot: Snapshot, at: float):
    """One plan and what is guessed after it."""
    state = ClusterState(
        now=at,
        config=ClusterConfig("c", (NodeType("t", R(CPU=8, GPU=4)),)),
        instances=(Instance("a", "t", InstanceStatus.RUNNING, 0.0, ray_node_id="n-a"),),
        nodes=snapshot.nodes,
        demands=snapshot.demands,
        misfits=misfit.learned(known, snapshot, at),
    )
    found = plan(state)
    return len(found.launches), misfit.follow(known, found, snapshot, NAMES, at)


@pytest.mark.parametrize(("free", "asked"), [(2.8, 1.0), (2.8, 0.8), (2.8, 2.0), (1.0, 0.4)])
def test_what_stays_where_it_was_planned_is_launched_for_in_the_end_and_no_launch_flaps(free, asked):
    """Four GPUs of which 0.3 each is used have no whole one, though the sum says 2.8."""
    launches, known = planned({}, shown(free, asked), 0.0)
    assert launches == 0
    launches, known = planned(known, shown(free, asked), LEARNED_S - 0.1)
    assert launches == 0
    assert misfit.next_learned(known, LEARNED_S - 0.1) == LEARNED_S
    for at in (LEARNED_S, LEARNED_S + 1, LEARNED_S * 5):
        launches, known = planned(known, shown(free, asked), at)
        assert (launches, list(known)) == (1, [Misfit("n-a", "GPU", round(asked * 10_000))])


@pytest.mark.parametrize(
    "after",
    [
        pytest.param(shown(2.5, 1.0), id="another sum is another guess"),
        pytest.param(shown(2.8), id="what nobody asks for is forgotten"),
        pytest.param(replace(shown(2.8, 1.0), nodes=()), id="a node that is gone is forgotten"),
    ],
)
def test_a_lesson_ends_with_what_taught_it(after):
    _, known = planned({}, shown(2.8, 1.0), 0.0)
    assert misfit.learned(known, shown(2.8, 1.0), LEARNED_S) == (Misfit("n-a", "GPU", 10_000),)
    assert misfit.learned(known, after, LEARNED_S) == ()
    _, known = planned(known, after, LEARNED_S)
    assert misfit.learned(known, shown(2.8, 1.0), LEARNED_S) == ()


@pytest.mark.parametrize(
    ("snapshot", "why"),
    [
        pytest.param(shown(4, 1.0), "nothing is used", id="nothing used"),
        pytest.param(shown(0.5, 0.4, total=1), "it is one device", id="one device"),
    ],
)
def test_nothing_is_learned_where_nothing_is_guessed(snapshot, why):
    launches, known = planned({}, snapshot, 0.0)
    assert (launches, known) == (0, {}), why


def test_smaller_amounts_still_go_there():
    _, known = planned({}, shown(2.8, 1.0), 0.0)
    launches, _ = planned(known, shown(2.8, 1.0, 0.4), LEARNED_S)
    assert launches == 1
