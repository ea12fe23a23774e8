"""plan(): the passes, in order, one line each."""

from rayscaler.model.plan import Plan
from rayscaler.model.state import ClusterState
from rayscaler.planner import answer, door, gangs, limits, packing, shrink, stuck


def plan(state: ClusterState, steps: int = 0) -> Plan:  # noqa: ARG001 - work to spend on the mix of launches on demand
    """Return what to launch, drain and end, and what must wait and why; the same for the same state, whatever its order."""
    draft = door.draft_of(state)
    shrink.dead(draft)
    shrink.ending(draft)
    shrink.removed_types(draft)
    shrink.outdated(draft)
    limits.minimums(draft)
    shrink.excess_of_types(draft)
    shrink.excess(draft)
    door.open_capacity(draft)
    packing.constraint(draft)
    packing.keep_promises(draft)
    gangs.place_all(draft)
    packing.demands(draft)
    limits.headroom(draft)
    stuck.make_way(draft)
    shrink.unneeded(draft)
    shrink.idle(draft)
    return answer.plan_of(draft)
