"""Gangs whose parts of devices differ: they are put only where they have room in the order in which a raylet gives out."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayscaler.model.demand import Bundle, Demand, Gang, Locality, Strategy
from rayscaler.model.instance import Reason
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import UNIT, Resources
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan
from tests.counts import counted
from tests.properties.checker import check
from tests.properties.giving import fits_in_order, given_out, has_mixed_parts
from tests.properties.states import cluster_states
from tests.properties.test_planner_laws import assert_nothing_to_do, carried_out

pytestmark = pytest.mark.tier("property")

examples = settings(max_examples=max(settings().max_examples, counted(gate=100, full=2_000)))

BUNDLES = tuple(
    Bundle(Resources({"GPU": amount, **more})) for amount in (2_500, 3_000, 4_000, 6_000, 7_000, UNIT) for more in ({}, {"CPU": UNIT // 2})
)


@st.composite
def states(draw):
    state = draw(cluster_states(device="GPU", is_steady=draw(st.booleans())))
    wanted = st.lists(st.builds(Demand, st.sampled_from(BUNDLES), st.sampled_from([1, 1, 2])), min_size=2, max_size=4)
    gangs = [
        Gang(f"g{i}", strategy, tuple(draw(wanted)))
        for i, strategy in enumerate(draw(st.lists(st.sampled_from(Strategy), min_size=1, max_size=3)))
    ]
    return replace(state, gangs=tuple(gangs))


@examples
@given(states())
def test_an_independent_judge_finds_no_breach(state):
    assert check(state, plan(state)) == []


@examples
@given(states(), st.data())
def test_nor_where_gangs_lie_within_one_zone_too(state, data):
    zones = st.sampled_from([None, Locality("zone"), Locality("zone")])
    state = replace(state, gangs=tuple(replace(each, locality=data.draw(zones)) for each in state.gangs))
    first = plan(state)
    assert check(state, first) == []
    after = carried_out(state, first)
    second = plan(after)
    assert_nothing_to_do(state, after, first, replace(second, drains=(), terminations=()))


@examples
@given(states())
def test_a_plan_carried_out_leaves_nothing_to_do(state):
    first = plan(state)
    after = carried_out(state, first)
    assert_nothing_to_do(state, after, first, plan(after))


@examples
@given(st.lists(st.builds(Demand, st.sampled_from(BUNDLES), st.sampled_from([1, 2, 3])), min_size=2, max_size=5), st.integers(1, 4))
def test_what_is_packed_strictly_on_an_empty_node_is_what_a_raylet_gives_out(wanted, number):
    """Exact, where the node is empty and the order known."""
    gang = Gang("g", Strategy.STRICT_PACK, tuple(wanted))
    state = ClusterState(0.0, ClusterConfig("c", (NodeType("one", Resources.of(CPU=64, GPU=number)),)), gangs=(gang,))
    found = plan(state)
    assert len(found.launches) == fits_in_order(gang, {"GPU": number * UNIT})
    reasons = {each.reason for each in found.infeasible}
    assert reasons <= {Reason.BUNDLE_ORDER, Reason.NO_TYPE_FITS} if has_mixed_parts(gang) else reasons <= {Reason.NO_TYPE_FITS}


@pytest.mark.parametrize(
    ("amounts", "is_good"),
    [
        ((0.25, 0.25, 0.7, 0.7), False),
        ((0.7, 0.7, 0.25, 0.25), True),
        ((0.7, 0.25, 0.7, 0.25), True),
        ((0.25, 0.7, 0.25, 0.7), True),
        ((0.25, 0.7, 0.7, 0.25), True),
        ((0.7, 0.25, 0.25, 0.7), True),
    ],
)
def test_the_judge_gives_out_as_real_raylets_were_seen_to(amounts, is_good):
    """`ray/test_order_of_bundles` asks real ones."""
    assert (given_out([round(each * UNIT) for each in amounts], (UNIT, UNIT)) is not None) is is_good


def test_the_judge_finds_a_gang_that_is_put_where_its_order_has_no_room():
    small, large = Bundle(Resources.of(GPU=0.25)), Bundle(Resources.of(GPU=0.7))
    gang = Gang("g", Strategy.STRICT_PACK, (Demand(large, 2), Demand(small, 2)))
    state = ClusterState(0.0, ClusterConfig("c", (NodeType("two", Resources.of(CPU=8, GPU=2)),)), gangs=(gang,))
    good = plan(state)
    assert (Counter(each.node_type for each in good.launches), check(state, good)) == ({"two": 1}, [])
    other = replace(state, gangs=(replace(gang, bundles=gang.bundles[::-1]),))
    assert [each for each in check(other, good) if "where GPU may come as" in each]
