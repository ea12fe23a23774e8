"""The status of a cluster for people and GitOps tools: counts, head, conditions (CD-17). Pure; schema/kubernetes-status.schema.json has it.

There is nothing in it that changes by itself with time, so an unchanged cluster has an unchanged document.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, NamedTuple

from rayscaler.model.instance import ENDED, InstanceStatus
from rayscaler.model.nodetype import UNLIMITED, NodeType
from rayscaler.model.reasons import reason_text
from rayscaler.model.status import ClusterStatus

Document = dict[str, Any]

MOST_TYPES, MOST_SENTENCES, LONGEST = 1000, 20, 2000
"""Node types, sentences, and characters of a condition's message: the document must fit into a ConfigMap, whatever the definition."""
TRUE, FALSE, UNKNOWN = "True", "False", "Unknown"
WANTED = frozenset({InstanceStatus.REQUESTED, InstanceStatus.ALLOCATED, InstanceStatus.RUNNING, InstanceStatus.REJOINING})
"""Instances that are to be there; the others are about to end."""


@dataclass(frozen=True)
class DefinitionStanding:
    """How a definition stands: the ConfigMap's version that was looked at, what is wrong with it, and why it is held, if it is."""

    resource_version: str = ""
    problems: tuple[str, ...] = ()
    held: str = ""


@dataclass(frozen=True)
class HeadStanding:
    """How the head stands; `reason` is one CamelCase word. `endpoints` are addresses by what they are for, such as `client`."""

    is_ready: bool | None = None
    reason: str = "NotMadeYet"
    message: str = ""
    pod: str = ""
    endpoints: Mapping[str, str] = field(default_factory=dict)


class _Condition(NamedTuple):
    type: str
    status: str
    reason: str
    message: str = ""


def status_document(
    cluster: str,
    status: ClusterStatus | None,
    *,
    definition: DefinitionStanding,
    head: HeadStanding,
    now: float,
    before: Mapping[str, Any] | None = None,
) -> Document:
    """Return the document; `status` is None while no definition is in force, `before` is the last document, `now` wall seconds."""
    rows = [] if status is None else _node_types(status)
    left_out = {"nodeTypesLeftOut": len(rows) - MOST_TYPES} if len(rows) > MOST_TYPES else {}
    return {
        "cluster": cluster,
        "observedVersion": {
            "hash": "" if status is None else status.definition.content_hash,
            "resourceVersion": definition.resource_version,
        },
        "head": {"pod": head.pod, "endpoints": dict(head.endpoints), "rayVersion": "" if status is None else status.ray_version},
        "workers": {"desired": sum(row["desired"] for row in rows), "instances": _summed(row["instances"] for row in rows)},
        "nodeTypes": rows[:MOST_TYPES],
        **left_out,
        "pending": _pending(status),
        "conditions": _dated(_conditions(status, definition, head, rows), now, (before or {}).get("conditions") or ()),
        "notices": [] if status is None else [each[:LONGEST] for each in status.notices[:MOST_SENTENCES]],
    }


def _node_types(status: ClusterStatus) -> list[Document]:
    """Return a row per node type, also of those that only have instances left."""
    counts: dict[str, Counter[str]] = {each.name: Counter() for each in status.node_types}
    for each in status.instances:
        if each.status not in ENDED:
            counts.setdefault(each.node_type, Counter())[each.status.value] += 1
    defined = {each.name: each for each in status.node_types}
    backed_off = {each.node_type: each.detail for each in status.backoffs}
    return [_row(name, defined.get(name), counted, backed_off.get(name, "")) for name, counted in counts.items()]


def _row(name: str, node_type: NodeType | None, counted: Counter[str], backed_off: str) -> Document:
    maximum = 0 if node_type is None else node_type.max_workers
    return {
        "name": name,
        "isRetiring": node_type is None,
        "min": 0 if node_type is None else node_type.min_workers,
        "max": None if maximum == UNLIMITED else maximum,
        "desired": 0 if node_type is None else sum(counted[each] for each in WANTED),
        "instances": dict(sorted(counted.items())),
        "backedOff": backed_off[:LONGEST],
    }


