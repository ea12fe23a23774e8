"""head.proto to the model: the only validation of what comes over the wire. Every problem is told at once."""

from collections.abc import Iterable

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.model.demand import CommandResult, DemandReport, Outcome, Session
from rayscaler.rules import MAX_DETAIL, Rules
from rayscaler.server import snapshot

_OUTCOME = {pb.OUTCOME_DONE: Outcome.DONE, pb.OUTCOME_REJECTED: Outcome.REJECTED, pb.OUTCOME_FAILED: Outcome.FAILED}


def demand_report(request: pb.ReportDemandRequest) -> DemandReport:
    """Return the report in `request`; raises InvalidRequest with every problem."""
    rules = Rules()
    rules.name("cluster", request.cluster, required=True)
    rules.need("monitor_epoch", request.monitor_epoch > 0, "must be the monitor's start in milliseconds")
    rules.need("sequence", request.sequence > 0, "must count from 1")
    age_s = rules.duration("age", request.age)
    session = None
    if request.HasField("session"):
        name = rules.name("session.session_name", request.session.session_name, required=True)
        session = Session(rules.name("session.cluster_id", request.session.cluster_id, required=True), name)
    rules.need("session", session is not None or bool(request.gcs_error), "is required unless gcs_error says why it is not known")
    is_contradiction = request.HasField("snapshot") and bool(request.gcs_error)
    rules.need("snapshot", not is_contradiction, "cannot be there when gcs_error says that nothing could be read")
    report = DemandReport(
        cluster=request.cluster,
        session=session,
        monitor_epoch=request.monitor_epoch,
        sequence=request.sequence,
        age_s=age_s,
        snapshot=snapshot.snapshot(rules, request.snapshot) if request.HasField("snapshot") else None,
        base_sequence=rules.natural("base_sequence", request.base_sequence),
        results=_results(rules, request.results),
        reported_state_version=rules.natural("reported_state_version", request.reported_state_version),
        ray_version=request.ray_version,
        gcs_error=request.gcs_error[:MAX_DETAIL],
        head_incarnation=rules.name("head_incarnation", request.head_incarnation),
        reported_config_hash=rules.name("reported_config_hash", request.reported_config_hash),
        is_v1_mode=request.v1_mode,
    )
    rules.check()
    return report


def _results(rules: Rules, results: Iterable[pb.CommandResult]) -> tuple[CommandResult, ...]:
    found = []
    for index, each in enumerate(results):
        path = f"results[{index}]"
        rules.need(f"{path}.outcome", each.outcome in _OUTCOME, "must be set")
        command_id = rules.name(f"{path}.command_id", each.command_id, required=True)
        found.append(CommandResult(command_id, _OUTCOME.get(each.outcome, Outcome.FAILED), each.detail[:MAX_DETAIL]))
    return tuple(found)
