"""The judge's part on nodes that are to be ready: never more launched than that, and none of them ended for being idle."""

from collections import Counter

from rayscaler.model.instance import IN_FLIGHT, InstanceStatus, Reason
from rayscaler.model.node import NodeStatus
from tests.properties import wholes
from tests.properties.world import World


def wrongly_ready(world: World) -> list[str]:
    wrong = []
    softly = {
        each.instance_id
        for each in (*world.plan.drains, *world.plan.terminations)
        if each.reason in (Reason.IDLE, Reason.CONSOLIDATED, Reason.UNNEEDED)
    }
    for name, node_type in world.types.items():
        ready = _ready(world, name)
        if any(each.node_type == name and each.reason is Reason.HEADROOM for each in world.plan.launches) and ready > node_type.headroom:
            wrong.append(f"{name} is launched to be ready though {ready} of {node_type.headroom} are")
        if node_type.headroom > ready and any(world.instances[each].node_type == name for each in softly):
            wrong.append(f"{name} has {ready} of {node_type.headroom} ready, and some end")
    return wrong


def _ready(world: World, name: str) -> int:
    """Return how many nodes of a type are idle or on their way after the plan, with nothing on them."""
    used = {each.node for each in world.plan.placements}
    going = {each.instance_id for each in (*world.plan.drains, *world.plan.terminations)}
    idle = {row.instance_id for row in world.state.nodes if row.status is NodeStatus.IDLE and not row.is_draining}
    hosts, whole = world.types[name].hosts_per_replica, wholes.launched(world.state, world.plan)
    new = [index for index, each in enumerate(world.plan.launches) if each.node_type == name and f"new:{index}" not in used]
    found, free = (len(new), Counter()) if hosts == 1 else (0, Counter(whole[index] for index in new))
    for each in world.instances.values():
        is_there = each.status in IN_FLIGHT or (
            each.status is InstanceStatus.RUNNING and each.node_dead_since is None and each.instance_id in idle
        )
        if each.node_type == name and is_there and each.ends_at is None and each.instance_id not in used | going:
            free[each.replica] += 1
            found += hosts == 1
    return found + sum(count for replica, count in free.items() if hosts > 1 and replica and count == hosts)
