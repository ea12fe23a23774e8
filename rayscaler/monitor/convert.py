"""GCS messages to head proto and back: pure functions that own Ray's quirks of encoding, and know no channel and no clock."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from operator import attrgetter

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.api.head.v1 import head_pb2
from rayscaler.model.resources import UNIT, from_float
from rayscaler.monitor.gcs import GROUP_MARK, HEAD_RESOURCE, GcsReading

IDLE_TOLERANCE_S = 1.0
"""How much later an idle time may seem to have begun before it counts as begun anew: clocks of two machines and rounding."""

SYNTHETIC_WITHIN = re.compile(r"_group_(\d+_)?[0-9a-f]{36}\b")
SYNTHETIC = re.compile(rf".+{SYNTHETIC_WITHIN.pattern}")
"""Ray's resources of a placed group, `CPU_group_<id>` or `CPU_group_<index>_<id>`: 18 bytes of id, so that a user's own name passes."""

MAX_JOBS = 1000
"""More live jobs than this are not named (SPEC H58)."""

MAX_NAME = 512
CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029]")
"""The service refuses a report with a longer name, or with one of these in a name (SPEC section 8); Ray takes any from any driver."""

DETAILS = re.compile(r"(?P<id>[0-9a-f]+):(?P<strategy>[A-Z_]+)\|(?P<state>[A-Z]+)")
"""Form of a gang's `details`; the only place where PACK and SPREAD are told."""


def snapshot(reading: GcsReading) -> head_pb2.Snapshot:
    """Turn a reading into what the service takes, in an order that does not depend on the GCS's hash maps."""
    state = reading.state
    nodes = [_node(row, reading) for row in state.node_states]
    gangs = [gang for gang in map(_gang, state.pending_gang_resource_requests) if gang is not None]
    for gang in gangs:
        gang.orphaned = gang.gang_id in reading.orphaned_gangs
    result = head_pb2.Snapshot(
        nodes=sorted(nodes, key=attrgetter("ray_node_id")),
        demands=_demands((each.request, each.count) for each in state.pending_resource_requests),
        gangs=sorted(gangs, key=attrgetter("gang_id")),
        live_jobs=reading.live_jobs,
        live_detached_actors=reading.live_detached_actors,
        live_job_ids=sorted(reading.live_job_ids) if len(reading.live_job_ids) <= MAX_JOBS else (),
        gcs_version=state.cluster_resource_state_version,
    )
    if state.cluster_resource_constraints:
        wanted = [each for constraint in state.cluster_resource_constraints for each in constraint.resource_requests]
        result.constraint.SetInParent()
        result.constraint.demands.extend(_demands((each.request, each.count) for each in wanted))
    return result


@dataclass(frozen=True)
class Look:
    """What of a snapshot tells a change: its bytes without what differs on every read, and since when nodes are idle."""

    content: bytes
    idle_since: Mapping[str, float]


def look(taken: head_pb2.Snapshot, read_at: float) -> Look:
    """Return what tells whether another snapshot is a change; `read_at` is in seconds of any one clock."""
    still = head_pb2.Snapshot()
    still.CopyFrom(taken)
    still.gcs_version = 0
    idle_since = {}
    for node in still.nodes:
        if node.status == head_pb2.NODE_STATUS_IDLE:
            idle_since[node.ray_node_id] = read_at - seconds(node.idle)
        node.ClearField("idle")
    return Look(hashlib.blake2b(still.SerializeToString(deterministic=True)).digest(), idle_since)


def is_change(old: Look, new: Look) -> bool:
    """Whether something changed but for the GCS's counter and the running on of idle times.

    An idle time that began anew is a change: something ran on that node in between.
    """
    return old.content != new.content or any(
        since > old.idle_since[ray_node_id] + IDLE_TOLERANCE_S for ray_node_id, since in new.idle_since.items()
    )


