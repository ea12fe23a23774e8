"""head.proto to the model and back: the only validation of what comes over the wire. Every problem is told at once.

Demand reports are untrusted: counts, names and sizes are bounded here (SE-9), so that nothing behind this file needs to ask.
"""

import re
from collections.abc import Iterable, Mapping

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.errors import InvalidRequest
from rayscaler.model.demand import (
    Bundle,
    CommandResult,
    Constraint,
    Demand,
    DemandReport,
    Gang,
    LabelCondition,
    LabelSelector,
    Operator,
    Outcome,
    Session,
    Snapshot,
    Strategy,
)
from rayscaler.model.node import DeathReason, NodeStatus, RayNode
from rayscaler.model.resources import Resources

MAX_NAME = 512
"""Characters of any name or key; Ray's own are below 300."""
CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
"""What no name or key has: it would break the lines of logs and tables."""
MAX_COUNT = 1 << 40
"""Of one demand."""
MAX_GANG = 10_000
"""Bundles of one gang: they are placed one by one, and Ray's own groups have some hundreds as a rule."""
MAX_JOBS = 1000
"""Jobs named in one snapshot; where there are more a monitor names none."""
MAX_AMOUNT = 1 << 62
"""Of one resource, in units: 46,000 times Ray's own largest."""
MAX_DURATION_S = 366 * 86_400
"""Of an age or an idle time: a year."""
MAX_AT = 253_402_300_799
"""The last second that a Timestamp can name."""
MAX_DETAIL = 1000
"""Characters kept of a text for people."""
MAX_PROBLEMS = 20
"""Told in one answer."""

_STATUS = {
    pb.NODE_STATUS_RUNNING: NodeStatus.RUNNING,
    pb.NODE_STATUS_IDLE: NodeStatus.IDLE,
    pb.NODE_STATUS_DRAINING: NodeStatus.DRAINING,
    pb.NODE_STATUS_DEAD: NodeStatus.DEAD,
}
_DEATH = {
    pb.DEATH_REASON_UNSPECIFIED: DeathReason.UNKNOWN,
    pb.DEATH_REASON_EXPECTED: DeathReason.EXPECTED,
    pb.DEATH_REASON_UNEXPECTED: DeathReason.UNEXPECTED,
    pb.DEATH_REASON_DRAINED_PREEMPTED: DeathReason.DRAINED_PREEMPTED,
    pb.DEATH_REASON_DRAINED_IDLE: DeathReason.DRAINED_IDLE,
}
_STRATEGY = {
    pb.STRATEGY_PACK: Strategy.PACK,
    pb.STRATEGY_SPREAD: Strategy.SPREAD,
    pb.STRATEGY_STRICT_PACK: Strategy.STRICT_PACK,
    pb.STRATEGY_STRICT_SPREAD: Strategy.STRICT_SPREAD,
}
_OPERATOR = {pb.LABEL_OPERATOR_IN: Operator.IN, pb.LABEL_OPERATOR_NOT_IN: Operator.NOT_IN}
_OUTCOME = {pb.OUTCOME_DONE: Outcome.DONE, pb.OUTCOME_REJECTED: Outcome.REJECTED, pb.OUTCOME_FAILED: Outcome.FAILED}


