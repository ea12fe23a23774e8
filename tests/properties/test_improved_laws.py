"""The planner's laws for plans that were improved: the mix is laid out anew, and everything else still holds."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayscaler.model.demand import Bundle, Demand
from rayscaler.model.nodetype import UNLIMITED, NodeType
from rayscaler.model.resources import Resources
from rayscaler.planner.plan import plan
from tests.counts import counted
from tests.properties.checker import check
from tests.properties.states import cluster_states
from tests.properties.test_planner_laws import assert_kept, assert_nothing_to_do, carried_out, joined

pytestmark = pytest.mark.tier("property")

examples = settings(max_examples=max(settings().max_examples, counted(gate=60, full=2_000)))

STEPS = 60


sizes = st.builds(
    lambda cores, ratio, gpus: Resources.of(CPU=cores, memory=cores * ratio, GPU=gpus),
    *map(st.sampled_from, ([4, 6, 8, 16], [1, 2, 4], [0, 0, 1, 2])),
)
pieces = st.builds(
    lambda cores, memory, gpus: Bundle(
        Resources.of(CPU=cores, **{name: amount for name, amount in (("memory", memory), ("GPU", gpus)) if amount})
    ),
    *map(st.sampled_from, ([0.5, 1, 2, 3, 5], [0, 1, 3, 5, 8], [0, 0, 0, 0.3, 0.6, 1])),
)


@st.composite
def states(draw):
    """Return a state that can be improved: no speed limit, a cost for each node type, and some larger types with work for several nodes."""
    state = draw(cluster_states(is_steady=True, device="GPU"))
    costs = st.sampled_from([0.5, 1.0, 2.0, 3.5])
    types = [each if each.cost is not None else replace(each, cost=draw(costs)) for each in state.config.node_types]
    for name in ("elk", "fox", "gnu")[: draw(st.integers(1, 3))]:
        most = draw(st.sampled_from([UNLIMITED, UNLIMITED, 3, 6]))
        types.append(NodeType(name, draw(sizes), max_workers=most, cost=draw(st.sampled_from([1.0, 1.3, 2.1, 3.2, 4.0]))))
    work = draw(st.lists(st.builds(Demand, pieces, st.integers(1, 12)), min_size=2, max_size=5, unique_by=lambda each: each.bundle))
    most = draw(st.sampled_from([UNLIMITED, UNLIMITED, UNLIMITED, max(20, state.config.max_workers)]))
    spend = draw(st.sampled_from([None, None, None, 20.0]))
    config = replace(state.config, node_types=tuple(types), max_workers=most, spend_limit=spend)
    return replace(state, config=config, demands=(*state.demands, *work))


@examples
@given(states())
def test_an_independent_judge_finds_no_breach(state):
    assert check(state, plan(state, STEPS)) == []


@examples
@given(states())
def test_a_plan_carried_out_leaves_nothing_to_do(state):
    first = plan(state, STEPS)
    after = carried_out(state, first)
    # What goes on which of the nodes that are there is not remembered: first fit may put there what was left out, and launch for what was to be there.
    has_room_anew = first.infeasible and state.nodes
    for steps in (STEPS,) if has_room_anew else (0, STEPS):
        assert_nothing_to_do(state, after, first, plan(after, steps))


@examples
@given(states())
def test_a_launch_still_serves_what_it_was_launched_for(state):
    first = plan(state, STEPS)
    after = carried_out(state, first)
    for steps in (0, STEPS):
        second = plan(after, steps)
        assert check(after, second) == []
        assert_kept(state, first, second)


@examples
@given(states())
def test_nothing_is_launched_once_the_launches_have_joined(state):
    state = with_no_notice(state)
    after = joined(carried_out(state, plan(state, STEPS)))
    assert {each.reason.value for each in plan(after, STEPS).launches} <= {"MIN_WORKERS", "HELD", "HEADROOM"}


@examples
@given(states())
def test_it_is_never_worse_than_the_first_plan(state):
    state = with_no_notice(state)
    first, improved = plan(state), plan(state, STEPS)
    assert measure(improved) <= measure(first)


def with_no_notice(state):
    """Return the state without notices of an end: the work of such nodes finds room in one plan and none in another, and is not told where it does not."""
    return replace(state, instances=tuple(replace(each, ends_at=None) for each in state.instances))


def measure(found):
    """Return how many demands are left out, and what is told of the mix."""
    left = sum(each.count for each in found.infeasible)
    return left, 0.0 if found.mix is None else round(found.mix.cost, 6)
