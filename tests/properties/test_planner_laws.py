"""The planner's laws (house section 7) on random clusters."""

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayscaler.lifecycle import backoff
from rayscaler.model.demand import Gang
from rayscaler.model.instance import Growing, Instance, InstanceStatus, Reason
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.plan import Plan
from rayscaler.model.resources import Resources
from rayscaler.model.state import Begun, ClusterState, Expectation
from rayscaler.planner.plan import plan
from tests.counts import counted
from tests.properties.checker import check
from tests.properties.giving import has_mixed_parts
from tests.properties.states import NOW, cluster_states
from tests.properties.world import World

pytestmark = pytest.mark.tier("property")

examples = settings(max_examples=max(settings().max_examples, counted(gate=100, full=2_000)))


def carried_out(state: ClusterState, found: Plan) -> ClusterState:
    """Return the state once a plan has been asked for: launches requested, drains and ends begun, and tries that make way have failed."""
    drained = {each.instance_id for each in found.drains}
    given_up = {each.instance_id for each in found.terminations if each.reason is Reason.MAKES_WAY}
    failed = {each.node_type for each in state.instances if each.instance_id in given_up}
    ended = {each.instance_id for each in found.terminations}
    growths = {each.instance_id: each for each in found.growths}
    instances, expectations = [], [each for each in state.expectations if each.instance_id not in growths]
    expectations += [Expectation(each.instance_id, "", NOW + 60, each.reserves) for each in found.growths]
    for each in state.instances:
        if each.instance_id in growths:
            each = replace(each, growing=Growing(growths[each.instance_id].resources, NOW))  # noqa: PLW2901
        status = InstanceStatus.TERMINATING if each.instance_id in ended else InstanceStatus.DRAINING
        instances.append(replace(each, status=status) if each.instance_id in ended | drained else each)
    numbers: Counter[str] = Counter()
    for index, launch in enumerate(found.launches):
        name = f"c-{launch.node_type}-9-{index}"
        made = Instance(name, launch.node_type, InstanceStatus.REQUESTED, NOW, requested_at=NOW)
        hosts = state.config.node_type(launch.node_type).hosts_per_replica
        if hosts > 1:
            number = numbers[launch.node_type]
            made = replace(made, replica=f"c-{launch.node_type}-9-r{number // hosts}", host=number % hosts)
        numbers[launch.node_type] += 1
        instances.append(made)
        expectations.append(Expectation(name, launch.node_type, NOW + 60, launch.reserves, launch.gangs))
    since = dict(state.unneeded_since)
    return replace(
        state,
        instances=tuple(instances),
        expectations=tuple(expectations),
        backoffs=tuple(backoff.given_up(each, state.now) if each.node_type in failed else each for each in state.backoffs),
        unneeded_since=tuple((each, since.get(each, NOW)) for each in found.unneeded),
        begun=(*state.begun, *(Begun(NOW, each.node_type, 1) for each in found.launches)) if state.config.is_paced else (),
        busiest=() if any(each.reason is Reason.CONSOLIDATED for each in found.drains) else state.busiest,
    )


def joined(state: ClusterState) -> ClusterState:
    """Return the state once this plan's launches have joined, empty, while their demand is still reported."""
    instances, nodes = [], list(state.nodes)
    for each in state.instances:
        node_type = state.config.node_type(each.node_type)
        if each.requested_at < NOW or node_type is None:
            instances.append(each)
            continue
        node_id = f"n-{each.instance_id}"
        instances.append(replace(each, status=InstanceStatus.RUNNING, ray_node_id=node_id))
        labels = tuple(node_type.node_labels().items())
        whole = Resources(World(state, Plan()).brings(node_type.name))
        nodes.append(RayNode(node_id, each.instance_id, each.node_type, NodeStatus.IDLE, whole, whole, labels))
    return replace(state, instances=tuple(instances), nodes=tuple(nodes))


@examples
@given(cluster_states())
def test_an_independent_judge_finds_no_breach(state):
    assert check(state, plan(state)) == []


def turned(state: ClusterState, random) -> ClusterState:
    """Return the state with all that has no order in another one."""

    def shuffled(values):
        return tuple(random.sample(values, len(values)))

    return replace(
        state,
        config=replace(state.config, node_types=shuffled(state.config.node_types)),
        instances=shuffled(state.instances),
        nodes=shuffled(state.nodes),
        demands=shuffled(state.demands),
        gangs=tuple(each if has_mixed_parts(each) else replace(each, bundles=shuffled(each.bundles)) for each in shuffled(state.gangs)),
        backoffs=shuffled(state.backoffs),
        begun=shuffled(state.begun),
        unneeded_since=shuffled(state.unneeded_since),
        expectations=shuffled(state.expectations),
    )


@examples
@given(cluster_states(), st.randoms(use_true_random=False))
def test_the_order_of_the_input_changes_nothing(state, random):
    assert comparable(plan(turned(state, random))) == comparable(plan(state))


