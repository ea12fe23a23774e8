"""Tell whether Ray still shows work twice: as used on a node, and as demand.

When a task lands, its node's use grows at once, but its demand goes only once a worker process runs it: with slow starts of processes that
took more than 3 s (seen: 6 used and 9 pending of 14 tasks, 3.5 s after their node had joined). So the sum of what is wanted and what is used is
followed: new work raises what is wanted while use does not grow; a sum that grows with the use is the same work twice, until it has
fallen again. Pure: the ledger is a value handed in and out.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from rayscaler.model.demand import Snapshot


@dataclass(frozen=True)
class Ledger:
    """Amounts per resource name as of the last snapshot; `real` is the sum of wanted and used that new work explains."""

    wanted: Mapping[str, int] = field(default_factory=dict)
    used: Mapping[str, int] = field(default_factory=dict)
    real: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_doubled(self) -> bool:
        """Whether some of what is wanted is used already."""
        return any(self.wanted.get(name, 0) and self.wanted[name] + self.used.get(name, 0) > real for name, real in self.real.items())


def follow(ledger: Ledger | None, snapshot: Snapshot) -> Ledger:
    """Return the ledger after one more snapshot; the first is believed as it is."""
    wanted, used = _wanted(snapshot), _used(snapshot)
    names = set(wanted) | set(used)
    if ledger is None:
        return Ledger(wanted, used, {name: wanted[name] + used[name] for name in names})
    return Ledger(wanted, used, {name: _real(ledger, name, wanted[name], used[name]) for name in names})


def _real(ledger: Ledger, name: str, wanted: int, used: int) -> int:
    more_wanted = wanted - ledger.wanted.get(name, 0)
    more_used = used - ledger.used.get(name, 0)
    # Use that fell went back to wanted, or ended; use that grew came from what was wanted.
    new = more_wanted if more_used > 0 else more_wanted + more_used
    return min(ledger.real.get(name, 0) + max(0, new), wanted + used)


def _wanted(snapshot: Snapshot) -> Counter[str]:
    total: Counter[str] = Counter()
    for demand in (*snapshot.demands, *(each for gang in snapshot.gangs for each in gang.bundles)):
        for name, amount in demand.bundle.resources.items_sorted:
            total[name] += amount * demand.count
    return total


def _used(snapshot: Snapshot) -> Counter[str]:
    total: Counter[str] = Counter()
    for row in snapshot.nodes:
        if row.is_alive:
            for name, amount in row.total.items_sorted:
                total[name] += amount - row.available.get(name, 0)
    return total
