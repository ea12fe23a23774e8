"""Undo the double counting between nodes and demand.

Ray shows a node's use within about 0.1 s, but the demand that went there stays in the snapshot for another 1 to 2 s (WC-9, DK-26).
A planner that believes both launches for work that already runs (complaint D1). So the room of a node is what it had at its
freest within the last `lag_s` seconds: old demand is planned against old room. A node seen for the first time counts as
empty, which it was while it was expected. Pure: the history is a value handed in and out.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from rayscaler.model.node import RayNode
from rayscaler.model.resources import Resources

History = Mapping[str, tuple[tuple[float, Resources], ...]]
"""Per ray_node_id: (last second at which it had at least this room, room), oldest first."""


def remember(history: History, rows: Iterable[RayNode], read_at: float, lag_s: float) -> dict[str, tuple[tuple[float, Resources], ...]]:
    """Return the history with the rows of a snapshot read at `read_at`; nodes that are gone are dropped."""
    after: dict[str, tuple[tuple[float, Resources], ...]] = {}
    for row in rows:
        if not row.is_alive:
            continue
        known = history.get(row.ray_node_id) or ((read_at, row.total),)
        last_at, last = known[-1]
        if last == row.available:
            known = (*known[:-1], (read_at, last))
        else:
            # The old room held until just now: it was true at every moment between the two snapshots.
            known = (*known[:-1], (max(last_at, read_at), last), (read_at, row.available))
        after[row.ray_node_id] = tuple((at, room) for at, room in known[:-1] if at + lag_s > read_at) + known[-1:]
    return after


def undoubled(rows: Iterable[RayNode], history: History, now: float, lag_s: float) -> tuple[RayNode, ...]:
    """Return the rows with the room they had at their freest within the last `lag_s` seconds."""
    return tuple(replace(row, available=_freest(row, history.get(row.ray_node_id, ()), now, lag_s)) for row in rows)


def _freest(row: RayNode, known: tuple[tuple[float, Resources], ...], now: float, lag_s: float) -> Resources:
    room = dict(row.available)
    for at, then in known:
        if at + lag_s > now:  # the same sum as in next_expiry, or a cycle at the very moment would change nothing
            for name, amount in then.items_sorted:
                room[name] = max(room.get(name, 0), amount)
    return Resources({name: min(amount, row.total.get(name, amount)) for name, amount in room.items()})


def is_landing(history: History, now: float, lag_s: float) -> bool:
    """Whether some node has taken up work within the last `lag_s` seconds."""
    for known in history.values():
        last = known[-1][1]
        if any(at + lag_s > now and any(amount > last.get(name, 0) for name, amount in then.items_sorted) for at, then in known[:-1]):
            return True
    return False


def next_expiry(history: History, now: float, lag_s: float) -> float | None:
    """Return the wall second at which some node's remembered room next runs out, or None."""
    ends = [at + lag_s for known in history.values() for at, _ in known[:-1]]
    return min((end for end in ends if end > now), default=None)
