"""Undo the double counting between nodes and demand.

Ray shows a node's use within about 0.1 s, but the demand that went there stays in the snapshot for another 1 to 2 s (WC-9, DK-26), and for as
long as its worker process takes to start (seen: 6 used and 9 pending of 14 tasks, 3.5 s after their node had joined). A planner that believes
both launches for work that already runs (complaint D1). So use that has just grown, a *landing*, still counts as room: old demand is planned
against old room. A node seen for the first time counts as empty, which it was while it was expected.

For how long? For `lag_s`; and where no new work has come since, so that demand which falls tells of this landing, for `doubled_lag_s` unless it has
fallen by as much. Where new work has come since, the same fall ends it early: whoever streams work in waits for no old landing, and a node
launched too many there has its work on the way. Pure: the ledger is a value handed in and out.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rayscaler.model.demand import Snapshot
from rayscaler.model.node import RayNode
from rayscaler.model.resources import Resources

SHOWN_S = 2.0
"""Ray shows the demand of work that came at once with what has landed already up to so long after it."""


@dataclass(frozen=True)
class Lags:
    """For how long a landing counts, in seconds: always, and while nothing says that its demand has gone."""

    lag_s: float
    doubled_lag_s: float


@dataclass(frozen=True)
class Landing:
    """Use of a node that grew, as amounts by resource name; `at` is the wall second up to which the room was there."""

    at: float
    ray_node_id: str
    amounts: Mapping[str, int]
    wanted: Mapping[str, int]
    """What of it may still be shown as demand: demand that fell since is taken off, from the oldest landing first."""


@dataclass(frozen=True)
class Ledger:
    """As of the last snapshot: rooms and totals per ray_node_id, amounts wanted and used; and the landings that may still count, oldest first."""

    rooms: Mapping[str, Resources] = field(default_factory=dict)
    totals: Mapping[str, Resources] = field(default_factory=dict)
    wanted: Mapping[str, int] = field(default_factory=dict)
    used: Mapping[str, int] = field(default_factory=dict)
    landings: tuple[Landing, ...] = ()
    new_work_at: float = float("-inf")
    """When demand last rose by more than work that went back to it."""

    def is_followed(self, one: Landing) -> bool:
        """Whether new work has come since a landing, besides what came with it: from then on a fall may be hidden."""
        return self.new_work_at > one.at + SHOWN_S

    def ends_at(self, one: Landing, lags: Lags) -> float:
        """Return the wall second at which a landing ceases to count."""
        is_doubled = not self.is_followed(one) and any(min(amount, self.wanted.get(name, 0)) for name, amount in one.wanted.items())
        return one.at + (lags.doubled_lag_s if is_doubled else lags.lag_s)

    def counted(self, now: float, lags: Lags) -> Iterable[tuple[Landing, Mapping[str, int]]]:
        """Yield the landings that count, each with the amounts that do."""
        for each in self.landings:
            if self.ends_at(each, lags) > now:
                yield each, each.wanted if self.is_followed(each) else each.amounts


def follow(ledger: Ledger | None, snapshot: Snapshot, read_at: float, lags: Lags) -> Ledger:
    """Return the ledger after one more snapshot, read at `read_at`; what the first one shows as used is demand no more."""
    known = ledger or Ledger()
    alive = [row for row in snapshot.nodes if row.is_alive]
    wanted, used = _wanted(snapshot), _used(alive)
    more_wanted = {name: wanted[name] - known.wanted.get(name, 0) for name in {*wanted, *known.wanted}}
    # Work whose place has gone is wanted again; what is wanted beyond that is new.
    is_new = any(more > max(0, known.used.get(name, 0) - used[name]) for name, more in more_wanted.items())
    landings = _landings(known, alive, read_at)
    if ledger is None:
        landings = tuple(replace(each, wanted={}) for each in landings)
    after = Ledger(
        rooms={row.ray_node_id: row.available for row in alive},
        totals={row.ray_node_id: row.total for row in alive},
        wanted=wanted,
        used=used,
        landings=_after_fall(landings, {name: -more for name, more in more_wanted.items() if more < 0}),
        new_work_at=read_at if ledger and is_new else known.new_work_at,
    )
    return replace(after, landings=tuple(each for each in after.landings if after.ends_at(each, lags) > read_at))


def rooms(ledger: Ledger | None, rows: Iterable[RayNode], now: float, lags: Lags) -> tuple[RayNode, ...]:
    """Return the rows with the room that old demand is planned against."""
    extra: dict[str, Counter[str]] = {}
    for each, amounts in ledger.counted(now, lags) if ledger else ():
        extra.setdefault(each.ray_node_id, Counter()).update(amounts)
    return tuple(_with(row, extra[row.ray_node_id]) if row.ray_node_id in extra else row for row in rows)


def is_landing(ledger: Ledger | None, now: float, lags: Lags) -> bool:
    """Whether some landing counts."""
    return ledger is not None and any(any(amounts.values()) for _, amounts in ledger.counted(now, lags))


def next_expiry(ledger: Ledger | None, now: float, lags: Lags) -> float | None:
    """Return the wall second at which the next landing ceases to count, or None."""
    ends = [] if ledger is None else [ledger.ends_at(each, lags) for each in ledger.landings]
    return min((end for end in ends if end > now), default=None)


def _landings(known: Ledger, alive: Iterable[RayNode], read_at: float) -> tuple[Landing, ...]:
    """Return the landings with those of one more snapshot; room that has become free again was the newest landing's of its node."""
    of_node: dict[str, list[Landing]] = {}
    for each in known.landings:
        of_node.setdefault(each.ray_node_id, []).append(each)
    after: list[Landing] = []
    for row in alive:
        before = _room_before(known, row)
        if before == row.available:
            after += of_node.get(row.ray_node_id, ())
            continue
        names = {*before.amounts, *row.available.amounts}
        more_used = {name: before.get(name, 0) - row.available.get(name, 0) for name in names}
        freed = {name: -more for name, more in more_used.items() if more < 0}
        after += _less(of_node.get(row.ray_node_id, []), freed)
        landed = {name: more for name, more in more_used.items() if more > 0}
        if landed:
            after.append(Landing(read_at, row.ray_node_id, landed, landed))
    return tuple(sorted(after, key=lambda each: each.at))


