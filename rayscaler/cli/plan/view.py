"""How `rayscaler plan` shows a plan: tables for people."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rayscaler.config.demandfile import Wanted
from rayscaler.model.demand import Bundle
from rayscaler.model.instance import Reason
from rayscaler.model.plan import Drain, Plan, Termination
from rayscaler.model.reasons import MEANINGS, MOVERS
from rayscaler.model.state import ClusterState
from rayscaler.model.words import counted

NAMED = 3
"""Nodes named in one row; the rest is a number."""


def render(state: ClusterState, wanted: Wanted, plan: Plan, document: Mapping[str, Any]) -> Group:
    """Return the plan as tables, the empty ones left out, and a line that sums it up."""
    tables = (
        _launches(state, plan),
        _growths(state, plan),
        _nodes(document, wanted),
        _ends(state, plan),
        _infeasible(document, list(_names(wanted))),
    )
    parts: list[RenderableType] = [table for table in (*tables, *_why(document)) if table.row_count]
    return Group(*parts, *_mix(document), _summary(plan, document))


def _names(wanted: Wanted) -> Iterator[str]:
    """Yield what each index of the document is called."""
    yield from (str(each.bundle) for each in wanted.demands)
    yield from (str(entry[0]) for entry in wanted.gangs)
    yield from (_kept(each.bundle) for each in wanted.constraints)


def _kept(bundle: Bundle | str) -> str:
    return f"{bundle} of request_resources"


def _add(table: Table, *cells: str) -> None:
    """Add a row of plain text: what stands in brackets is a label wish and no markup."""
    table.add_row(*map(Text, cells))


def _launches(state: ClusterState, plan: Plan) -> Table:
    table = Table("launch", "nodes", "reason", "cost per hour")
    costs = {each.name: each.cost for each in state.config.node_types}
    for (name, reason), count in sorted(Counter((each.node_type, each.reason.value) for each in plan.launches).items()):
        cost = costs[name]
        _add(table, name, str(count), reason, "" if cost is None else f"{cost * count:.10g}")
    return table


def _growths(state: ClusterState, plan: Plan) -> Table:
    """Return what grows, by node type and size, some of the nodes named."""
    table = Table("grow", "nodes", "which", "to")
    types = {each.instance_id: each.node_type for each in state.instances}
    alike: dict[tuple[str, str], list[str]] = defaultdict(list)
    for each in plan.growths:
        alike[types[each.instance_id], str(each.resources)].append(each.instance_id)
    for (name, size), found in sorted(alike.items()):
        _add(table, name, str(len(found)), _which(found), size)
    return table


def _which(nodes: list[str]) -> str:
    return ", ".join(nodes[:NAMED]) + (f" and {len(nodes) - NAMED} more" if len(nodes) > NAMED else "")


def _nodes(document: Mapping[str, Any], wanted: Wanted) -> Table:
    table = Table("node type", "nodes", "", "each holds")
    for each in document["placements"]:
        holds = [f"{held['count']} x {_what(held, wanted)}" for held in each["holds"]]
        _add(table, each["type"], str(each["nodes"]), "there" if each["existing"] else "new", "\n".join(holds) or "nothing")
    return table


def _what(held: Mapping[str, int], wanted: Wanted) -> str:
    """Return what a node holds there: the bundle, and what it is of."""
    index = held["demand"]
    if index < len(wanted.demands):
        return str(wanted.demands[index].bundle)
    index -= len(wanted.demands)
    if index < len(wanted.gangs):
        gang = wanted.gangs[index][0]
        return f"{gang.bundles[held.get('bundle', 0)].bundle} of a {gang.strategy} gang"
    return _kept(wanted.constraints[index - len(wanted.gangs)].bundle)


def _ends(state: ClusterState, plan: Plan) -> Table:
    """Return what ends by node type and reason, some of the nodes named."""
    table = Table("end", "nodes", "which", "reason", "detail")
    types = {each.instance_id: each.node_type for each in state.instances}
    alike: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    ends: list[Drain | Termination] = [*plan.drains, *plan.terminations]
    for end in ends:
        alike[types[end.instance_id], end.reason.value].append((end.instance_id, end.detail))
    for (name, reason), found in sorted(alike.items()):
        _add(table, name, str(len(found)), _which([node for node, _ in found]), reason, found[0][1])
    return table


def _infeasible(document: Mapping[str, Any], names: list[str]) -> Table:
    table = Table("no place for", "count", "reason", "detail", "whose move")
    for each in document["infeasible"]:
        _add(table, names[each["demand"]], str(each["count"]), each["reason"], each["detail"], move(Reason(each["reason"])))
    return table


def move(reason: Reason) -> str:
    """Return who can lift a refusal, and how."""
    return MOVERS[MEANINGS[reason].mover]


def _why(document: Mapping[str, Any]) -> Iterator[Table]:
    """Yield what is said of the mix, where that was asked for."""
    found = document.get("explanation")
    if found is None:
        return
    uses = Table("why", "nodes", "cost per hour", "for", "in use")
    for each in found["node_types"]:
        held = [f"{held['count']} x {held['shape']}" for held in each["holds"]]
        held += [_kept(f"{held['count']} x {held['shape']}") for held in each["keeps_room_for"]]
        used = ", ".join(f"{name} {share:.0%}" for name, share in each["used"].items())
        cost = "" if each["cost"] is None else f"{each['cost']:.10g}"
        _add(uses, each["name"], str(each["nodes"]), cost, "\n".join(held) or ", ".join(each["reasons"]), used)
    yield uses
    needed = Table("no place for", "count", "would be needed")
    for each in found["needed"]:
        _add(needed, each["shape"], str(each["count"]), each["needed"])
    yield needed


def _mix(document: Mapping[str, Any]) -> Iterator[Text]:
    """Yield how near the cost of the mix is to the least."""
    mix = document["mix"]
    if mix is None:
        return
    work = "the first plan" if not mix["steps"] else f"after {counted(mix['steps'], 'step')}"
    if mix["bound"] is None:
        near = "how much cheaper a mix could be at most was not reckoned"
    else:
        near = f"no mix can cost less than {mix['bound']:.10g}" + ("" if mix["gap"] is None else f", a gap of {mix['gap']:.1%}")
    yield Text(f"the mix for what waits costs {mix['cost']:.10g} per hour ({work}); {near}")
    if mix["binds"]:
        yield Text(f"what binds: {'; '.join(mix['binds'])}")


def _summary(plan: Plan, document: Mapping[str, Any]) -> Text:
    cost = "unknown cost" if document["cost"] is None else f"a cost of {document['cost']:.10g} per hour"
    refused = sum(each["count"] for each in document["infeasible"])
    left = f"{refused} asked for {'has' if refused == 1 else 'have'} no place" if refused else "everything asked for has a place"
    ends = len(plan.drains) + len(plan.terminations)
    grow = f", {len(plan.growths)} to grow" if plan.growths else ""
    took = f"planned in {document['planning_seconds'] * 1000:.1f} ms"
    return Text(
        f"{counted(len(plan.launches), 'node')} to launch at {cost}{grow}, {ends} to end; {left}; {took}",
        style="red" if refused else "green",
    )
