"""The model to head.proto: answers and status."""

from collections import Counter

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.model.command import Command, ReplayCommand, ReportAnswer, ResizeCommand, TellCommand
from rayscaler.model.demand import Bundle, Operator
from rayscaler.model.explanation import MixExplanation
from rayscaler.model.instance import Instance
from rayscaler.model.nodetype import NodeType
from rayscaler.model.state import Backoff
from rayscaler.model.status import ClusterStatus, DefinitionStatus, HoldStatus
from rayscaler.server import told

_OPERATOR = {Operator.IN: pb.LABEL_OPERATOR_IN, Operator.NOT_IN: pb.LABEL_OPERATOR_NOT_IN}


def timestamp(at: float) -> Timestamp:
    """Return wall seconds as a Timestamp."""
    out = Timestamp()
    out.FromNanoseconds(int(at * 1e9))
    return out


def duration(seconds: float) -> Duration:
    """Return seconds as a Duration."""
    out = Duration()
    out.FromNanoseconds(int(seconds * 1e9))
    return out


def report_answer(answer: ReportAnswer, *, is_v1_mode: bool = False) -> pb.ReportDemandResponse:
    """Return the answer to a report of a head in that mode."""
    state = answer.autoscaling_state
    return pb.ReportDemandResponse(
        commands=[_command(each, answer.head_ip, is_v1_mode=is_v1_mode) for each in answer.commands],
        acknowledged=answer.acknowledged,
        autoscaling_state=None if state is None else told.autoscaling_state(state),
        next_interval=duration(answer.next_interval_s),
        want_snapshot=answer.wants_snapshot,
        cluster_config=None if answer.cluster_config is None else told.cluster_config(answer.cluster_config),
        driver_notice=answer.driver_notice,
    )


def _command(command: Command, head_ip: str, *, is_v1_mode: bool) -> pb.Command:
    if isinstance(command, TellCommand):
        return pb.Command(command_id=command.command_id, tell_drivers=told.events(command, head_ip, is_v1_mode=is_v1_mode))
    if isinstance(command, ReplayCommand):
        replaces = None if command.replaces is None else told.constraint(command.replaces)
        replay = pb.ReplayConstraint(constraint=told.constraint(command.constraint), replaces=replaces)
        return pb.Command(command_id=command.command_id, replay_constraint=replay)
    if isinstance(command, ResizeCommand):
        return pb.Command(command_id=command.command_id, resize_node=told.resize(command))
    return pb.Command(command_id=command.command_id, drain_node=told.drain(command))


def bundle(bundle: Bundle) -> pb.Bundle:
    """Return a bundle."""
    selectors = [
        pb.LabelSelector(
            conditions=[pb.LabelCondition(key=c.key, operator=_OPERATOR[c.operator], values=c.values) for c in each.conditions]
        )
        for each in bundle.selectors
    ]
    return pb.Bundle(resources=dict(bundle.resources), label_selectors=selectors)


def cluster_status(status: ClusterStatus) -> pb.ClusterStatus:
    """Return one cluster's status."""
    backoffs = {each.node_type: each for each in status.backoffs}
    return pb.ClusterStatus(
        cluster=status.cluster,
        session=None
        if status.session is None
        else pb.Session(cluster_id=status.session.cluster_id, session_name=status.session.session_name),
        report_age=None if status.report_age_s is None else duration(status.report_age_s),
        blind="" if status.blind is None else status.blind.value,
        blind_since=None if status.blind_since is None else timestamp(status.blind_since),
        cycle=status.cycle,
        node_types=[_node_type(each, status, backoffs.get(each.name)) for each in status.node_types],
        instances=[_instance(each) for each in status.instances],
        pending=[
            pb.PendingStatus(shape=str(each.what), count=each.count, reason=each.reason.value, detail=each.detail)
            for each in status.pending
        ],
        actions=[
            pb.Action(
                at=timestamp(each.at),
                kind=each.kind,
                instance_id=each.instance_id,
                node_type=each.node_type,
                reason=each.reason.value,
                detail=each.detail,
                cycle=each.cycle,
            )
            for each in status.actions
        ],
        head_incarnation=status.head_incarnation,
        hold=None if status.hold is None else _hold(status.hold),
        notices=status.notices,
        ray_version=status.ray_version,
        definition=definition_status(status.definition),
        mix=None if status.mix is None else mix(status.mix),
    )


def mix(explained: MixExplanation) -> pb.MixExplanation:
    """Return how good the last launches on demand were."""
    found = explained.mix
    return pb.MixExplanation(
        at=timestamp(explained.at),
        cost=found.cost,
        bound=found.bound,
        gap=found.gap,
        steps=found.steps,
        improvement=explained.improvement,
        binds=found.binds,
    )


def definition_status(definition: DefinitionStatus) -> pb.DefinitionStatus:
    """Return which definition is in force."""
    return pb.DefinitionStatus(
        hash=definition.content_hash,
        taken_at=timestamp(definition.taken_at),
        problems=definition.problems,
        warnings=definition.warnings,
    )


def _hold(hold: HoldStatus) -> pb.Hold:
    return pb.Hold(since=timestamp(hold.since), until=timestamp(hold.until), targets=dict(hold.targets))


def _node_type(node_type: NodeType, status: ClusterStatus, backoff: Backoff | None) -> pb.NodeTypeStatus:
    return pb.NodeTypeStatus(
        name=node_type.name,
        min_workers=node_type.min_workers,
        max_workers=node_type.max_workers,
        instances=Counter(each.status.value for each in status.instances if each.node_type == node_type.name),
        backoff_detail="" if backoff is None else backoff.detail,
        backoff_until=None if backoff is None else timestamp(backoff.until),
        failures={cause: count for (name, cause), count in status.failures.items() if name == node_type.name},
    )


def _instance(instance: Instance) -> pb.InstanceStatus:
    return pb.InstanceStatus(
        instance_id=instance.instance_id,
        external_id=instance.external_id,
        ray_node_id=instance.ray_node_id,
        node_type=instance.node_type,
        status=instance.status.value,
        since=timestamp(instance.since),
        reason=instance.reason.value,
        detail=instance.detail,
    )
