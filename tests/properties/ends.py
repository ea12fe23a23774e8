"""The judge's part on what a plan ends: nothing busy, nothing needed, and all that the definition makes no more."""

from collections import Counter

from rayscaler.model.instance import IN_FLIGHT, InstanceStatus, Reason
from rayscaler.model.node import NodeStatus
from tests.properties import wholes
from tests.properties.world import World, fits, label_ok

SOFT = (Reason.IDLE, Reason.CONSOLIDATED, Reason.UNNEEDED)
LEAVING = (InstanceStatus.DRAINING, InstanceStatus.TERMINATING)


def ends(world: World) -> list[str]:
    wrong, plan = [], world.plan
    if world.state.no_end is not None and (plan.drains or plan.terminations or plan.unneeded):
        wrong.append(f"something ends though {world.state.no_end}")
    ended = [each.instance_id for each in (*plan.drains, *plan.terminations)]
    wrong += [f"{name} ends twice" for name, count in Counter(ended).items() if count > 1]
    needed = {each.node for each in plan.placements}
    rows = {row.ray_node_id: row for row in world.state.nodes}
    for drain in plan.drains:
        instance = world.instances.get(drain.instance_id)
        if instance is None or instance.status is not InstanceStatus.RUNNING or instance.ray_node_id != drain.ray_node_id:
            wrong.append(f"{drain} is of no running instance")
        elif drain.reason is Reason.IDLE:
            row = rows[drain.ray_node_id]
            if row.status is not NodeStatus.IDLE or row.idle_s < world.state.config.idle_timeout_of(instance.node_type):
                wrong.append(f"{drain} is of a node that is not idle long enough")
            if drain.is_preemption or instance.drain_not_before > world.state.now or drain.instance_id in needed:
                wrong.append(f"{drain} is not allowed")
        elif drain.reason is Reason.CONSOLIDATED:
            wrong += _consolidation_breaches(world, drain, instance, is_needed=drain.instance_id in needed)
        elif drain.reason is Reason.OUTDATED:
            wrong += _update_breaches(world, drain, instance, is_needed=drain.instance_id in needed)
        if (drain.deadline_s is not None) != (instance is not None and instance.ends_at is not None):
            wrong.append(f"{drain} kills tasks at its deadline, or is of a node that others end, without one")
    for end in plan.terminations:
        instance = world.instances.get(end.instance_id)
        if instance is None or instance.status is InstanceStatus.TERMINATING:
            wrong.append(f"{end} is of nothing")
        elif instance.status not in IN_FLIGHT and instance.node_dead_since is None:
            wrong.append(f"{end} is of a living node")
        elif end.reason is Reason.OUTDATED and (
            not world.is_outdated(instance) or instance.status is InstanceStatus.REJOINING or _policy(world, instance) == "OnDelete"
        ):
            wrong.append(f"{end} is of no outdated launch")
    return [*wrong, *_left_running(world, set(ended)), *_minimum_breaches(world, set(ended))]


def _policy(world: World, instance) -> str:
    return world.types[instance.node_type].update_policy


def _update_breaches(world: World, drain, instance, *, is_needed: bool) -> list[str]:
    """A node that rolls is idle and nobody's, Ray may refuse its drain; one that is made anew ends with its work."""
    wrong = [] if world.is_outdated(instance) else [f"{drain} is of a node that is not outdated"]
    if is_needed:
        wrong.append(f"{drain} is of a node that the plan uses")
    row = next((each for each in world.state.nodes if each.ray_node_id == drain.ray_node_id), None)
    match _policy(world, instance):
        case "OnDelete":
            wrong.append(f"{drain} is of a type that replaces nothing")
        case "Recreate":
            if not drain.is_preemption or instance.drain_not_before > world.state.now:
                wrong.append(f"{drain} is asked so that Ray may refuse it, or too soon again")
        case _:
            if row is None or row.status is not NodeStatus.IDLE or drain.is_preemption:
                wrong.append(f"{drain} is of a node that is not idle")
            elif _could_be_asked_of(world, row):
                wrong.append(f"{drain} is of a node that something asked for could take")
    return wrong


