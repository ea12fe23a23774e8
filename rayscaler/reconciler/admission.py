"""Which report counts: order by the monitor's epoch and sequence; a superseded session or head is never accepted again (design §2b.3).

Pure.
"""

from dataclasses import dataclass, replace

from rayscaler.errors import Superseded
from rayscaler.model.demand import DemandReport, Session

RETIRED_KEPT = 32
"""Retired sessions, and heads, remembered: far more head restarts than any monitor or queue can lag behind."""


@dataclass(frozen=True)
class Order:
    """What was accepted last."""

    monitor_epoch: int = 0
    sequence: int = 0
    session: Session | None = None
    retired: tuple[Session, ...] = ()
    incarnation: str = ""
    retired_incarnations: tuple[str, ...] = ()


def admit(order: Order, report: DemandReport, served_head: str = "") -> tuple[Order, bool]:
    """Return the order after `report` and whether it is news (False: a repetition of the last one, to be answered alike).

    Raises Superseded for an older monitor, an older report of this monitor, a retired session, or a retired head: with a
    fault-tolerant GCS two heads may report under one session. Also for any head but `served_head`, where it is known which is served.
    """
    if served_head and report.head_incarnation != served_head:
        raise Superseded(f"head {report.head_incarnation or '(which does not say which)'} is not the one that is served, {served_head}")
    if report.head_incarnation in order.retired_incarnations:
        raise Superseded(f"head {report.head_incarnation} was retired when {order.incarnation} took its place")
    if report.session is not None and report.session in order.retired:
        raise Superseded(f"session {report.session.session_name} ended when {_name(order.session)} took its place")
    if served_head in ("", order.incarnation) and _is_repeated(order, report):
        return order, False
    return _with_session(_with_head(replace(order, monitor_epoch=report.monitor_epoch, sequence=report.sequence), report), report), True


def _is_repeated(order: Order, report: DemandReport) -> bool:
    """Whether a report is the last one again; raises Superseded for an older one. Of another head the numbers say nothing: it has another clock."""
    if report.monitor_epoch < order.monitor_epoch:
        raise Superseded(f"monitor of epoch {report.monitor_epoch} was superseded by that of {order.monitor_epoch}")
    if report.monitor_epoch > order.monitor_epoch:
        return False
    if report.sequence < order.sequence:
        raise Superseded(f"report {report.sequence} came after report {order.sequence} of the same monitor")
    return report.sequence == order.sequence


def _with_head(order: Order, report: DemandReport) -> Order:
    if report.head_incarnation in ("", order.incarnation):
        return order
    retired = (*order.retired_incarnations, order.incarnation)[-RETIRED_KEPT:] if order.incarnation else order.retired_incarnations
    return replace(order, incarnation=report.head_incarnation, retired_incarnations=retired)


def _with_session(order: Order, report: DemandReport) -> Order:
    if report.session in (None, order.session):
        return order
    retired = order.retired if order.session is None else (*order.retired, order.session)[-RETIRED_KEPT:]
    return replace(order, session=report.session, retired=retired)


def _name(session: Session | None) -> str:
    return "another" if session is None else session.session_name
