"""The planner's laws where launches are limited, at once and in a minute (complaint D4): on random clusters that all have some such limit."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayscaler.model.instance import PACED
from rayscaler.planner.plan import plan
from tests.counts import counted
from tests.properties.checker import check
from tests.properties.states import begun, cluster_states
from tests.properties.test_improved_laws import STEPS, states
from tests.properties.test_planner_laws import assert_nothing_to_do, carried_out

pytestmark = pytest.mark.tier("property")

examples = settings(max_examples=max(settings().max_examples, counted(gate=25, full=2_000)))


@examples
@given(cluster_states(is_paced=True, device="GPU"))
def test_d4_an_independent_judge_finds_no_breach_and_a_plan_carried_out_leaves_nothing_to_do(state):
    first = plan(state)
    assert check(state, first) == []
    after = carried_out(state, first)
    second = plan(after)
    assert check(after, second) == []
    assert_nothing_to_do(state, after, first, second)


@st.composite
def improved(draw):
    """Return a state that can be improved, with limits of launches that a replica gets below."""
    state = draw(states())
    hosts = max([1, *(each.hosts_per_replica for each in state.config.node_types)])
    fields = draw(st.lists(st.sampled_from(["max_concurrent_launches", "max_launches_per_minute"]), min_size=1, unique=True))
    limits = {each: draw(st.integers(hosts, hosts + 6)) for each in fields}
    return replace(state, config=replace(state.config, **limits), begun=draw(begun))


@examples
@given(improved())
def test_d4_a_mix_that_was_improved_is_begun_in_portions_too(state):
    found = plan(state, STEPS)
    assert check(state, found) == []
    whole = plan(replace(state, config=state.config.unpaced()), STEPS)
    assert found.mix == whole.mix  # limits of launches change nothing of what is planned
    if any(each.reason in PACED for each in found.infeasible):
        assert len(found.launches) < len(whole.launches)
