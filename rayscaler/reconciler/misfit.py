"""Learn which devices a node does not have, from demand that stays.

Of a node's devices Ray tells the sum, so the planner guesses how it lies (planner/devices.py), and what is planned there on a wrong guess
would wait for ever beside room that nobody can use. So where something was planned on such a node, the node's sum stayed as it was and the
demand is still there after a while, the node is known not to have that amount, until its sum changes or nobody asks for it any more. Time
counts as far as reports observed it. Pure: what is known is a value handed in and out.
"""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from rayscaler.model.demand import Bundle, Snapshot
from rayscaler.model.node import RayNode
from rayscaler.model.plan import Plan
from rayscaler.model.resources import DEVICES, UNIT, Resources
from rayscaler.model.state import Misfit

LEARNED_S = 10.0
"""Ray starts what fits within a second or two of a report, and shows it as used before its worker process is up."""


class Guess(NamedTuple):
    """An amount was planned on a node with so much free, since a wall second up to which Ray was seen."""

    free: int
    since: float


Guesses = Mapping[Misfit, Guess]


def follow(
    known: Guesses, plan: Plan, snapshot: Snapshot, names: Mapping[str, str], seen_at: float, *, units: frozenset[str] = DEVICES
) -> dict[Misfit, Guess]:
    """Return what is guessed after a plan; `names` are the planner's names of nodes by ray_node_id."""
    rows = {
        names.get(row.ray_node_id, f"{'head' if row.is_head else 'ray'}:{row.ray_node_id}"): row for row in snapshot.nodes if row.takes_work
    }
    guessed = {
        Misfit(row.ray_node_id, name, amount): row.available.get(name, 0)
        for each in plan.placements
        if not each.is_constraint and (row := rows.get(each.node)) is not None
        for name, amount in _guessed(each.bundle, row, units)
    }
    guessed |= {each: known[each].free for each in learned(known, snapshot, seen_at)}  # no plan repeats what is learned
    return {each: known[each] if each in known and known[each].free == free else Guess(free, seen_at) for each, free in guessed.items()}


def learned(known: Guesses, snapshot: Snapshot, seen_at: float) -> tuple[Misfit, ...]:
    """Return what has turned out not to be there, in order: as long as nothing changes on the node and somebody asks for it."""
    rows = {row.ray_node_id: row.available for row in snapshot.nodes if row.takes_work}
    bundles = [each.bundle for each in (*snapshot.demands, *(part for gang in snapshot.gangs for part in gang.bundles))] if known else []
    wanted = {item for bundle in bundles for item in bundle.resources.items_sorted}
    return tuple(
        each
        for each, guess in sorted(known.items())
        if guess.since + LEARNED_S <= seen_at and (each.name, each.amount) in wanted and _is_as_it_was(each, guess, rows)
    )


def next_learned(known: Guesses, seen_at: float) -> float | None:
    """Return the wall second up to which Ray must be seen for the next lesson, or None."""
    return min((guess.since + LEARNED_S for guess in known.values() if guess.since + LEARNED_S > seen_at), default=None)


def _guessed(bundle: Bundle, row: RayNode, units: frozenset[str]) -> Iterator[tuple[str, int]]:
    """Yield what the bundle takes of devices of which several are there and some are in use: only then how they lie is a guess."""
    for name, amount in bundle.resources.items_sorted:
        if name in units and row.total.get(name, 0) > UNIT and row.available.get(name, 0) < row.total.get(name, 0):
            yield name, amount


def _is_as_it_was(found: Misfit, guess: Guess, rows: Mapping[str, Resources]) -> bool:
    return found.ray_node_id in rows and rows[found.ray_node_id].get(found.name, 0) == guess.free