def _could_be_asked_of(world: World, row) -> bool:
    asked = [*world.state.demands, *(world.state.constraint.demands if world.state.constraint else ())]
    asked += [each for gang in world.state.gangs for each in gang.bundles]
    wanted = [each.bundle for each in asked if each.count > 0]
    usable = [each for each in wanted if not any(name.startswith("bundle_group_") for name in each.resources)]
    total = dict(row.total)
    return any(fits(each, total, total) and label_ok(each, dict(row.labels)) for each in usable)


def _consolidation_breaches(world: World, drain, instance, *, is_needed: bool) -> list[str]:
    """It was asked for, the node is idle, nothing else is wanted, and what stays had room for all that went."""
    state, plan = world.state, world.plan
    row = next(each for each in state.nodes if each.ray_node_id == drain.ray_node_id)
    busiest = dict(state.busiest)
    wrong = []
    if not state.config.consolidation or row.status is not NodeStatus.IDLE or row.ray_node_id not in busiest:
        wrong.append(f"{drain} is of a node that is busy or was not seen for long enough, or nobody asked for it")
    if drain.is_preemption or instance.drain_not_before > state.now or is_needed:
        wrong.append(f"{drain} is not allowed")
    if plan.launches or any(not each.is_never for each in plan.infeasible) or any(not each.is_constraint for each in plan.placements):
        wrong.append(f"{drain} though something is wanted")
    going = {each.ray_node_id for each in plan.drains}
    gone = {each.ray_node_id for each in plan.drains if each.reason is Reason.CONSOLIDATED}
    staying = [each for each in state.nodes if each.ray_node_id in busiest and each.ray_node_id not in going]
    for name in row.total:
        room = sum(each.total.get(name, 0) - busiest[each.ray_node_id].get(name, 0) for each in staying)
        if sum(busiest[each].get(name, 0) for each in gone) > room:
            wrong.append(f"{drain}: those that stay have too little {name}")
    return wrong


def _left_running(world: World, ended: set[str]) -> list[str]:
    """Nothing that the definition does not make any more stays in flight, where ends are allowed at all (CD-5, CD-6)."""
    if world.state.no_end is not None:
        return []
    launched = [each for each in world.instances.values() if each.status in (InstanceStatus.REQUESTED, InstanceStatus.ALLOCATED)]
    stale = [
        each for each in launched if each.node_type not in world.types or (world.is_outdated(each) and _policy(world, each) != "OnDelete")
    ]
    return [f"{each.instance_id} is still launched for a definition that is gone" for each in stale if each.instance_id not in ended]


def _minimum_breaches(world: World, ended: set[str]) -> list[str]:
    wrong = []
    for name, node_type in world.types.items():
        before = [each.instance_id for each in world.instances.values() if each.node_type == name and each.status not in LEAVING]
        after = [each for each in before if each not in ended]
        soft = {each.instance_id for each in (*world.plan.drains, *world.plan.terminations) if each.reason in SOFT}
        is_rolling = node_type.update_policy == "Rolling"
        rolled = {each.instance_id for each in world.plan.drains if each.reason is Reason.OUTDATED} & set(before) if is_rolling else set()
        at_a_time = max([1, *(wholes.size(world.state, [world.instances[each]]) for each in rolled if world.instances[each].replica)])
        joined = [each for each in before if world.instances[each].status is InstanceStatus.RUNNING]
        least = max(node_type.min_workers, dict(world.state.held).get(name, 0))
        if soft & set(before) and len(after) + world.launched[name] < least:
            wrong.append(f"{name} falls below its minimum or hold")
        if rolled and len(set(joined) - rolled) < min(least, len(joined)) - at_a_time:
            wrong.append(f"{name} is replaced by more than one at a time below its minimum or hold")
    return wrong