def _room_before(known: Ledger, row: RayNode) -> Resources:
    """Return what was free of a node, with what it has grown by since: use that came at once with that has grown too."""
    room, total = known.rooms.get(row.ray_node_id, row.total), known.totals.get(row.ray_node_id, row.total)
    return room if total is row.total or total == row.total else room.add(row.total.subtract(total))


def _less(landings: Sequence[Landing], freed: Mapping[str, int]) -> list[Landing]:
    """Take room that is free again off the newest landings, or it would count twice."""
    left, after = dict(freed), []
    for each in reversed(landings):
        amounts = _take(each.amounts, left)
        after.append(replace(each, amounts=amounts, wanted={name: min(amount, amounts[name]) for name, amount in each.wanted.items()}))
    return after[::-1]


def _after_fall(landings: Sequence[Landing], fallen: Mapping[str, int]) -> tuple[Landing, ...]:
    left = dict(fallen)
    return tuple(replace(each, wanted=_take(each.wanted, left)) for each in landings)


def _take(amounts: Mapping[str, int], left: dict[str, int]) -> dict[str, int]:
    """Return the amounts without what is left to be taken off, and that without what was taken."""
    after = {}
    for name, amount in amounts.items():
        taken = min(amount, left.get(name, 0))
        after[name] = amount - taken
        if taken:
            left[name] -= taken
    return after


def _with(row: RayNode, extra: Mapping[str, int]) -> RayNode:
    room = {name: row.available.get(name, 0) + extra.get(name, 0) for name in {*row.available.amounts, *extra}}
    return replace(row, available=Resources({name: min(amount, row.total.get(name, amount)) for name, amount in room.items()}))


def _wanted(snapshot: Snapshot) -> Counter[str]:
    total: Counter[str] = Counter()
    for demand in (*snapshot.demands, *(each for gang in snapshot.gangs for each in gang.bundles)):
        for name, amount in demand.bundle.resources.items_sorted:
            total[name] += amount * demand.count
    return total


def _used(alive: Iterable[RayNode]) -> Counter[str]:
    total: Counter[str] = Counter()
    for row in alive:
        for name, amount in row.total.items_sorted:
            total[name] += amount - row.available.get(name, 0)
    return total
