"""Gangs that lie within one value of a label: the laws of plans hold for them too."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayscaler.model.demand import LabelCondition, LabelSelector, Locality, Operator
from rayscaler.planner.plan import plan
from tests.counts import counted
from tests.properties.checker import check
from tests.properties.states import cluster_states
from tests.properties.test_planner_laws import carried_out, comparable, joined

pytestmark = pytest.mark.tier("property")

examples = settings(max_examples=max(settings().max_examples, counted(gate=100, full=2_000)))

ANYWHERE = LabelSelector()
HERE = LabelSelector((LabelCondition("zone", Operator.IN, ("a",)),))
LOCALITIES = st.sampled_from(
    [None, *[Locality("zone", ANYWHERE)] * 3, Locality("disk", ANYWHERE), Locality("zone", HERE), Locality("rack", ANYWHERE)]
)


@st.composite
def states(draw, **more):
    state = draw(cluster_states(**more))
    return replace(state, gangs=tuple(replace(each, locality=draw(LOCALITIES)) for each in state.gangs))


@examples
@given(states())
def test_an_independent_judge_finds_no_breach(state):
    assert check(state, plan(state)) == []


@examples
@given(states(), st.randoms(use_true_random=False))
def test_the_order_of_the_input_changes_nothing(state, random):
    def shuffled(values):
        return tuple(random.sample(values, len(values)))

    other = replace(state, nodes=shuffled(state.nodes), instances=shuffled(state.instances), gangs=shuffled(state.gangs))
    assert comparable(plan(other)) == comparable(plan(state))


@examples
@given(states())
def test_a_plan_carried_out_leaves_nothing_to_do(state):
    first = plan(state)
    second = plan(carried_out(state, first))
    assert second.is_empty, (first, second)


@examples
@given(states(is_steady=True))
def test_no_gang_is_launched_for_again_once_the_launches_have_joined(state):
    after = joined(carried_out(state, plan(state)))
    assert not [each for each in plan(after).launches if each.gangs]
