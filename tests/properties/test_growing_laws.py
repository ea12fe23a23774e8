"""The planner's laws where workers may grow in place (J4): the judge's, the fixed point, and that no order of the input decides who grows."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayscaler.model.instance import Reason
from rayscaler.model.resources import Resources
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan
from tests.counts import counted
from tests.properties.checker import check
from tests.properties.growing_states import growing_states
from tests.properties.test_planner_laws import assert_nothing_to_do, carried_out, comparable, turned

pytestmark = pytest.mark.tier("property")

examples = settings(max_examples=max(settings().max_examples, counted(gate=30, full=2_000)))


def grown(state: ClusterState) -> ClusterState:
    """Return the state once all have grown, while what they grew for is still reported."""
    growing = {each.ray_node_id: each.growing.resources for each in state.instances if each.growing}
    nodes = []
    for row in state.nodes:
        to = growing.get(row.ray_node_id, row.total)
        more = {name: max(0, to.get(name, 0) - row.total.get(name, 0)) for name in ("CPU", "memory")}
        nodes.append(replace(row, total=row.total.add(Resources(more)), available=row.available.add(Resources(more))))
    return replace(state, nodes=tuple(nodes), instances=tuple(replace(each, growing=None) for each in state.instances))


@examples
@given(growing_states())
def test_j4_an_independent_judge_finds_no_breach(state):
    assert check(state, plan(state)) == []


@examples
@given(growing_states(), st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_decide_who_grows(state, random):
    assert comparable(plan(turned(state, random))) == comparable(plan(state))


@examples
@given(growing_states())
def test_growths_carried_out_leave_nothing_to_do(state):
    first = plan(state)
    after = carried_out(state, first)
    second = plan(after)
    assert_nothing_to_do(state, after, first, second)
    assert check(after, second) == []


@examples
@given(growing_states(is_steady=True, device=""))
def test_what_nodes_have_grown_for_is_launched_for_no_more(state):
    begun = carried_out(state, plan(state))
    after = grown(begun)
    found = plan(after)
    assert check(after, found) == []
    ready = {Reason.HEADROOM, Reason.MIN_WORKERS, Reason.HELD, Reason.REPLICA}
    assert {each.reason for each in found.launches} <= ready, (plan(state), found)


@settings(examples, max_examples=max(settings().max_examples, counted(gate=15, full=300)))
@given(growing_states(is_steady=True, device=""))
def test_an_improved_plan_grows_as_the_first_one_does_but_for_what_it_leaves_over(state):
    first, found = plan(state), plan(state, 40)
    assert check(state, found) == []
    sizes = {each.instance_id: each.resources for each in found.growths}
    if not found.infeasible and not first.infeasible:
        assert sizes == {each.instance_id: each.resources for each in first.growths}
