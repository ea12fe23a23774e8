"""Why a plan has this mix of node types: what each is for, how near the cost is to the least, and what would help what has no place. Pure.

What is needed for what has no place is found by planning once more without the limits that an operator sets; what still has no place then
needs another node type.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from rayscaler.model.demand import Bundle, Gang, LabelSelector
from rayscaler.model.instance import PACED
from rayscaler.model.nodetype import UNLIMITED, ClusterConfig, NodeType
from rayscaler.model.plan import Infeasible, Mix, Placement, Plan
from rayscaler.model.resources import Resources, to_text
from rayscaler.model.state import ClusterState
from rayscaler.model.words import counted

Planner = Callable[[ClusterState], Plan]
NO_LIMIT = 1_000_000_000
"""Said as a number, since a cluster without a maximum gets one."""


def why(state: ClusterState, plan: Plan, planner: Planner) -> dict[str, Any]:
    """Return what `plan --explain` adds to the document."""
    return {"node_types": list(_uses(state.config, plan)), "needed": list(_needed(state, plan, planner))}


def mix_of(mix: Mix | None) -> dict[str, Any] | None:
    """Return how good the launches on demand are; None where that is not known."""
    if mix is None:
        return None
    return {"cost": mix.cost, "bound": mix.bound, "gap": mix.gap, "steps": mix.steps, "binds": list(mix.binds)}


def _uses(config: ClusterConfig, plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield of each launched type what its nodes are for, and the share of each resource that is spoken for."""
    nodes = Counter(each.node_type for each in plan.launches)
    holds: defaultdict[str, Counter[Bundle]] = defaultdict(Counter)
    floors: defaultdict[str, Counter[Bundle]] = defaultdict(Counter)
    for each in plan.placements:
        name = _launched(plan, each)
        if name is not None:
            (floors if each.is_constraint else holds)[name][each.bundle] += each.count
    reasons = {name: sorted({each.reason.value for each in plan.launches if each.node_type == name}) for name in nodes}
    for name, number in sorted(nodes.items()):
        node_type = config.node_type(name)
        if node_type is not None:
            yield {
                "name": name,
                "nodes": number,
                "cost": None if node_type.cost is None else float(f"{node_type.cost * number:.10g}"),
                "reasons": reasons[name],
                "holds": [{"shape": str(bundle), "count": count} for bundle, count in _by_count(holds[name])],
                "keeps_room_for": [{"shape": str(bundle), "count": count} for bundle, count in _by_count(floors[name])],
                "used": _shares(node_type, number, holds[name]),
            }


def _launched(plan: Plan, placed: Placement) -> str | None:
    """Return the type of the launched node that it is put on; None for a node that is there."""
    kind, _, index = placed.node.partition(":")
    return plan.launches[int(index)].node_type if kind == "new" else None


def _by_count(found: Counter[Bundle]) -> list[tuple[Bundle, int]]:
    return sorted(found.items(), key=lambda each: (-each[1], str(each[0])))


def _shares(node_type: NodeType, number: int, held: Counter[Bundle]) -> dict[str, float]:
    total = Resources()
    for bundle, count in held.items():
        total = total.add(bundle.resources, count)
    return {name: round(total.amounts.get(name, 0) / (amount * number), 4) for name, amount in node_type.resources.items_sorted}


def _needed(state: ClusterState, plan: Plan, planner: Planner) -> Iterator[dict[str, Any]]:
    """Yield of each shape and gang without a place what would give it one."""
    if not plan.infeasible:
        return
    unpaced = state.config.unpaced()
    types = tuple(replace(each, max_workers=UNLIMITED) for each in unpaced.node_types)
    config = replace(unpaced, node_types=types, max_workers=NO_LIMIT, upscaling_speed=None, spend_limit=None)
    freed = planner(replace(state, config=config))
    now, then = (Counter(each.node_type for each in found.launches) for found in (plan, freed))
    there = Counter(each.node_type for each in state.instances)
    hosts = _hosts(freed)
    for each in plan.infeasible:
        key = (each.what.gang_id if isinstance(each.what, Gang) else each.what, each.is_constraint)
        extra = {name: then[name] - now[name] for name in sorted(hosts.get(key, ())) if then[name] > now[name]}
        limits = list(_limits(state.config, there, now, then)) if extra else []
        yield {
            "shape": str(each.what),
            "count": each.count,
            "reason": each.reason.value,
            "needed": _said(state.config, each, extra, limits),
        }