def _summed(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(sorted(total.items()))


def _pending(status: ClusterStatus | None) -> Document:
    found = () if status is None else status.pending
    return {"shapes": len(found), "count": sum(each.count for each in found), "never": sum(each.count for each in found if each.is_never)}


def _conditions(
    status: ClusterStatus | None, definition: DefinitionStanding, head: HeadStanding, rows: list[Document]
) -> Iterator[_Condition]:
    valid, ready = _definition_valid(status, definition), _head_ready(head)
    minimums = _minimums_met(rows) if status is not None else _Condition("MinimumsMet", UNKNOWN, "NoDefinition")
    missing = [each for each in (_Condition("", FALSE, "NoDefinition") if status is None else None, ready, minimums) if each is not None]
    first = next((each for each in missing if each.status != TRUE), None)
    yield _Condition("Ready", TRUE, "Ready") if first is None else _Condition("Ready", FALSE, first.reason, first.message)
    yield valid
    yield ready
    yield minimums
    if status is not None:
        yield _demand_met(status)
        yield _blind(status)
        yield _launches_failing(status)


def _definition_valid(status: ClusterStatus | None, definition: DefinitionStanding) -> _Condition:
    problems = definition.problems or (() if status is None else status.definition.problems)
    if definition.held:
        return _Condition("DefinitionValid", UNKNOWN, "Held", definition.held)
    if problems:
        in_force = "nothing is in force" if status is None else f"version {status.definition.content_hash} stays in force"
        return _Condition("DefinitionValid", FALSE, "Refused", f"{in_force}: {_sentences(problems)}")
    if status is None:
        return _Condition("DefinitionValid", UNKNOWN, "NotReadYet")
    return _Condition("DefinitionValid", TRUE, "Taken", _sentences(status.definition.warnings))


def _head_ready(head: HeadStanding) -> _Condition:
    known = UNKNOWN if head.is_ready is None else TRUE if head.is_ready else FALSE
    return _Condition("HeadReady", known, head.reason, head.message)


def _minimums_met(rows: list[Document]) -> _Condition:
    short = [f"{row['name']} has {row['instances'].get(InstanceStatus.RUNNING, 0)} of {row['min']}" for row in rows if _is_short(row)]
    return _Condition("MinimumsMet", FALSE, "Launching", _sentences(short)) if short else _Condition("MinimumsMet", TRUE, "AllRun")


def _is_short(row: Document) -> bool:
    return bool(row["instances"].get(InstanceStatus.RUNNING, 0) < row["min"])


def _demand_met(status: ClusterStatus) -> _Condition:
    if status.blind is not None:
        return _Condition("DemandMet", UNKNOWN, _word(status.blind), "what is asked for is not known now")
    if status.pending:
        worst = max(status.pending, key=lambda each: each.is_never)  # the first of equals
        said = [f"{each.count} x {each.what}: {each.detail or reason_text(each.reason)}" for each in status.pending]
        return _Condition("DemandMet", FALSE, _word(worst.reason), _sentences(said))
    if any(each.is_in_flight for each in status.instances):
        return _Condition("DemandMet", FALSE, "Launching", "nodes are on their way")
    return _Condition("DemandMet", TRUE, "AllPlaced")


def _blind(status: ClusterStatus) -> _Condition:
    if status.blind is None:
        return _Condition("Blind", FALSE, "ReportsCome")
    return _Condition("Blind", TRUE, _word(status.blind), reason_text(status.blind))


def _launches_failing(status: ClusterStatus) -> _Condition:
    said = [f"{each.node_type}: {each.detail}" for each in status.backoffs]
    return _Condition("LaunchesFailing", TRUE, "BackedOff", _sentences(said)) if said else _Condition("LaunchesFailing", FALSE, "NoneFails")


def _word(reason: str) -> str:
    """Return a reason as conditions spell theirs: NO_REPORT is NoReport."""
    return "".join(part.capitalize() for part in reason.split("_"))


def _sentences(said: Iterable[str]) -> str:
    found = list(said)
    more = [f"and {len(found) - MOST_SENTENCES} more"] if len(found) > MOST_SENTENCES else []
    text = "; ".join([*found[:MOST_SENTENCES], *more])
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def _dated(found: Iterable[_Condition], now: float, before: Iterable[Mapping[str, str]]) -> list[Document]:
    """Return conditions, each with the time of its last change of status."""
    known = {(each.get("type"), each.get("status")): each.get("lastTransitionTime") for each in before}
    at = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return [{**each._asdict(), "lastTransitionTime": known.get((each.type, each.status)) or at} for each in found]
