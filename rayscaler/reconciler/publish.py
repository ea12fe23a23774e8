"""What the cluster's task tells outward after a cycle: the GCS's AutoscalingState, and the status for people. Pure."""

import hashlib
from collections import Counter
from dataclasses import replace

from rayscaler.model.command import AutoscalingState, Command, NodeGroup, PendingInstance, ReachableConfig
from rayscaler.model.demand import Bundle, Gang, Snapshot
from rayscaler.model.instance import Instance, InstanceStatus
from rayscaler.model.nodetype import UNLIMITED, ClusterConfig
from rayscaler.model.plan import Mix, Plan
from rayscaler.model.reasons import OUTDATED
from rayscaler.model.resources import Resources
from rayscaler.model.status import ClusterStatus, HoldStatus
from rayscaler.planner import limits
from rayscaler.reconciler import floor
from rayscaler.reconciler.memory import Memory
from rayscaler.reconciler.state import sight

V1_MODE = (
    "the head runs in Ray's v1 mode: request_resources() and `ray status` do not reach rayscaler; "
    "start it with RAY_enable_autoscaler_v2=1 in its environment"
)


def commands(memory: Memory) -> tuple[Command, ...]:
    """Return what the head has still to do."""
    others = (each for each in (memory.replay, memory.telling) if each is not None)
    return (*(each.command for each in memory.drains.values()), *memory.sizes.commands, *others)


def reachable(config: ClusterConfig) -> ReachableConfig:
    """Return what the cluster can become, for Ray's libraries. Too small a maximum makes Ray Train refuse a job, so each type counts in full, and grown."""
    most = limits.CEILING if config.max_workers == UNLIMITED else config.max_workers
    least, greatest = config.head.resources, config.head.resources
    groups = []
    for each in config.node_types:
        count = most if each.max_workers == UNLIMITED else min(each.max_workers, most)
        least = least.add(_times(each.resources, each.min_workers))
        most_of_one = each.resources if each.resize is None else each.resize.resources
        greatest = greatest.add(_times(most_of_one, count))
        groups.append(NodeGroup(each.name, most_of_one, each.min_workers, each.max_workers))
    content = repr(
        (least.items_sorted, greatest.items_sorted, [(g.name, g.resources.items_sorted, g.min_count, g.max_count) for g in groups])
    )
    return ReachableConfig(hashlib.sha256(content.encode()).hexdigest()[:16], least, greatest, tuple(groups))


def _times(resources: Resources, count: int) -> Resources:
    return Resources({name: amount * count for name, amount in resources.items_sorted})


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
        pending=_pending(memory, InstanceStatus.ALLOCATED, InstanceStatus.REJOINING),
        failed=tuple(memory.failed),
        infeasible=tuple(each.what for each in never if isinstance(each.what, Bundle)),
        infeasible_gangs=tuple(each.what for each in never if isinstance(each.what, Gang)),
    )
    if last is not None and replace(content, version=last.version, gcs_version=last.gcs_version) == last:
        return last
    return content


def _pending(memory: Memory, *statuses: InstanceStatus) -> tuple[PendingInstance, ...]:
    return tuple(
        PendingInstance(
            "" if each.status is InstanceStatus.REQUESTED else each.instance_id,
            each.node_type,
            _standing(each),
            each.requested_at,
        )
        for each in sorted(memory.live(), key=lambda each: each.instance_id)
        if each.status in statuses
    )


def _standing(instance: Instance) -> str:
    """Return where a launch stands in a word, and what holds it up."""
    if instance.status is InstanceStatus.REJOINING:
        return "rejoining"
    return instance.phase.value if instance.trouble is None else f"{instance.phase.value}: {instance.detail}"


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
        head_incarnation=memory.order.incarnation,
        ray_version=memory.ray_version,
        hold=_hold(memory, now),
        notices=_notices(memory),
        definition=memory.definition,
        mix=memory.mix,
        failures=dict(memory.troubles.failures),
    )


def _hold(memory: Memory, now: float) -> HoldStatus | None:
    targets = memory.held(now)
    if memory.hold is None or not targets:
        return None
    since = memory.hold.since
    return HoldStatus(since, max(since + memory.config.hold_of(name) for name, _ in targets), targets)