def autoscaling_state(state: head_pb2.AutoscalingState) -> gcs_pb2.AutoscalingState:
    """Turn the service's state into Ray's: one entry per instance, since `ray status` counts entries, and never an empty text."""
    return gcs_pb2.AutoscalingState(
        last_seen_cluster_resource_state_version=state.gcs_version,
        autoscaler_state_version=state.version,
        pending_instance_requests=[
            gcs_pb2.PendingInstanceRequest(
                instance_type_name=each.node_type, ray_node_type_name=each.node_type, count=1, request_ts=each.since.seconds
            )
            for each in state.requested
        ],
        pending_instances=[
            gcs_pb2.PendingInstance(
                instance_type_name=each.node_type,
                ray_node_type_name=each.node_type,
                instance_id=each.instance_id,
                details=each.detail or "pending",
            )
            for each in state.pending
        ],
        failed_instance_requests=[
            gcs_pb2.FailedInstanceRequest(
                instance_type_name=each.node_type,
                ray_node_type_name=each.node_type,
                count=1,
                reason=each.detail or "launch failed",
                start_ts=each.requested_at.seconds,
                failed_ts=each.failed_at.seconds,
            )
            for each in state.failed
        ],
        infeasible_resource_requests=[_request(bundle) for bundle in state.infeasible if _may_be_cancelled(bundle)],
        infeasible_gang_resource_requests=[
            _gang_request(gang) for gang in state.infeasible_gangs if not any(_names_a_group(each.bundle) for each in gang.bundles)
        ],
    )


def cluster_config(config: head_pb2.ClusterConfig) -> gcs_pb2.ClusterConfig:
    """Turn the service's config into Ray's, in whole units: rounded up, since Ray Train refuses a job for a resource that is too small."""
    return gcs_pb2.ClusterConfig(
        min_resources=_whole(config.min_resources),
        max_resources=_whole(config.max_resources),
        node_group_configs=[
            gcs_pb2.NodeGroupConfig(
                name=each.name,
                resources=_whole(each.resources),
                min_count=max(0, each.min_count),
                max_count=each.max_count,
            )
            for each in config.node_groups
        ],
    )


def cluster_constraint(constraint: head_pb2.Constraint) -> gcs_pb2.ClusterResourceConstraint:
    """Turn a constraint into what request_resources() would send."""
    wanted = [gcs_pb2.ResourceRequestByCount(request=_request(each.bundle), count=each.count) for each in constraint.demands]
    return gcs_pb2.ClusterResourceConstraint(resource_requests=wanted)


def drain_reason(reason: head_pb2.DrainReason) -> gcs_pb2.DrainNodeReason:
    """Turn the service's reason into Ray's; what is neither stays unset, which the door refuses."""
    return _DRAIN_REASONS.get(reason, gcs_pb2.DRAIN_NODE_REASON_UNSPECIFIED)


def seconds(value: Duration | Timestamp) -> float:
    """Return a Duration's or Timestamp's seconds."""
    return value.seconds + value.nanos / 1e9


def duration(value_s: float) -> Duration:
    """Make a Duration of seconds."""
    whole, nanos = divmod(round(value_s * 1e9), 10**9)
    return Duration(seconds=whole, nanos=nanos)


def _node(row: gcs_pb2.NodeState, reading: GcsReading) -> head_pb2.Node:
    ray_node_id = row.node_id.hex()
    is_dead = row.status == gcs_pb2.NODE_STATUS_DEAD
    is_idle = row.status == gcs_pb2.NODE_STATUS_IDLE
    node = head_pb2.Node(
        ray_node_id=ray_node_id,
        instance_id=row.instance_id,
        node_type=row.ray_node_type_name,
        status=_NODE_STATUSES.get(row.status, head_pb2.NODE_STATUS_RUNNING),  # a status yet unknown is not idle and not dead
        total=_own_amounts(row.total_resources),
        available=_own_amounts(row.available_resources),
        labels=row.labels,
        dynamic_labels=row.dynamic_labels,
        idle=duration(row.idle_duration_ms / 1000),
        activity=() if is_idle or is_dead else _activity(row),  # Ray leaves old texts standing on idle nodes
        is_head=HEAD_RESOURCE in row.total_resources,
    )
    info = reading.ended.get(ray_node_id)
    if is_dead and info is not None:
        node.is_head = info.is_head_node
        node.death.reason = _DEATH_REASONS.get(info.death_info.reason, head_pb2.DEATH_REASON_UNSPECIFIED)
        node.death.detail = info.death_info.reason_message
    if not is_dead and (ray_node_id in reading.draining or row.status == gcs_pb2.NODE_STATUS_DRAINING):
        node.draining.SetInParent()
        deadline_ms = reading.draining.get(ray_node_id, 0)
        if deadline_ms > 0:
            node.draining.deadline.FromMilliseconds(deadline_ms)
    return node


