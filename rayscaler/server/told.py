"""The model to Ray's own messages: what the monitor passes on to the GCS (SPEC section 14)."""

import json
from collections.abc import Mapping

from rayscaler.api.gcs.v1 import gcs_pb2 as ray
from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.model.command import AutoscalingState, DrainCommand, ReachableConfig, ResizeCommand, TellCommand
from rayscaler.model.demand import Bundle, Constraint, Gang, Operator
from rayscaler.model.raynames import GROUP_MARK
from rayscaler.model.resources import UNIT

AUTOSCALER = "autoscaler"
"""The `pid` by which drivers know events, from whichever process they come."""
V1_EVENT = ":event_summary:"
"""Before an event for drivers in Ray's v1 mode; in v2 mode it is JSON of Ray's Event."""
MOST = (1 << 63) - 1
"""The largest amount that is told, in units: 10,000 nodes of 92 GiB of memory each go beyond it."""
_OPERATOR = {Operator.IN: 1, Operator.NOT_IN: 2}


def autoscaling_state(state: AutoscalingState) -> ray.AutoscalingState:
    """Return the state: one entry per instance, since `ray status` counts entries, and never an empty text."""
    return ray.AutoscalingState(
        last_seen_cluster_resource_state_version=state.gcs_version,
        autoscaler_state_version=state.version,
        pending_instance_requests=[
            ray.PendingInstanceRequest(
                instance_type_name=each.node_type, ray_node_type_name=each.node_type, count=1, request_ts=int(each.since)
            )
            for each in state.requested
        ],
        pending_instances=[
            ray.PendingInstance(
                instance_type_name=each.node_type,
                ray_node_type_name=each.node_type,
                instance_id=each.instance_id,
                details=each.detail or "starting",
            )
            for each in state.pending
        ],
        failed_instance_requests=[
            ray.FailedInstanceRequest(
                instance_type_name=each.node_type,
                ray_node_type_name=each.node_type,
                count=1,
                reason=each.detail or "launch failed",
                start_ts=int(each.requested_at),
                failed_ts=int(each.failed_at),
            )
            for each in state.failed
        ],
        infeasible_resource_requests=[_request(bundle) for bundle in state.infeasible if _may_be_cancelled(bundle)],
        infeasible_gang_resource_requests=[
            _gang(gang)
            for gang in state.infeasible_gangs
            if gang.locality is None and not any(_names_a_group(each.bundle) for each in gang.bundles)
        ],
    )


def cluster_config(config: ReachableConfig) -> pb.ClusterConfig:
    """Return the config in whole units: rounded up, since Ray Train refuses a job for a resource that is too small."""
    told = ray.ClusterConfig(
        min_resources=_whole(config.min_resources),
        max_resources=_whole(config.max_resources),
        node_group_configs=[
            ray.NodeGroupConfig(
                name=each.name, resources=_whole(each.resources), min_count=max(0, each.min_count), max_count=each.max_count
            )
            for each in config.groups
        ],
    )
    return pb.ClusterConfig(hash=config.content_hash, config=told)


def constraint(constraint: Constraint) -> ray.ClusterResourceConstraint:
    """Return what request_resources() would send."""
    wanted = [ray.ResourceRequestByCount(request=_request(each.bundle), count=each.count) for each in constraint.demands]
    return ray.ClusterResourceConstraint(resource_requests=wanted)


def drain(command: DrainCommand) -> ray.DrainNodeRequest:
    """Return the request: Ray takes a deadline with a preemption only."""
    is_timed = command.is_preemption and command.deadline_at is not None
    return ray.DrainNodeRequest(
        node_id=bytes.fromhex(command.ray_node_id),
        reason=ray.DRAIN_NODE_REASON_PREEMPTION if command.is_preemption else ray.DRAIN_NODE_REASON_IDLE_TERMINATION,
        reason_message=command.detail,
        deadline_timestamp_ms=int((command.deadline_at or 0) * 1000) if is_timed else 0,
    )


def resize(command: ResizeCommand) -> ray.ResizeRayletResourceInstancesRequest:
    """Return the request: what is not named in it stays as it is."""
    amounts = {name: amount / UNIT for name, amount in command.resources.items_sorted}
    return ray.ResizeRayletResourceInstancesRequest(node_id=bytes.fromhex(command.ray_node_id), resources=amounts)


def events(command: TellCommand, head_ip: str, *, is_v1_mode: bool) -> ray.LogBatch:
    """Return the events of the head's node, in the form that drivers read in its mode."""
    return ray.LogBatch(ip=head_ip, pid=AUTOSCALER, lines=[_event(each, is_v1_mode=is_v1_mode) for each in command.lines])


def _event(text: str, *, is_v1_mode: bool) -> str:
    plain = " ".join(text.split())  # a line is one line, whatever a resource is called
    return V1_EVENT + plain if is_v1_mode else json.dumps({"sourceType": "AUTOSCALER", "severity": "WARNING", "message": plain})


def _whole(amounts: Mapping[str, int]) -> dict[str, int]:
    """Whole units of amounts; of memory these are bytes."""
    return {name: -(-min(amount, MOST) // UNIT) for name, amount in amounts.items() if amount > 0}


def _may_be_cancelled(bundle: Bundle) -> bool:
    """Whether Ray's early exit, which cancels by amounts alone and ignores labels, would hit only what can never run."""
    return not bundle.selectors and not _names_a_group(bundle)


def _names_a_group(bundle: Bundle) -> bool:
    return any(GROUP_MARK in name for name in bundle.resources)


def _request(bundle: Bundle) -> ray.ResourceRequest:
    selectors = [
        ray.LabelSelector(
            label_constraints=[
                ray.LabelSelectorConstraint(label_key=each.key, operator=_OPERATOR[each.operator], label_values=each.values)
                for each in selector.conditions
            ]
        )
        for selector in bundle.selectors
    ]
    return ray.ResourceRequest(
        resources_bundle={name: amount / UNIT for name, amount in bundle.resources.items()}, label_selectors=selectors
    )


def _gang(gang: Gang) -> ray.GangResourceRequest:
    bundles = [_request(each.bundle) for each in gang.bundles for _ in range(each.count)]
    return ray.GangResourceRequest(
        requests=bundles,
        details=f"{gang.gang_id}:{gang.strategy.value}|{'RESCHEDULING' if gang.is_rescheduling else 'PENDING'}",
        bundle_selectors=[ray.BundleSelector(resource_requests=bundles)],
    )