def _hosts(plan: Plan) -> dict[tuple[Bundle | str, bool], set[str]]:
    """Return which launched types hold what: gangs by their id, all else by its shape."""
    found: defaultdict[tuple[Bundle | str, bool], set[str]] = defaultdict(set)
    for each in plan.placements:
        name = _launched(plan, each)
        if name is not None:
            found[each.gang_id or each.bundle, each.is_constraint].add(name)
    return found


def _limits(config: ClusterConfig, there: Counter[str], now: Counter[str], then: Counter[str]) -> Iterator[str]:
    """Yield each limit that is in the way of all that has no place, and what it would have to be."""
    for each in sorted(config.node_types, key=lambda each: each.name):
        wanted = there[each.name] + then[each.name]
        if each.max_workers != UNLIMITED and wanted > each.max_workers and then[each.name] > now[each.name]:
            yield f"maxWorkers of {each.name} {each.max_workers} -> {wanted}"
    total = there.total() + then.total()
    if config.max_workers != UNLIMITED and total > config.max_workers:
        yield f"spec.maxWorkers {config.max_workers} -> {total}"
    spent = sum((each.cost or 0.0) * (there[each.name] + then[each.name]) for each in config.node_types)
    if config.spend_limit is not None and spent > config.spend_limit:
        yield f"spec.spendLimit {config.spend_limit:.10g} -> {spent:.10g}"


def _said(config: ClusterConfig, refused: Infeasible, extra: dict[str, int], limits: list[str]) -> str:
    if extra:
        nodes = ", ".join(counted(count, f"more node of {name}", f"more nodes of {name}") for name, count in extra.items())
        costs = [(config.node_type(name), count) for name, count in extra.items()]
        price = sum((found.cost or 0.0) * count for found, count in costs if found)
        known = all(found is not None and found.cost is not None for found, _ in costs)
        paid = f" at {price:.10g} per hour" if known else ""
        follow = "limits of launches allow" if refused.reason in PACED else "those on their way join"
        how = f"; for all that has no place: {', '.join(limits)}" if limits else f"; they follow as {follow}"
        return f"{nodes}{paid}{how}"
    if isinstance(refused.what, Gang) or not refused.is_never:
        return refused.detail
    return _another_type(config, refused.what)


def _another_type(config: ClusterConfig, bundle: Bundle) -> str:
    """Say what a node type would have to be like: the nearest one, and what it lacks."""
    wishes = _wishes(bundle.selectors)
    able = [each for each in config.node_types if bundle.resources.fits(each.resources)]
    if able:
        return f"a node type with the labels {wishes}: {', '.join(sorted(each.name for each in able))} would hold it"
    lacks = sorted((len(found := _lacking(each, bundle)), sum(found.values()), each.name, found) for each in config.node_types)
    said = f"a node type with {bundle.resources}" + (f" and the labels {wishes}" if wishes else "")
    if not lacks:
        return said
    _, _, nearest, lacking = lacks[0]
    return f"{said}; {nearest} comes nearest, and lacks {', '.join(f'{name} {to_text(name, by)}' for name, by in lacking.items())}"


def _wishes(selectors: tuple[LabelSelector, ...]) -> str:
    return " or ".join(map(str, selectors))


def _lacking(node_type: NodeType, bundle: Bundle) -> dict[str, int]:
    has = node_type.resources.amounts
    return {name: amount - has.get(name, 0) for name, amount in bundle.resources.items_sorted if amount > has.get(name, 0)}