def _notices(memory: Memory) -> tuple[str, ...]:
    """Return what somebody should know: what Ray shows and nobody waits for, and what is wrong with the head."""
    snapshot = memory.snapshot or Snapshot()
    orphans = sum(each.is_orphaned for each in snapshot.gangs)
    tasks = 0 if snapshot.live_jobs or snapshot.live_detached_actors else sum(each.count for each in snapshot.demands)
    told = [
        (memory.executor_error, f"nothing is launched or ended: the executor: {_printable(memory.executor_error)}"),
        (memory.ungrouped, f"launches for placement groups wait: gangScheduling: {_printable(memory.ungrouped)}"),
        (memory.is_v1_mode, V1_MODE),
        (tasks, f"pending tasks and actors ({tasks}) are ignored: no job and no detached actor is alive to wait for them"),
        *_about_floor(memory),
        (memory.troubles.untold, f"the webhook could not be told: {_printable(memory.troubles.untold)}"),
        (orphans, f"pending placement groups ({orphans}) are ignored: their jobs have ended"),
    ]
    return (*_about_definition(memory), *(text for is_so, text in told if is_so))


def _printable(text: str) -> str:
    """Return others' words without what would break the lines of a table."""
    return "".join(each if each.isprintable() else " " for each in text)


def _about_floor(memory: Memory) -> list[tuple[bool, str]]:
    """Say of the floor that it ends, or has ended, though Ray still shows it."""
    owners, limit_s = memory.floor_owners, memory.config.floor_after_driver_s
    gone = floor.ended(memory.floor) if memory.floor is not None else ""
    return [
        (owners.is_over, f"{gone}: it is ignored, and {floor.afterlife(memory.replay)}"),
        (owners.unowned_s is not None and not owners.is_over, f"{gone}: it ends after {limit_s:g} s of that (floorAfterDriver)"),
    ]


def _about_definition(memory: Memory) -> list[str]:
    """Say what of an edit is not taken, and what it leaves to be done."""
    withheld = [f"nothing is launched or ended: {memory.withheld}"] if memory.withheld else []
    gone = Counter(each.node_type for each in memory.live() if memory.config.node_type(each.node_type) is None)
    left = [f"node type {name} is not defined any more: {count} left, each ends with its work" for name, count in sorted(gone.items())]
    return [*withheld, *memory.definition.notices, *left]


def _instances(memory: Memory) -> tuple[Instance, ...]:
    """Return every instance; of one that works, the detail says what keeps its node busy, in Ray's words (C3, E4); of an outdated one, that it is."""
    busy = {row.instance_id: "; ".join(row.activity) for row in (memory.snapshot or Snapshot()).nodes if row.is_alive and row.activity}
    told = []
    for each in memory.instances.values():
        is_running = each.status is InstanceStatus.RUNNING
        detail = f"busy: {busy[each.instance_id]}" if is_running and each.instance_id in busy else each.detail
        if each.ends_at is not None:
            detail = f"others end it: {each.ends_why}; {detail}"
        if each.growing is not None:
            detail = "; ".join(filter(None, (f"grows in place to {each.growing.resources}", detail)))
        if is_running and memory.config.is_outdated(each.made_as):
            detail = "; ".join(filter(None, (OUTDATED[memory.config.update_policy_of(each.node_type)], detail)))
        told.append(each if detail == each.detail else replace(each, detail=detail))
    return tuple(sorted(told, key=lambda each: each.instance_id))


def summary(plan: Plan, improvement: str = "") -> dict[str, object]:
    """Return what a plan does, short enough for a log line; `improvement` is how a wait for a cheaper mix went."""
    launches = Counter((each.node_type, each.reason.value) for each in plan.launches)
    return {
        "launches": {f"{node_type} ({reason})": count for (node_type, reason), count in sorted(launches.items())},
        **({"growths": [each.instance_id for each in plan.growths]} if plan.growths else {}),
        "drains": [each.instance_id for each in plan.drains],
        "terminations": [f"{each.instance_id} ({each.reason.value})" for each in plan.terminations],
        **_mix(plan.mix),
        **({"improvement": improvement} if improvement else {}),
    }


def _mix(mix: Mix | None) -> dict[str, object]:
    return {} if mix is None else {"cost": mix.cost, "bound": mix.bound, "gap": mix.gap, "steps": mix.steps}