class _Reader:
    """Collects problems while it reads."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def need(self, path: str, holds: bool, rule: str) -> None:
        if not holds and len(self.problems) < MAX_PROBLEMS:
            self.problems.append(f"{path}: {rule}")

    def name(self, path: str, value: str, *, required: bool = False) -> str:
        self.need(path, len(value) <= MAX_NAME, f"is longer than {MAX_NAME} characters")
        self.need(path, CONTROL.search(value) is None, "has a line break or another control character")
        self.need(path, bool(value) or not required, "is required")
        return value

    def natural(self, path: str, value: int) -> int:
        self.need(path, value >= 0, f"{value} is negative")
        return value

    def seconds(self, path: str, value: Duration | Timestamp, most: int) -> float:
        found = value.seconds + value.nanos / 1e9  # protobuf's own conversions raise on some that the wire can carry
        self.need(path, 0 <= found <= most, f"{found} s is not from 0 to {most} s")
        return found

    def resources(self, path: str, amounts: Mapping[str, int]) -> Resources:
        for name, amount in amounts.items():
            self.name(f"{path}[{name[:40]!r}]", name, required=True)
            self.need(f"{path}[{name[:40]!r}]", 0 <= amount <= MAX_AMOUNT, f"{amount} is not an amount from 0 to {MAX_AMOUNT}")
        return Resources(amounts)

    def bundle(self, path: str, bundle: pb.Bundle) -> Bundle:
        selectors = tuple(self.selector(f"{path}.label_selectors[{i}]", each) for i, each in enumerate(bundle.label_selectors))
        return Bundle(self.resources(f"{path}.resources", bundle.resources), selectors)

    def selector(self, path: str, selector: pb.LabelSelector) -> LabelSelector:
        conditions = []
        for index, each in enumerate(selector.conditions):
            where = f"{path}.conditions[{index}]"
            self.need(f"{where}.operator", each.operator in _OPERATOR, "must be IN or NOT_IN")
            key = self.name(f"{where}.key", each.key, required=True)
            conditions.append(LabelCondition(key, _OPERATOR.get(each.operator, Operator.IN), tuple(sorted(each.values))))
        return LabelSelector(tuple(sorted(conditions)))

    def demands(self, path: str, demands: Iterable[pb.Demand]) -> tuple[Demand, ...]:
        """Equal bundles become one demand, whatever way the monitor grouped them."""
        counts: dict[Bundle, int] = {}
        for index, each in enumerate(demands):
            where = f"{path}[{index}]"
            self.need(f"{where}.count", 1 <= each.count <= MAX_COUNT, f"{each.count} is not a count from 1 to {MAX_COUNT}")
            bundle = self.bundle(f"{where}.bundle", each.bundle)
            counts[bundle] = counts.get(bundle, 0) + each.count
        return tuple(Demand(bundle, count) for bundle, count in counts.items())

    def gang(self, path: str, gang: pb.Gang) -> Gang:
        self.need(f"{path}.strategy", gang.strategy in _STRATEGY, "must be set")
        bundles = self.demands(f"{path}.bundles", gang.bundles)
        size = sum(each.count for each in bundles)
        self.need(f"{path}.bundles", 1 <= size <= MAX_GANG, f"{size} bundles are not from 1 to {MAX_GANG}")
        strategy = _STRATEGY.get(gang.strategy, Strategy.PACK)
        gang_id = self.name(f"{path}.gang_id", gang.gang_id, required=True)
        return Gang(gang_id, strategy, bundles, is_rescheduling=gang.rescheduling, is_orphaned=gang.orphaned)

    def node(self, path: str, node: pb.Node) -> RayNode:
        self.need(f"{path}.status", node.status in _STATUS, "must be set")
        return RayNode(
            ray_node_id=self.name(f"{path}.ray_node_id", node.ray_node_id, required=True),
            instance_id=self.name(f"{path}.instance_id", node.instance_id),
            node_type=self.name(f"{path}.node_type", node.node_type),
            status=_STATUS.get(node.status, NodeStatus.RUNNING),
            total=self.resources(f"{path}.total", node.total),
            available=self.resources(f"{path}.available", node.available),
            labels=tuple(sorted(node.labels.items())),
            dynamic_labels=tuple(sorted(node.dynamic_labels)),
            idle_s=self.seconds(f"{path}.idle", node.idle, MAX_DURATION_S),
            activity=tuple(node.activity),
            is_head=node.is_head,
            death=_DEATH.get(node.death.reason) if node.HasField("death") else None,
            death_detail=node.death.detail[:MAX_DETAIL],
            is_draining=node.HasField("draining"),
            draining_until=self.draining_until(f"{path}.draining.deadline", node.draining),
        )

    def draining_until(self, path: str, draining: pb.Draining) -> float | None:
        return self.seconds(path, draining.deadline, MAX_AT) if draining.HasField("deadline") else None

    def snapshot(self, snapshot: pb.Snapshot) -> Snapshot:
        constraint = None
        if snapshot.HasField("constraint"):
            constraint = Constraint(self.demands("snapshot.constraint.demands", snapshot.constraint.demands))
        return Snapshot(
            nodes=tuple(self.node(f"snapshot.nodes[{i}]", each) for i, each in enumerate(snapshot.nodes)),
            demands=self.demands("snapshot.demands", snapshot.demands),
            gangs=tuple(self.gang(f"snapshot.gangs[{i}]", each) for i, each in enumerate(snapshot.gangs)),
            constraint=constraint,
            live_jobs=self.natural("snapshot.live_jobs", snapshot.live_jobs),
            live_detached_actors=self.natural("snapshot.live_detached_actors", snapshot.live_detached_actors),
            live_job_ids=self.job_ids(snapshot),
            gcs_version=self.natural("snapshot.gcs_version", snapshot.gcs_version),
        )

    def job_ids(self, snapshot: pb.Snapshot) -> frozenset[str]:
        """All live jobs are named, each once, or none: half of them would end what the others asked for."""
        path, given = "snapshot.live_job_ids", snapshot.live_job_ids
        self.need(path, len(given) <= MAX_JOBS, f"{len(given)} are more than {MAX_JOBS}; leave them out then")
        named = frozenset(self.name(f"{path}[{index}]", each, required=True) for index, each in enumerate(given[:MAX_JOBS]))
        is_whole = not given or len(named) == len(given) == snapshot.live_jobs
        self.need(path, is_whole or len(given) > MAX_JOBS, f"must name each of the {snapshot.live_jobs} live jobs once, or none")
        return named

    def results(self, results: Iterable[pb.CommandResult]) -> tuple[CommandResult, ...]:
        found = []
        for index, each in enumerate(results):
            path = f"results[{index}]"
            self.need(f"{path}.outcome", each.outcome in _OUTCOME, "must be set")
            command_id = self.name(f"{path}.command_id", each.command_id, required=True)
            found.append(CommandResult(command_id, _OUTCOME.get(each.outcome, Outcome.FAILED), each.detail[:MAX_DETAIL]))
        return tuple(found)


def demand_report(request: pb.ReportDemandRequest) -> DemandReport:
    """Return the report in `request`; raises InvalidRequest with every problem."""
    read = _Reader()
    read.name("cluster", request.cluster, required=True)
    read.need("monitor_epoch", request.monitor_epoch > 0, "must be the monitor's start in milliseconds")
    read.need("sequence", request.sequence > 0, "must count from 1")
    age_s = read.seconds("age", request.age, MAX_DURATION_S)
    session = None
    if request.HasField("session"):
        name = read.name("session.session_name", request.session.session_name, required=True)
        session = Session(read.name("session.cluster_id", request.session.cluster_id, required=True), name)
    read.need("session", session is not None or bool(request.gcs_error), "is required unless gcs_error says why it is not known")
    is_contradiction = request.HasField("snapshot") and bool(request.gcs_error)
    read.need("snapshot", not is_contradiction, "cannot be there when gcs_error says that nothing could be read")
    report = DemandReport(
        cluster=request.cluster,
        session=session,
        monitor_epoch=request.monitor_epoch,
        sequence=request.sequence,
        age_s=age_s,
        snapshot=read.snapshot(request.snapshot) if request.HasField("snapshot") else None,
        base_sequence=read.natural("base_sequence", request.base_sequence),
        results=read.results(request.results),
        reported_state_version=read.natural("reported_state_version", request.reported_state_version),
        ray_version=request.ray_version,
        gcs_error=request.gcs_error[:MAX_DETAIL],
        head_incarnation=read.name("head_incarnation", request.head_incarnation),
        reported_config_hash=read.name("reported_config_hash", request.reported_config_hash),
        is_v1_mode=request.v1_mode,
    )
    if read.problems:
        raise InvalidRequest(*read.problems)
    return report
