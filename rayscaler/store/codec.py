"""ClusterRecord to JSON text and back. Reading is tolerant: unknown fields are ignored, missing ones take their default (K2)."""

import json
from typing import Any

from rayscaler.model.demand import Bundle, Constraint, Demand, LabelCondition, LabelSelector, Operator, Session
from rayscaler.model.resources import Resources
from rayscaler.model.state import Backoff
from rayscaler.store.base import ClusterRecord

NO_RECORD = (ValueError, LookupError, TypeError, AttributeError, ArithmeticError, RecursionError)
"""What `decode` raises for a text that is not a record."""

VERSION = 1
"""Of the layout; a reader of a higher one reads what it knows."""


def encode(record: ClusterRecord) -> str:
    """Return the record as JSON with sorted keys."""
    return json.dumps(
        {
            "version": VERSION,
            "cluster": record.cluster,
            "session": None if record.session is None else _session_out(record.session),
            "retired": [_session_out(each) for each in record.retired],
            "batch": record.batch,
            "state_version": record.state_version,
            "floor": None if record.floor is None else [_demand_out(each) for each in record.floor.demands],
            "targets": dict(record.targets),
            "backoffs": [
                {"node_type": b.node_type, "failures": b.failures, "until": b.until, "detail": b.detail, "probe": b.probe}
                for b in record.backoffs
            ],
        },
        sort_keys=True,
    )


def decode(text: str) -> ClusterRecord:
    """Return the record in `text`; raises one of NO_RECORD when it is not one."""
    raw: dict[str, Any] = json.loads(text)
    floor = raw.get("floor")
    return ClusterRecord(
        cluster=str(raw["cluster"]),
        session=None if raw.get("session") is None else _session_in(raw["session"]),
        retired=tuple(_session_in(each) for each in raw.get("retired", ())),
        batch=int(raw.get("batch", 0)),
        state_version=int(raw.get("state_version", 0)),
        floor=None if floor is None else Constraint(tuple(_demand_in(each) for each in floor)),
        targets=tuple(sorted((str(k), int(v)) for k, v in raw.get("targets", {}).items())),
        backoffs=tuple(
            Backoff(str(b["node_type"]), int(b["failures"]), float(b["until"]), str(b.get("detail", "")), int(b.get("probe", 1)))
            for b in raw.get("backoffs", ())
        ),
    )


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
