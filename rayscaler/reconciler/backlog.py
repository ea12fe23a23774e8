"""Do not believe a count of demand that rises while nodes work.

Ray sums its backlog from samples of several processes, each up to a second old. While tasks move from one to another some are counted
twice: 14 tasks were seen as 12 pending and 2 running, then for one second as 13 and 2, then as 12 and 2 again (DK-26, complaint D1). So
while nodes work, a shape counts as often as it was seen at its fewest within the last `lag_s` seconds. Nothing is held back otherwise,
and a new shape never is. Pure: the history is a value handed in and out.
"""

from collections.abc import Iterable, Mapping

from rayscaler.model.demand import Bundle, Demand

History = Mapping[Bundle, tuple[tuple[float, int], ...]]
"""Per shape: (last second at which it was wanted so often, count), oldest first."""


def remember(history: History, demands: Iterable[Demand], read_at: float, lag_s: float) -> dict[Bundle, tuple[tuple[float, int], ...]]:
    """Return the history with the demands of a snapshot read at `read_at`; shapes that are gone are dropped."""
    after: dict[Bundle, tuple[tuple[float, int], ...]] = {}
    for demand in demands:
        known = history.get(demand.bundle, ())
        if known and known[-1][1] == demand.count:
            known = (*known[:-1], (read_at, demand.count))
        else:
            # The old count held until just now: it was true at every moment between the two snapshots.
            known = (*known[:-1], *((read_at, count) for _, count in known[-1:]), (read_at, demand.count))
        after[demand.bundle] = tuple((at, count) for at, count in known[:-1] if at + lag_s > read_at) + known[-1:]
    return after


def settled(demands: Iterable[Demand], history: History, now: float, lag_s: float) -> tuple[Demand, ...]:
    """Return each demand as often as it was wanted at its fewest within the last `lag_s` seconds."""
    return tuple(
        Demand(each.bundle, min([each.count, *(count for at, count in history.get(each.bundle, ()) if at + lag_s > now)]))
        for each in demands
    )


def next_expiry(history: History, now: float, lag_s: float) -> float | None:
    """Return the wall second at which some shape's remembered count next runs out, or None."""
    ends = [at + lag_s for known in history.values() for at, _ in known[:-1]]
    return min((end for end in ends if end > now), default=None)
