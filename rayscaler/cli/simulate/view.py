"""How `rayscaler simulate` shows what a simulation came to: tables for people."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from rayscaler.cli.simulate.outcome import PLANNED
from rayscaler.model.instance import Reason
from rayscaler.model.reasons import MEANINGS, MOVERS
from rayscaler.model.words import counted

DAY_S = 86_400
UNITS = ((2 * DAY_S, DAY_S, "d"), (7200, 3600, "h"), (120, 60, "min"))
"""From how many seconds on a time is told in which unit."""
BAR = 10
"""Characters of the longest bar."""


def render(document: Mapping[str, Any]) -> Group:
    """Return what came of it as tables, the empty ones left out, and a line that sums it up."""
    tables = (_whole(document), _over_time(document), _node_types(document), _never(document))
    parts: list[RenderableType] = [table for table in tables if table.row_count]
    return Group(*parts, _summary(document))


def lasted(seconds: float | None) -> str:
    """Say how long something took; a dash where nothing did."""
    if seconds is None:
        return "-"
    unit_s, unit = unit_of(seconds)
    return f"{seconds / unit_s:.1f} {unit}"


def unit_of(seconds: float) -> tuple[float, str]:
    """Return the unit of time, in seconds and by its sign, in which so long a time is told."""
    return next(((unit_s, unit) for least, unit_s, unit in UNITS if seconds >= least), (1, "s"))


def money(cost: float | None) -> str:
    """Say what something cost, in the unit of the definition."""
    return "unknown" if cost is None else f"{cost:,.2f}"


def share(part: float | None) -> str:
    """Say a share."""
    return "-" if part is None else f"{part:.0%}"


def figures(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield each figure of the whole, by its name."""
    tasks, waiting, churn = document["tasks"], document["waiting_s"], document["churn"]
    yield "time", lasted(document["span_s"])
    yield "tasks", f"{tasks['arrived']} came, {tasks['finished']} ended, {tasks['never_placed']} never placed"
    yield "cost", money(document["cost"])
    yield "waiting", ", ".join(f"{name} {lasted(waiting[name])}" for name in ("median", "p95", "max"))
    used = ", ".join(f"{name} {share(part)}" for name, part in document["utilisation"].items())
    yield "utilisation", used or "-"
    if spared := sum(each["spared_hours"] for each in document["node_types"]):
        yield "accelerators", f"{spared:,.1f} node hours with them went to work that used none"
    relaunched = (
        f"{churn['launches_cancelled']} cancelled ({churn['launches_cancelled_and_relaunched']} of these relaunched of the same type)"
    )
    yield "churn", f"{counted(churn['launches'], 'launch', 'launches')}, {relaunched}, {counted(churn['ends'], 'node')} ended"


def _whole(document: Mapping[str, Any]) -> Table:
    table = Table("the whole", "")
    for name, said in figures(document):
        table.add_row(name, Text(said))
    plans = document["plans"]
    took = f"{counted(plans['count'], 'plan')} in {lasted(plans['total_s'])}, the longest {plans['longest_s'] * 1000:.1f} ms"
    table.add_row("planning", took)
    return table


def _over_time(document: Mapping[str, Any]) -> Table:
    resources = list(document["utilisation"])
    table = Table("from")
    for name in ("cost", "", "nodes", "most", "running", "most waiting", *resources):
        table.add_column(Text(name), justify="right" if name else "left")
    dearest = max((each["cost"] for each in document["over_time"]), default=0.0)
    for each in document["over_time"]:
        bar = "█" * round(each["cost"] / dearest * BAR) if dearest else ""
        table.add_row(
            lasted(each["begin_s"] - document["begin_s"]),
            money(each["cost"] if document["cost"] is not None else None),
            Text(bar, "cyan"),
            f"{each['nodes']:.1f}",
            str(each["most_nodes"]),
            f"{each['running']:.1f}",
            str(each["most_waiting"]),
            *(share(each["utilisation"][name]) for name in resources),
        )
    return table


def _node_types(document: Mapping[str, Any]) -> Table:
    table = Table()
    table.add_column("node type", overflow="fold")
    for name in ("most", "launched", "ended", "cancelled", "relaunched", "node hours", "cost"):
        table.add_column(name, justify="right")
    for each in document["node_types"]:
        if each["launches"]:
            table.add_row(
                Text(each["name"]),
                *(str(each[key]) for key in ("peak", "launches", "ends", "launches_cancelled", "launches_cancelled_and_relaunched")),
                f"{each['node_hours']:,.1f}",
                money(each["cost"]),
            )
    return table


def _never(document: Mapping[str, Any]) -> Table:
    table = Table("never placed", "count", "reason", "detail", "whose move")
    for each in document["never_placed"]:
        reason = each["reason"]
        move = "" if reason == PLANNED else MOVERS[MEANINGS[Reason(reason)].mover]
        table.add_row(*map(Text, (each["shape"], str(each["count"]), reason, each["detail"], move)))
    return table


def _summary(document: Mapping[str, Any]) -> Text:
    never, starts = document["tasks"]["never_placed"], document["assumed"]["start_up_s"]
    took = sorted(set(starts.values()))
    said = " to ".join(lasted(each) for each in dict.fromkeys((took[0], took[-1]))) if took else "no time"
    left = f"{counted(never, 'task')} never got a place" if never else "all work got a place"
    text = f"{left}; cost {money(document['cost'])}; a node is taken to start in {said}"
    return Text(text, style="red" if never else "green")
