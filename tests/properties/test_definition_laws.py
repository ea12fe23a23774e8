"""What an edit of a definition may change: never the workers of types that it does not speak of (CD-4, CD-5, CD-14, complaint K1)."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayscaler.model.instance import InstanceStatus, Reason
from rayscaler.model.nodetype import NEVER, NodeType, UpdatePolicy
from rayscaler.model.plan import Plan
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan
from tests.counts import counted
from tests.properties.states import cluster_states, node_types

pytestmark = pytest.mark.tier("property")

examples = settings(max_examples=max(settings().max_examples, counted(gate=100, full=2_000)))


def ends(found: Plan) -> set[str]:
    return {each.instance_id for each in (*found.drains, *found.terminations)}


def edited(state: ClusterState, *types: NodeType) -> ClusterState:
    return replace(state, config=replace(state.config, node_types=types))


@examples
@given(cluster_states(), node_types("zebra"))
def test_cd_4_adding_a_type_ends_nothing_that_would_have_stayed(state, added):
    added = replace(added, min_workers=0)
    stuck = {each.instance_id for each in state.instances if each.stuck_since is not None}  # kept only for as long as nothing else serves
    assert ends(plan(edited(state, *state.config.node_types, added))) - stuck <= ends(plan(state))


@examples
@given(cluster_states(), st.data())
def test_cd_5_removing_a_type_ends_no_worker_of_another_that_would_have_stayed(state, data):
    types = state.config.node_types
    gone = data.draw(st.sampled_from([*types, None]))
    if gone is None:
        return
    found = plan(edited(state, *(each for each in types if each is not gone)))
    others = {each.instance_id for each in state.instances if each.node_type != gone.name}
    assert ends(found) & others <= ends(plan(state))
    assert [each for each in found.launches if each.node_type == gone.name] == []


@examples
@given(cluster_states(), st.sampled_from([NEVER, 1000.0, 7.0, 0.0]), st.data())
def test_cd_14_an_idle_timeout_edited_live_counts_in_the_next_plan_and_only_for_its_type(state, timeout_s, data):
    types = state.config.node_types
    chosen = data.draw(st.sampled_from([*types, None]))
    if chosen is None:
        return
    after = plan(edited(state, *(replace(each, idle_timeout_s=timeout_s) if each is chosen else each for each in types)))
    idle = {each.instance_id for each in after.drains if each.reason is Reason.IDLE}
    kinds = {each.instance_id: each.node_type for each in state.instances}
    idle_s = {row.instance_id: row.idle_s for row in state.nodes}
    assert all(idle_s[each] >= timeout_s for each in idle if kinds[each] == chosen.name)
    before = plan(state)
    assert {each for each in ends(after) if kinds[each] != chosen.name} == {each for each in ends(before) if kinds[each] != chosen.name}
    assert after.launches == before.launches


@examples
@given(cluster_states(), st.sampled_from([UpdatePolicy.ON_DELETE, UpdatePolicy.RECREATE]))
def test_cd_6_on_delete_replaces_nothing_and_recreate_all_that_is_outdated_at_once(state, policy):
    state = replace(edited(state, *(replace(each, update_policy=policy) for each in state.config.node_types)), no_end=None)
    found = plan(state)
    replaced = {each.instance_id for each in (*found.drains, *found.terminations) if each.reason is Reason.OUTDATED}
    if policy is UpdatePolicy.ON_DELETE:
        assert replaced == set()
        return
    old = {
        each.instance_id
        for each in state.instances
        if state.config.is_outdated(each.made_as)
        and each.status in (InstanceStatus.REQUESTED, InstanceStatus.ALLOCATED, InstanceStatus.RUNNING)
        and each.node_dead_since is None
        and each.ends_at is None  # told to end by others: it goes for that reason
        and (each.status is not InstanceStatus.RUNNING or each.drain_not_before <= state.now)
    }
    assert replaced == old
    assert not {each.node for each in found.placements} & old
