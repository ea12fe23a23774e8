"""Learn which packed gangs Ray does not make, from those that stay where they have room.

Ray chooses their nodes by sums, and which of equal ones, and how used devices lie, nobody can tell (planner/sent.py). Such a gang is planned
for as if Ray chose well. Where all of it had its place on nodes that are there, no free device came or went, and it still waits after a
while, it is told so, and nothing is launched for it but where it surely is made, once; until something changes. Time counts as far as
reports observed it. Pure: what is known is a value handed in and out.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rayscaler.model.demand import Gang, Snapshot, Strategy
from rayscaler.model.plan import Plan
from rayscaler.model.resources import DEVICES, UNIT
from rayscaler.reconciler.misfit import LEARNED_S

FOR_GOOD = 2
"""Lessons after which a gang is told for as long as it waits: what was launched for it has not helped either, and would be launched again."""

Free = frozenset[tuple[str, str, int]]
"""What is free of devices: (ray_node_id, name, amount)."""


class Placed(NamedTuple):
    """All of a gang has its place on nodes that are there, with so much free, since a wall second up to which Ray was seen; None: it has none.

    `before` is how often it stayed where it was placed before that.
    """

    free: Free
    since: float | None
    before: int = 0

    def times(self, seen_at: float) -> int:
        """Return how often it has stayed so far."""
        return self.before + (self.since is not None and self.since + LEARNED_S <= seen_at)


Places = Mapping[str, Placed]
"""By the gang's id."""


def follow(
    known: Places, plan: Plan, snapshot: Snapshot, names: Mapping[str, str], seen_at: float, *, units: frozenset[str] = DEVICES
) -> dict[str, Placed]:
    """Return which gangs have their place after a plan; `names` are the planner's names of nodes by ray_node_id."""
    packed = set(_packed(snapshot, units))
    if not packed:
        return {}
    there = {
        names.get(row.ray_node_id, f"{'head' if row.is_head else 'ray'}:{row.ray_node_id}") for row in snapshot.nodes if row.takes_work
    }
    runs = [run for run in plan.placements.runs if run.gang_id in packed and not run.is_constraint]
    placed = {run.gang_id for run in runs} - {run.gang_id for run in runs if not there.issuperset(run.names)}
    placed |= {gang_id for gang_id, _ in learned(known, snapshot, seen_at, units=units)}  # no plan repeats what is learned
    free, found = _free(snapshot, units), dict[str, Placed]()
    for gang_id in sorted(packed):
        old = known.get(gang_id, Placed(frozenset(), None))
        if gang_id in placed:
            is_as_it_was = old.since is not None and old.free == free
            found[gang_id] = old if is_as_it_was else Placed(free, seen_at, old.times(seen_at))
        elif old.times(seen_at):
            found[gang_id] = Placed(free, None, old.times(seen_at))
    return found


def learned(known: Places, snapshot: Snapshot, seen_at: float, *, units: frozenset[str] = DEVICES) -> tuple[tuple[str, int], ...]:
    """Return the gangs that have stayed though they had their place, and how often: once as long as no device comes or goes, twice for good."""
    times = {gang_id: each.times(seen_at) for gang_id, each in known.items()}
    late = {gang_id for gang_id, each in known.items() if times[gang_id] > each.before or times[gang_id] >= FOR_GOOD}
    if not late:
        return ()
    free = _free(snapshot, units)
    waiting = sorted(late.intersection(_packed(snapshot, units)))
    return tuple((each, times[each]) for each in waiting if known[each].free == free or times[each] >= FOR_GOOD)


def next_learned(known: Places, seen_at: float) -> float | None:
    """Return the wall second up to which Ray must be seen for the next lesson, or None."""
    moments = (each.since + LEARNED_S for each in known.values() if each.since is not None)
    return min((moment for moment in moments if moment > seen_at), default=None)


def _packed(snapshot: Snapshot, units: frozenset[str]) -> Iterator[str]:
    for gang in snapshot.gangs:
        if gang.strategy in (Strategy.PACK, Strategy.STRICT_PACK) and _asks_for_parts(gang, units):
            yield gang.gang_id


def _asks_for_parts(gang: Gang, units: frozenset[str]) -> bool:
    return any(name in units and amount < UNIT for each in gang.bundles for name, amount in each.bundle.resources.items())


def _free(snapshot: Snapshot, units: frozenset[str]) -> Free:
    rows = (row for row in snapshot.nodes if row.takes_work)
    return frozenset((row.ray_node_id, name, row.available.get(name, 0)) for row in rows for name in row.total if name in units)
