"""What a type's cost counts for where types are compared, and what is spent."""

from collections import Counter

import pytest

from rayscaler.model.demand import Bundle, Demand
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan

pytestmark = pytest.mark.tier("unit")

R = Resources.of
WORK = tuple(Demand(Bundle(R(CPU=cpus)), count) for cpus, count in ((7, 9), (5, 9), (3, 5)))


def asked(*, factor: float, spend_limit: float | None = None) -> ClusterState:
    """Return a state in which the bigger type costs twice as much, weighed by a factor."""
    types = NodeType("big", R(CPU=16), cost=2.0, cost_factor=factor), NodeType("small", R(CPU=8), cost=1.0)
    return ClusterState(0.0, ClusterConfig("c", types, spend_limit=spend_limit), demands=WORK)


@pytest.mark.parametrize(("factor", "only"), [(0.4, "big"), (3.0, "small")])
@pytest.mark.parametrize("steps", [0, 50])
def test_the_mix_is_the_cheapest_by_weighed_costs(factor, only, steps):
    found = plan(asked(factor=factor), steps)
    assert {each.node_type for each in found.launches} == {only}
    assert not found.infeasible
    count = len(found.launches)
    assert found.mix is not None
    assert found.mix.cost == pytest.approx(count * (2 * factor if only == "big" else 1))
    assert found.mix.bound is not None
    assert found.mix.bound <= found.mix.cost


def test_a_factor_of_one_is_none():
    one, other = plan(asked(factor=1.0), 50), plan(ClusterState(0.0, ClusterConfig("c", _plain()), demands=WORK), 50)
    assert one == other


def _plain() -> tuple[NodeType, ...]:
    return NodeType("big", R(CPU=16), cost=2.0), NodeType("small", R(CPU=8), cost=1.0)


@pytest.mark.parametrize("factor", [0.1, 0.5, 1.0, 3.0])
@pytest.mark.parametrize("limit", [3.0, 7.0, 12.0])
def test_no_mix_spends_more_than_the_limit(factor, limit):
    found = plan(asked(factor=factor, spend_limit=limit), 50)
    count = Counter(each.node_type for each in found.launches)
    assert 2 * count["big"] + count["small"] <= limit
    assert found.launches


@pytest.mark.parametrize("factor", [0.4, 3.0])
def test_a_limit_that_leaves_room_changes_no_mix(factor):
    """Both are looked for by weighed costs, and the limit goes by what is spent."""
    free, limited = plan(asked(factor=factor), 50), plan(asked(factor=factor, spend_limit=100.0), 50)
    assert limited.launches == free.launches
    assert limited.mix == free.mix


def test_the_mix_is_improved_within_the_limit_though_costs_are_weighed():
    """Of three types the first plan takes the best filled; the mix finds one cheaper by weighed costs that the limit still pays for."""
    types = (
        NodeType("big", R(CPU=16), cost=2.0, cost_factor=0.9),
        NodeType("mid", R(CPU=11), cost=1.2, cost_factor=1.1),
        NodeType("small", R(CPU=8), cost=1.0),
    )
    demands = tuple(Demand(Bundle(R(CPU=cpus)), count) for cpus, count in ((7, 9), (6, 9), (5, 9), (3, 5), (2, 7)))
    state = ClusterState(0.0, ClusterConfig("c", types, spend_limit=27.0), demands=demands)
    first, found = plan(state), plan(state, 200)
    assert found.mix is not None and first.mix is not None  # noqa: PT018 - for mypy too
    assert not first.infeasible and not found.infeasible  # noqa: PT018
    assert found.mix.cost < first.mix.cost
    paid = {each.name: each.cost for each in types}
    assert sum(paid[each.node_type] for each in found.launches) <= 27.0
