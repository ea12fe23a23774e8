"""plan(): the passes, in order, one line each."""

from rayscaler.model.plan import Plan
from rayscaler.model.state import ClusterState
from rayscaler.planner import answer, broken, demands, door, gangs, headroom, limits, packing, portions, shrink, stuck


def plan(state: ClusterState, steps: int = 0) -> Plan:
    """Return what to launch, drain and end, and what must wait and why; the same for the same state, whatever its order.

    `steps` is how much work may go into a cheaper mix of launches on demand, about a millisecond each; 0 gives the first plan.
    """
    draft = door.draft_of(state)
    shrink.dead(draft)
    shrink.ending(draft)
    shrink.removed_types(draft)
    shrink.outdated(draft)
    broken.let_go(draft)
    limits.minimums(draft)
    shrink.excess_of_types(draft)
    shrink.excess(draft)
    door.open_capacity(draft)
    packing.constraint(draft)
    packing.keep_promises(draft)
    gangs.place_all(draft)
    demands.serve(draft, steps)
    headroom.launch(draft)
    portions.hold_back(draft)
    stuck.make_way(draft)
    shrink.unneeded(draft)
    shrink.idle(draft)
    shrink.consolidate(draft)
    return answer.plan_of(draft)
