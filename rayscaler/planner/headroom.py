"""What is kept ready beside all that is in use. Owns headroom."""

from rayscaler.model.demand import Bundle
from rayscaler.model.instance import Reason
from rayscaler.model.node import NodeStatus
from rayscaler.model.nodetype import NodeType
from rayscaler.planner import limits, replicas, stuck
from rayscaler.planner.sim import Draft


def launch(draft: Draft) -> None:
    """Launch what each type lacks of the nodes that are to be ready beside those that something is put on: at the speed of demand, and after it.

    The places of nodes that are ending, and their money, are for what waits for them. What waits for the speed of another type would take
    a node that is made ready, and the next one.
    """
    views = [each for each in draft.views if each.node_type.headroom]
    if not views or draft.state.no_launch is not None or (stuck.coming(draft) and stuck.blocked(draft)):
        return
    refused = [each.what for each in draft.infeasible if each.reason is Reason.UPSCALING_SPEED]
    waiting = [draft.shapes[what] for what in refused if isinstance(what, Bundle)]
    for view in views:
        if any(draft.can_hold(view, shape) for shape in waiting):
            continue
        count = min(view.node_type.headroom - ready(draft, view.node_type), limits.room_of(draft, view), limits.speed_room(draft, view))
        if count > 0:
            draft.runs.append(draft.launch(view, count, Reason.HEADROOM))


def ready(draft: Draft, node_type: NodeType) -> int:
    """Return how many nodes of the type, in whole replicas, are idle or on their way with nothing put on them; one that does not get on counts too."""
    name = node_type.name
    used = {member for layer in (draft.runs, draft.floor) for run in layer if run.load for member in run.members}
    members = [member for run in draft.runs if run.node_type == name and not run.load for member in run.members if member not in used]
    stuck = [
        each.instance_id
        for each in draft.instances
        if each.node_type == name and each.stuck_since is not None and each.is_in_flight and each.instance_id not in draft.leaving
    ]
    found = [each for each in members if each not in draft.leaving and _is_ready(draft, each)]
    return replicas.in_whole(draft, node_type, [*stuck, *found])


def _is_ready(draft: Draft, member: str | int) -> bool:
    row = draft.rows.get(member) if isinstance(member, str) else None  # else a launch of this plan
    return row is None or row.status is NodeStatus.IDLE
