"""From a Plan to the document that `plan --json` prints (`schema/plan.schema.json`). Pure.

What lies where is told by index: the demand file's demands first, then its gangs, then its constraints. Equal nodes are one entry.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

from rayscaler.cli.plan.why import mix_of
from rayscaler.config.demandfile import Wanted
from rayscaler.model.demand import Bundle, Demand, Gang
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.model.plan import Drain, Infeasible, Launch, Placement, Plan, Termination
from rayscaler.model.resources import UNIT, Resources
from rayscaler.model.state import ClusterState

Held = tuple[int, int]
"""Index in the file; of a gang with several shapes the index of the bundle too, else NO_BUNDLE."""
Holds = tuple[tuple[Held, int], ...]
"""What one node holds, and how often."""
NO_BUNDLE = -1


class _Entries:
    """Which entries of the file are still to be told of: equal bundles are served in the order of the file."""

    def __init__(self, wanted: Wanted) -> None:
        gangs_at = len(wanted.demands)
        self._demands = _queues(wanted.demands, 0)
        self._constraints = _queues(wanted.constraints, gangs_at + len(wanted.gangs))
        self._gangs = {gang.gang_id: (gangs_at + index, gang) for index, entry in enumerate(wanted.gangs) for gang in entry}

    def of_placement(self, placed: Placement) -> Iterator[tuple[Held, int]]:
        """Yield what a placement is of, and how much."""
        if placed.gang_id:
            index, gang = self._gangs[placed.gang_id]
            bundles = [each.bundle for each in gang.bundles]
            yield (index, bundles.index(placed.bundle) if len(set(bundles)) > 1 else NO_BUNDLE), placed.count
            return
        for index, count in self._taken(placed.bundle, placed.count, is_constraint=placed.is_constraint):
            yield (index, NO_BUNDLE), count

    def of_infeasible(self, refused: Infeasible) -> Iterator[tuple[int, int]]:
        """Yield index and count of what is refused."""
        if isinstance(refused.what, Gang):
            yield self._gangs[refused.what.gang_id][0], refused.count
        else:
            yield from self._taken(refused.what, refused.count, is_constraint=refused.is_constraint)

    def _taken(self, bundle: Bundle, count: int, *, is_constraint: bool) -> Iterator[tuple[int, int]]:
        queue = (self._constraints if is_constraint else self._demands)[bundle]
        while count:
            index, left = queue[0]
            taken = min(left, count)
            yield index, taken
            count -= taken
            queue[:1] = [(index, left - taken)] if left > taken else []


def _queues(demands: Iterable[Demand], first: int) -> dict[Bundle, list[tuple[int, int]]]:
    queues: dict[Bundle, list[tuple[int, int]]] = defaultdict(list)
    for index, each in enumerate(demands, first):
        queues[each.bundle].append((index, each.count))
    return queues


def document_of(state: ClusterState, wanted: Wanted, plan: Plan, planning_s: float) -> dict[str, Any]:
    """Return the document of the plan that was made of `wanted` in `planning_s` seconds."""
    entries = _Entries(wanted)
    ends: list[Drain | Termination] = [*plan.drains, *plan.terminations]
    return {
        "launches": dict(sorted(Counter(each.node_type for each in plan.launches).items())),
        **_growths(plan),
        "placements": _placements(state, plan, entries),
        "terminations": [
            {"node": each.instance_id, "reason": each.reason.value} for each in sorted(ends, key=lambda each: each.instance_id)
        ],
        "infeasible": _infeasible(plan, entries),
        "cost": _cost(state.config, plan.launches),
        "mix": mix_of(plan.mix),
        "planning_seconds": round(planning_s, 6),
    }


def _growths(plan: Plan) -> dict[str, Any]:
    """Return what grows, if anything does: only then it stands in the document."""
    found = [{"node": each.instance_id, "resources": _amounts(each.resources)} for each in plan.growths]
    return {"growths": found} if found else {}


def _amounts(resources: Resources) -> dict[str, float]:
    return {name: amount // UNIT if amount % UNIT == 0 else amount / UNIT for name, amount in resources.items_sorted}


def _placements(state: ClusterState, plan: Plan, entries: _Entries) -> list[dict[str, Any]]:
    existing = {f"head:{row.ray_node_id}" if row.is_head else row.instance_id: row.node_type for row in state.nodes}
    launched = {f"new:{index}": each.node_type for index, each in enumerate(plan.launches)}
    holds: dict[str, Counter[Held]] = {name: Counter() for name in (*existing, *launched)}
    for placed in plan.placements:
        for what, count in entries.of_placement(placed):
            holds[placed.node][what] += count
    alike: Counter[tuple[str, bool, Holds]] = Counter()
    for name, held in holds.items():
        is_existing = name in existing
        alike[(existing if is_existing else launched)[name], is_existing, tuple(sorted(held.items()))] += 1
    return [
        {"type": name, "nodes": nodes, "existing": is_existing, "holds": [_held(*each) for each in held]}
        for (name, is_existing, held), nodes in sorted(alike.items(), key=lambda each: (not each[0][1], each[0]))
    ]


def _held(what: Held, count: int) -> dict[str, int]:
    index, bundle = what
    return {"demand": index, "count": count} if bundle == NO_BUNDLE else {"demand": index, "bundle": bundle, "count": count}


def _infeasible(plan: Plan, entries: _Entries) -> list[dict[str, Any]]:
    """Tell each entry and reason once; of equal gangs the first one's sentence stands for all."""
    counts: Counter[tuple[int, str]] = Counter()
    details: dict[tuple[int, str], str] = {}
    for refused in plan.infeasible:
        for index, count in entries.of_infeasible(refused):
            counts[index, refused.reason.value] += count
            details.setdefault((index, refused.reason.value), refused.detail)
    return [
        {"demand": index, "count": count, "reason": reason, "detail": details[index, reason]}
        for (index, reason), count in sorted(counts.items())
    ]


def _cost(config: ClusterConfig, launches: Iterable[Launch]) -> float | None:
    """Return what the launches cost per hour; None where one of them has no cost, since a part is no sum."""
    costs = {each.name: each.cost for each in config.node_types}
    total = Decimal()
    for name, count in Counter(each.node_type for each in launches).items():
        cost = costs[name]
        if cost is None:
            return None
        total += Decimal(str(cost)) * count
    return float(total)
