"""What the cluster's task tells outward after a cycle: the GCS's AutoscalingState, and the status for people. Pure."""

from collections import Counter
from dataclasses import replace

from rayscaler.model.command import AutoscalingState, PendingInstance
from rayscaler.model.demand import Bundle, Gang, Snapshot
from rayscaler.model.instance import Instance, InstanceStatus
from rayscaler.model.plan import Plan
from rayscaler.model.status import ClusterStatus
from rayscaler.reconciler.memory import Memory
from rayscaler.reconciler.state import sight


def autoscaling_state(memory: Memory, last: AutoscalingState | None, now: float) -> AutoscalingState:
    """Return the state for the GCS; `last` itself when nothing in it has changed, else one with a higher version (WC-12.5).

    The version follows the wall clock in ms, so that it grows across restarts too; only demand that no node type can ever hold
    is called infeasible, for Ray may cancel what is (WC-12.4).
    """
    never = [each for each in memory.pending if each.is_never and not each.is_constraint]
    content = AutoscalingState(
        version=max(memory.state_version + 1, int(now * 1000)),
        gcs_version=(memory.snapshot or Snapshot()).gcs_version,
        requested=_pending(memory, InstanceStatus.REQUESTED),
        pending=_pending(memory, InstanceStatus.ALLOCATED),
        failed=tuple(memory.failed),
        infeasible=tuple(each.what for each in never if isinstance(each.what, Bundle)),
        infeasible_gangs=tuple(each.what for each in never if isinstance(each.what, Gang)),
    )
    if last is not None and replace(content, version=last.version, gcs_version=last.gcs_version) == last:
        return last
    return content


def _pending(memory: Memory, status: InstanceStatus) -> tuple[PendingInstance, ...]:
    requested = status is InstanceStatus.REQUESTED
    return tuple(
        PendingInstance("" if requested else each.instance_id, each.node_type, each.phase.value, each.requested_at)
        for each in sorted(memory.live(), key=lambda each: each.instance_id)
        if each.status is status
    )


def status(memory: Memory, blind_since: float | None, now: float) -> ClusterStatus:
    """Return the status for people, as of `now`."""
    no_launch, _ = sight(memory, now)
    return ClusterStatus(
        cluster=memory.config.name,
        session=memory.order.session,
        report_age_s=None if memory.fresh_at is None else now - memory.fresh_at,
        blind=no_launch,
        blind_since=blind_since if no_launch else None,
        cycle=memory.cycle,
        node_types=memory.config.node_types,
        instances=_instances(memory),
        backoffs=tuple(memory.backoffs.values()),
        pending=memory.pending,
        actions=tuple(memory.actions),
    )


def _instances(memory: Memory) -> tuple[Instance, ...]:
    """Return every instance; of one that works, the detail says what keeps its node busy, in Ray's words (C3, E4)."""
    busy = {row.instance_id: "; ".join(row.activity) for row in (memory.snapshot or Snapshot()).nodes if row.is_alive and row.activity}
    told = [
        replace(each, detail=f"busy: {busy[each.instance_id]}")
        if each.status is InstanceStatus.RUNNING and each.instance_id in busy
        else each
        for each in memory.instances.values()
    ]
    return tuple(sorted(told, key=lambda each: each.instance_id))


def summary(plan: Plan) -> dict[str, object]:
    """Return what a plan does, short enough for a log line."""
    launches = Counter((each.node_type, each.reason.value) for each in plan.launches)
    return {
        "launches": {f"{node_type} ({reason})": count for (node_type, reason), count in sorted(launches.items())},
        "drains": [each.instance_id for each in plan.drains],
        "terminations": [f"{each.instance_id} ({each.reason.value})" for each in plan.terminations],
    }