def _activity(row: gcs_pb2.NodeState) -> list[str]:
    return sorted(text for text in row.node_activity if not SYNTHETIC_WITHIN.search(text))


def _amounts(resources: Mapping[str, float]) -> dict[str, int]:
    units = ((name, from_float(amount)) for name, amount in resources.items())
    return {name: amount for name, amount in units if amount > 0}


def _whole(amounts: Mapping[str, int]) -> dict[str, int]:
    """Whole units of amounts, rounded up; of memory these are bytes."""
    return {name: -(-amount // UNIT) for name, amount in amounts.items() if amount > 0}


def _is_synthetic(name: str) -> bool:
    return GROUP_MARK in name and SYNTHETIC.fullmatch(name) is not None


def _own_amounts(resources: Mapping[str, float]) -> dict[str, int]:
    """Amounts of a node without what Ray cut out of them for placed groups."""
    return {name: amount for name, amount in _amounts(resources).items() if not _is_synthetic(name) and _is_sayable(name)}


def _is_sayable(name: str) -> bool:
    """Whether a resource may stand in a report: for one driver's odd name the service must not lose sight of the whole cluster."""
    return 0 < len(name) <= MAX_NAME and CONTROL.search(name) is None


def _bundle(request: gcs_pb2.ResourceRequest) -> head_pb2.Bundle:
    selectors = [_selector(each) for each in request.label_selectors]
    if len(selectors) == 1 and not selectors[0].conditions:
        selectors = []  # Ray's way to say that there is no wish
    return head_pb2.Bundle(resources=_amounts(request.resources_bundle), label_selectors=selectors)


def _selector(selector: gcs_pb2.LabelSelector) -> head_pb2.LabelSelector:
    return head_pb2.LabelSelector(conditions=[_condition(each) for each in selector.label_constraints])


def _condition(constraint: gcs_pb2.LabelSelectorConstraint) -> head_pb2.LabelCondition:
    operator = _OPERATORS.get(constraint.operator)
    if operator is None:
        # An operator that a newer Ray has: nothing is launched on a guess, the condition holds nowhere.
        return head_pb2.LabelCondition(key=constraint.label_key, operator=head_pb2.LABEL_OPERATOR_IN)
    return head_pb2.LabelCondition(key=constraint.label_key, operator=operator, values=constraint.label_values)


def _demands(requests: Iterable[tuple[gcs_pb2.ResourceRequest, int]]) -> list[head_pb2.Demand]:
    """Equal bundles as one demand, in the order of their bytes. Tasks inside a placed group are left out: the group is the demand."""
    counts: Counter[bytes] = Counter()
    for request, count in requests:
        if count > 0 and not any(_is_synthetic(name) or not _is_sayable(name) for name in request.resources_bundle):
            counts[_bundle(request).SerializeToString(deterministic=True)] += count
    return [head_pb2.Demand(bundle=head_pb2.Bundle.FromString(key), count=counts[key]) for key in sorted(counts)]


def _gang(request: gcs_pb2.GangResourceRequest) -> head_pb2.Gang | None:
    """One gang, or None for the empty entries that Ray shows of groups in transition, and for one that cannot be told whole."""
    requests = request.bundle_selectors[0].resource_requests if request.bundle_selectors else request.requests
    bundles = _demands((each, 1) for each in requests)
    if not bundles or not all(_is_sayable(name) for each in requests for name in each.resources_bundle):
        return None
    details = DETAILS.fullmatch(request.details)
    strategy = _STRATEGIES.get(details["strategy"]) if details else None
    return head_pb2.Gang(
        gang_id=details["id"] if details else request.details or "unnamed",
        strategy=strategy or _strategy_of_constraints(requests[0]),
        bundles=bundles,
        rescheduling=details is not None and details["state"] == "RESCHEDULING",
    )


def _strategy_of_constraints(request: gcs_pb2.ResourceRequest) -> head_pb2.Strategy:
    """Tell from the constraints, where `details` has a form or a word that is not known here."""
    if any(each.HasField("affinity") for each in request.placement_constraints):
        return head_pb2.STRATEGY_STRICT_PACK
    if any(each.HasField("anti_affinity") for each in request.placement_constraints):
        return head_pb2.STRATEGY_STRICT_SPREAD
    return head_pb2.STRATEGY_PACK


def _may_be_cancelled(bundle: head_pb2.Bundle) -> bool:
    """Whether Ray's early exit, which cancels by amounts alone and ignores labels, would hit only what can never run."""
    return not bundle.label_selectors and not _names_a_group(bundle)


def _names_a_group(bundle: head_pb2.Bundle) -> bool:
    return any(GROUP_MARK in name for name in bundle.resources)


def _request(bundle: head_pb2.Bundle) -> gcs_pb2.ResourceRequest:
    return gcs_pb2.ResourceRequest(
        resources_bundle={name: amount / UNIT for name, amount in bundle.resources.items()},
        label_selectors=[
            gcs_pb2.LabelSelector(
                label_constraints=[
                    gcs_pb2.LabelSelectorConstraint(label_key=each.key, operator=each.operator, label_values=each.values)
                    for each in selector.conditions
                ]
            )
            for selector in bundle.label_selectors
        ],
    )


def _gang_request(gang: head_pb2.Gang) -> gcs_pb2.GangResourceRequest:
    bundles = [_request(each.bundle) for each in gang.bundles for _ in range(each.count)]
    strategy = head_pb2.Strategy.Name(gang.strategy).removeprefix("STRATEGY_")
    return gcs_pb2.GangResourceRequest(
        requests=bundles,
        details=f"{gang.gang_id}:{strategy}|{'RESCHEDULING' if gang.rescheduling else 'PENDING'}",
        bundle_selectors=[gcs_pb2.BundleSelector(resource_requests=bundles)],
    )


_NODE_STATUSES = {
    gcs_pb2.NODE_STATUS_RUNNING: head_pb2.NODE_STATUS_RUNNING,
    gcs_pb2.NODE_STATUS_DEAD: head_pb2.NODE_STATUS_DEAD,
    gcs_pb2.NODE_STATUS_IDLE: head_pb2.NODE_STATUS_IDLE,
    gcs_pb2.NODE_STATUS_DRAINING: head_pb2.NODE_STATUS_DRAINING,
}

_DEATH_REASONS = {
    1: head_pb2.DEATH_REASON_EXPECTED,
    2: head_pb2.DEATH_REASON_UNEXPECTED,
    3: head_pb2.DEATH_REASON_DRAINED_PREEMPTED,
    4: head_pb2.DEATH_REASON_DRAINED_IDLE,
}

_DRAIN_REASONS = {
    head_pb2.DRAIN_REASON_IDLE: gcs_pb2.DRAIN_NODE_REASON_IDLE_TERMINATION,
    head_pb2.DRAIN_REASON_PREEMPTION: gcs_pb2.DRAIN_NODE_REASON_PREEMPTION,
}

_OPERATORS = {1: head_pb2.LABEL_OPERATOR_IN, 2: head_pb2.LABEL_OPERATOR_NOT_IN}

_STRATEGIES = {
    "PACK": head_pb2.STRATEGY_PACK,
    "SPREAD": head_pb2.STRATEGY_SPREAD,
    "STRICT_PACK": head_pb2.STRATEGY_STRICT_PACK,
    "STRICT_SPREAD": head_pb2.STRATEGY_STRICT_SPREAD,
}