def comparable(found: Plan):
    """Return a plan with each refused gang by its id, since the gang handed back has the order of its input."""
    refused = [(each.what.gang_id if isinstance(each.what, Gang) else each.what, each.count, each.reason) for each in found.infeasible]
    return replace(found, infeasible=()), found.placements, refused


@examples
@given(cluster_states())
def test_a_plan_carried_out_leaves_nothing_to_do(state):
    first = plan(state)
    after = carried_out(state, first)
    second = plan(after)
    assert_nothing_to_do(state, after, first, second)


def assert_nothing_to_do(state: ClusterState, after: ClusterState, first: Plan, second: Plan) -> None:
    """Check that a plan leaves nothing to do, but that what was made ready may be of somebody's first choice, and taken: then another is made ready."""
    ready = Counter(each.node_type for each in second.launches if each.reason is Reason.HEADROOM)
    made_ready = Counter(each.node_type for each in first.launches if each.reason is Reason.HEADROOM)
    assert ready <= taken(state, after, second) & made_ready, (first, second)
    assert len(second.launches) == ready.total(), (first, second)
    assert not second.growths, (first, second)
    assert not second.drains, (first, second)
    assert not second.terminations, (first, second)


def taken(state: ClusterState, after: ClusterState, found: Plan) -> Counter[str]:
    """Return how many of the nodes that are new after a plan hold, by another, what may go elsewhere: gangs, and who has a choice of labels.

    Of a replica that holds some, all hosts are taken.
    """
    before = {each.instance_id for each in state.instances}
    new = {each.instance_id: each for each in after.instances if each.instance_id not in before}
    movable = [new[each.node] for each in found.placements if each.node in new and (each.gang_id or len(each.bundle.selectors) > 1)]
    units = {each.replica or each.instance_id: each.node_type for each in movable}
    hosts = {each.name: each.hosts_per_replica for each in state.config.node_types}
    return Counter(name for name in units.values() for _ in range(hosts[name]))


@examples
@given(cluster_states(is_steady=True))
def test_nothing_is_launched_or_ended_once_the_launches_have_joined(state):
    after = joined(carried_out(state, plan(state)))
    found = plan(after)
    # A node that was kept for the minimum, or the hold, until its relief had joined may go now, and the next outdated one be replaced; a node that
    # has become ready may be taken, and another be made ready; nothing else.
    held = dict(state.held)
    replaced = Counter(each.node_type_of(after) for each in map(Named, found.drains) if each.reason is Reason.OUTDATED)
    ready = Counter(each.node_type for each in found.launches if each.reason is Reason.HEADROOM)
    assert ready <= taken(state, after, found)
    assert not Counter(each.node_type for each in found.launches) - replaced - ready
    assert {each.reason for each in found.launches} <= {Reason.MIN_WORKERS, Reason.HELD, Reason.HEADROOM}
    assert found.terminations == ()
    for each in map(Named, found.drains):
        node_type = each.node_type_of(after)
        assert each.reason in (Reason.IDLE, Reason.CONSOLIDATED, Reason.OUTDATED)
        assert each.reason is Reason.CONSOLIDATED or state.config.node_type(node_type).min_workers or held.get(node_type)
    assert check(after, found) == []


class Named:
    """A drain that knows its node type."""

    def __init__(self, drain):
        self.drain, self.reason = drain, drain.reason

    def node_type_of(self, state: ClusterState) -> str:
        return next(each.node_type for each in state.instances if each.instance_id == self.drain.instance_id)


@examples
@given(cluster_states(is_steady=True))
def test_a_launch_still_serves_what_it_was_launched_for(state):
    first = plan(state)
    assert_kept(state, first, plan(carried_out(state, first)))


@examples
@given(cluster_states(is_steady=True, device="GPU"))
def test_accelerators_are_handed_out_one_by_one_and_promises_of_them_kept(state):
    first = plan(state)
    assert check(state, first) == []
    after = carried_out(state, first)
    second = plan(after)
    assert_nothing_to_do(state, after, first, second)
    assert check(after, second) == []
    assert_kept(state, first, second)


def assert_kept(state: ClusterState, first: Plan, second: Plan) -> None:
    """Check that what launches were for is there again, but for gangs whose order decides: held in part, such a gang is placed anew as a whole."""
    in_order = {gang.gang_id for gang in state.gangs if has_mixed_parts(gang)}
    promised, kept = Counter(), Counter()
    for index, launch in enumerate(first.launches):
        for each in (each for each in launch.reserves if each.gang_id not in in_order):
            promised[f"c-{launch.node_type}-9-{index}", each.bundle, each.gang_id, each.is_constraint] += each.count
    for each in second.placements:
        kept[each.node, each.bundle, each.gang_id, each.is_constraint] += each.count
    assert not promised - kept
    assert not set(second.unneeded) & {node for node, *_ in promised}
