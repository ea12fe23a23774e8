"""ClusterRecord to JSON text and back. Reading is tolerant: unknown fields are left out with a warning, missing ones take their default (K2)."""

import json
from dataclasses import asdict, fields
from typing import Any

import structlog

from rayscaler.model.command import AskedDrain, DrainCommand
from rayscaler.model.demand import Bundle, Constraint, Demand, LabelCondition, LabelSelector, Operator, Session
from rayscaler.model.instance import Reason
from rayscaler.model.resources import Resources
from rayscaler.model.state import Backoff, Begun, FloorOwners, Hold
from rayscaler.model.trouble import NodeTypeTrouble
from rayscaler.store.base import ClusterRecord, OpenBatch

log = structlog.get_logger(__name__)

NO_RECORD = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What `decode` raises for a text that is not a record."""

VERSION = 1
"""Of the layout; a reader of a higher one reads what it knows."""


_KNOWN = frozenset({"version", *(each.name for each in fields(ClusterRecord))})


def encode(record: ClusterRecord) -> str:
    """Return the record as JSON with sorted keys."""
    return json.dumps(
        {
            "version": VERSION,
            "cluster": record.cluster,
            "session": None if record.session is None else _session_out(record.session),
            "retired": [_session_out(each) for each in record.retired],
            "incarnation": record.incarnation,
            "retired_incarnations": list(record.retired_incarnations),
            "batch": record.batch,
            "open_batches": [[each.batch, *(list(found) for found in each.ranges)] for each in record.open_batches],
            "state_version": record.state_version,
            "floor": None if record.floor is None else [_demand_out(each) for each in record.floor.demands],
            "floor_until": record.floor_until,
            "floor_owners": _owners_out(record.floor_owners),
            "targets": dict(record.targets),
            "hold": None if record.hold is None else {"since": record.hold.since, "targets": dict(record.hold.targets)},
            "drains": [_drain_out(each) for each in record.drains],
            "backoffs": [
                {"node_type": b.node_type, "failures": b.failures, "until": b.until, "detail": b.detail, "probe": b.probe}
                for b in record.backoffs
            ],
            "troubles": [asdict(each) for each in record.troubles],
            "begun": [list(each) for each in record.begun],
        },
        sort_keys=True,
    )


def decode(text: str) -> ClusterRecord:
    """Return the record in `text`; raises one of NO_RECORD when it is not one."""
    raw: dict[str, Any] = json.loads(text)
    _tell_unknown(raw)
    floor = raw.get("floor")
    return ClusterRecord(
        cluster=str(raw["cluster"]),
        session=None if raw.get("session") is None else _session_in(raw["session"]),
        retired=tuple(_session_in(each) for each in raw.get("retired", ())),
        incarnation=str(raw.get("incarnation", "")),
        retired_incarnations=tuple(str(each) for each in raw.get("retired_incarnations", ())),
        batch=int(raw.get("batch", 0)),
        open_batches=tuple(_open_in(each) for each in raw.get("open_batches", ())),
        state_version=int(raw.get("state_version", 0)),
        floor=None if floor is None else Constraint(tuple(_demand_in(each) for each in floor)),
        floor_until=_moment(raw.get("floor_until")),
        floor_owners=_owners_in(raw.get("floor_owners", {})),
        targets=_targets_in(raw.get("targets", {})),
        hold=None if raw.get("hold") is None else Hold(float(raw["hold"]["since"]), _targets_in(raw["hold"]["targets"])),
        drains=tuple(_drain_in(each) for each in raw.get("drains", ())),
        backoffs=tuple(
            Backoff(str(b["node_type"]), int(b["failures"]), float(b["until"]), str(b.get("detail", "")), int(b.get("probe", 1)))
            for b in raw.get("backoffs", ())
        ),
        troubles=tuple(_trouble_in(each) for each in raw.get("troubles", ())),
        begun=tuple(Begun(float(at), str(node_type), int(count)) for at, node_type, count in raw.get("begun", ())),
    )


def _tell_unknown(raw: dict[str, Any]) -> None:
    """Warn of what a later version has written: it is left out, and lost with the next save."""
    unknown = sorted(raw.keys() - _KNOWN)
    if unknown or raw.get("version", VERSION) != VERSION:
        log.warning("record.of_another_version", cluster=raw.get("cluster"), version=raw.get("version"), left_out=unknown)


def _trouble_in(raw: dict[str, Any]) -> NodeTypeTrouble:
    return NodeTypeTrouble(
        str(raw["node_type"]),
        str(raw["cause"]),
        float(raw["since"]),
        detail=str(raw.get("detail", "")),
        launches=int(raw.get("launches", 0)),
        changes=int(raw.get("changes", 0)),
        told=str(raw.get("told", "")),
        ended_at=_moment(raw.get("ended_at")),
    )


def _targets_in(raw: dict[str, Any]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted((str(name), int(count)) for name, count in raw.items()))


def _open_in(raw: list[Any]) -> OpenBatch:
    return OpenBatch(int(raw[0]), tuple((str(node_type), int(first), int(count)) for node_type, first, count in raw[1:]))


def _moment(raw: Any) -> float | None:
    return None if raw is None else float(raw)


def _owners_out(owners: FloorOwners) -> dict[str, Any]:
    jobs = None if owners.jobs is None else sorted(owners.jobs)
    return {"jobs": jobs, "unowned_s": owners.unowned_s, "is_over": owners.is_over}


def _owners_in(raw: dict[str, Any]) -> FloorOwners:
    jobs = raw.get("jobs")
    return FloorOwners(
        None if jobs is None else frozenset(str(each) for each in jobs), _moment(raw.get("unowned_s")), bool(raw.get("is_over", False))
    )


def _drain_out(kept: AskedDrain) -> dict[str, Any]:
    command = kept.command
    return {
        "instance_id": kept.instance_id,
        "reason": kept.reason.value,
        "command_id": command.command_id,
        "ray_node_id": command.ray_node_id,
        "is_preemption": command.is_preemption,
        "detail": command.detail,
        "deadline_at": command.deadline_at,
    }


def _drain_in(raw: dict[str, Any]) -> AskedDrain:
    command = DrainCommand(
        str(raw["command_id"]),
        str(raw["ray_node_id"]),
        bool(raw["is_preemption"]),
        str(raw.get("detail", "")),
        _moment(raw.get("deadline_at")),
    )
    return AskedDrain(str(raw["instance_id"]), Reason(raw["reason"]), command)


def _session_out(session: Session) -> list[str]:
    return [session.cluster_id, session.session_name]


def _session_in(raw: list[str]) -> Session:
    return Session(str(raw[0]), str(raw[1]))


def _demand_out(demand: Demand) -> dict[str, Any]:
    selectors = [[[c.key, c.operator.value, list(c.values)] for c in s.conditions] for s in demand.bundle.selectors]
    return {"resources": dict(demand.bundle.resources), "selectors": selectors, "count": demand.count}


def _demand_in(raw: dict[str, Any]) -> Demand:
    selectors = tuple(
        LabelSelector(tuple(LabelCondition(key, Operator(operator), tuple(values)) for key, operator, values in selector))
        for selector in raw.get("selectors", ())
    )
    resources = Resources({str(name): int(amount) for name, amount in raw["resources"].items()})
    return Demand(Bundle(resources, selectors), int(raw["count"]))
