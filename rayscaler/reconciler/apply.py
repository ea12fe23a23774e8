"""apply(): a plan becomes acts. First the record, then memory, then the calls: a crash between any two loses and doubles nothing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from rayscaler.executor.base import LaunchSpec
from rayscaler.lifecycle.deadlines import overdue, stuck
from rayscaler.model.command import AskedDrain, DrainCommand
from rayscaler.model.demand import Snapshot
from rayscaler.model.instance import Instance, InstanceStatus, Reason, Trouble
from rayscaler.model.node import NodeStatus
from rayscaler.model.plan import Drain, Plan
from rayscaler.model.replicas import places
from rayscaler.model.state import Expectation
from rayscaler.reconciler import begun, floor, groups, growing, misfit, stayed, unfinished, writing
from rayscaler.reconciler.calls import Calls
from rayscaler.reconciler.memory import Memory
from rayscaler.reconciler.state import deadlines, seen_at, sight
from rayscaler.store.base import ClusterRecord, Store

VERSIONS_AHEAD = 600_000
"""Reserved at once: ten minutes, for versions follow the wall clock in ms."""


async def apply(plan: Plan, memory: Memory, *, store: Store, calls: Calls, head_address: str, now: float) -> None:
    """Carry out a plan, and the ends that are due. Raises Unavailable or Fenced, having done nothing, when the record cannot be written."""
    _follow_troubles(plan, memory, now)
    batch = memory.record.batch + 1 if plan.launches else memory.record.batch
    drains = [_asked(each, now) for each in plan.drains]
    record = _record(plan, drains, memory, batch, now)
    guards = bool(plan.launches or plan.growths or drains or plan.terminations or memory.ends_due or growing.due(memory, now))
    await writing.write(record, memory, store, guards=guards, now=now)
    _launch(plan, batch, memory, calls=calls, head_address=head_address, now=now)
    growing.begin(plan.growths, memory, now)
    growing.ask(memory, calls, now)
    for drain in drains:
        memory.ask_drain(drain, now)
    for termination in plan.terminations:
        memory.ask_end(termination.instance_id, termination.reason, termination.detail, now)
    for instance_id in memory.ends_due:
        calls.terminate(instance_id)
    memory.ends_due.clear()
    no_launch, _ = sight(memory, now)
    calls.group(groups.wanted(memory.config, memory.live(), plan.infeasible if no_launch is None else None))
    memory.unneeded_since = {each: memory.unneeded_since.get(each, now) for each in plan.unneeded}
    names = {each.ray_node_id: each.instance_id for each in memory.live() if each.ray_node_id}
    snapshot = memory.snapshot or Snapshot()
    seen, units = seen_at(memory, now), memory.config.device_names
    memory.guesses = misfit.follow(memory.guesses, plan, snapshot, names, seen, units=units)
    memory.places = stayed.follow(memory.places, plan, snapshot, names, seen, units=units)


def _record(plan: Plan, drains: Sequence[AskedDrain], memory: Memory, batch: int, now: float) -> ClusterRecord:
    """Return the record as it must be before the plan is carried out."""
    no_launch, _ = sight(memory, now)
    return replace(
        memory.record,
        session=memory.order.session,
        retired=memory.order.retired,
        incarnation=memory.order.incarnation,
        retired_incarnations=memory.order.retired_incarnations,
        batch=batch,
        open_batches=unfinished.opened(memory, plan, batch),
        state_version=_reserved_version(memory, now),
        floor=memory.floor,
        floor_until=memory.floor_until,
        floor_owners=floor.kept(memory.floor_owners, memory.config.floor_after_driver_s),
        targets=_targets(plan, memory) if no_launch is None else memory.record.targets,
        hold=memory.hold,
        drains=(*memory.drains.values(), *drains),
        backoffs=tuple(sorted(memory.backoffs.values(), key=lambda each: each.node_type)),
        troubles=memory.troubles.kept,
        begun=begun.after(memory.record.begun, memory.config, [each.node_type for each in plan.launches], now),
    )


def _follow_troubles(plan: Plan, memory: Memory, now: float) -> None:
    """Note what has become of node types in trouble. Without clear sight nothing is: that none is launched then says nothing."""
    _, no_end = sight(memory, now)
    if no_end is None:
        launches = {each.node_type for each in plan.launches}
        memory.troubles.follow(memory.backoffs, tuple(memory.live()), launches, now, over_s=memory.timings.trouble_over_s)


def _targets(plan: Plan, memory: Memory) -> tuple[tuple[str, int], ...]:
    """Return instances per node type as they are to be after the plan. Blind, those of the last good report stay instead."""
    targets = Counter(each.node_type for each in memory.live() if each.status not in (InstanceStatus.DRAINING, InstanceStatus.TERMINATING))
    targets.update(each.node_type for each in plan.launches)
    gone = {each.instance_id for each in plan.drains} | {each.instance_id for each in plan.terminations}
    targets.subtract(each.node_type for each in memory.live() if each.instance_id in gone and not _is_leaving(each))
    return tuple(sorted((name, count) for name, count in targets.items() if count > 0))


def _reserved_version(memory: Memory, now: float) -> int:
    """Return a version above all that are told until the next write, so that they grow across restarts, whatever the clock does then."""
    newest = max(memory.state_version, int(now * 1000))
    reserved = memory.record.state_version
    return reserved if newest + VERSIONS_AHEAD // 2 < reserved else newest + VERSIONS_AHEAD


def _is_leaving(instance: Instance) -> bool:
    return instance.status in (InstanceStatus.DRAINING, InstanceStatus.TERMINATING)


def _launch(plan: Plan, batch: int, memory: Memory, *, calls: Calls, head_address: str, now: float) -> None:
    limits = deadlines(memory)
    named = [
        unfinished.host_of(memory.config, launch.node_type, batch, place)
        for place, launch in zip(places(plan.launches, memory.config), plan.launches, strict=True)
    ]
    joining = groups.joining(plan, [replica for _, replica, _ in named], memory.instances)
    memberships = groups.memberships(joining, memory.config, batch, list(memory.live()))
    for (instance_id, replica, host), launch, membership in zip(named, plan.launches, memberships, strict=True):
        node_type = memory.config.node_type(launch.node_type)
        if node_type is None:
            raise KeyError(launch.node_type)
        instance = Instance(
            instance_id=instance_id,
            node_type=launch.node_type,
            status=InstanceStatus.REQUESTED,
            since=now,
            requested_at=now,
            phase_since=now,
            reason=launch.reason,
            detail=launch.detail,
            made_as=node_type,
            replica=replica,
            host=host,
            membership=membership,
        )
        until = now + limits.unscheduled_s
        memory.request(instance, Expectation(instance_id, launch.node_type, until, launch.reserves, launch.gangs))
        calls.launch(LaunchSpec(memory.config.name, instance_id, node_type, head_address, replica, host, membership))


def _asked(drain: Drain, now: float) -> AskedDrain:
    # The id names node and moment, so that a later drain of the same node is another command, also after a restart.
    command_id = f"drain-{drain.ray_node_id}-{int(now * 1000)}"
    deadline_at = None if drain.deadline_s is None else now + drain.deadline_s
    command = DrainCommand(command_id, drain.ray_node_id, drain.is_preemption, drain.detail, deadline_at)
    return AskedDrain(drain.instance_id, drain.reason, command)


def end_overdue(memory: Memory, now: float) -> None:
    """Act on outlasted deadlines: launches are cancelled, drains given up, ends asked again. Before planning, so that it counts.

    Ends are noted here and sent by `apply`, after the record is written.

    Without clear sight only ends are asked again: a launch that nobody saw join may have joined long ago, and be busy (C1).
    """
    limits = deadlines(memory)
    _, no_end = sight(memory, now)
    draining = {row.ray_node_id for row in (memory.snapshot or Snapshot()).nodes if row.is_draining or row.status is NodeStatus.DRAINING}
    for instance in overdue(memory.live(), limits, now):
        waited = f"{instance.phase.value} for {now - max(instance.phase_since, instance.since):.0f} s"
        why = "" if instance.trouble is None else f" ({instance.detail})"
        if instance.status is InstanceStatus.TERMINATING:
            memory.ask_end(instance.instance_id, instance.reason, instance.detail, now)
        elif no_end is not None:
            continue
        elif instance.status is InstanceStatus.DRAINING and instance.ends_at is not None:
            text = f"{instance.ends_why}; its time is up"  # Ray does not end a node that is busy at its deadline
            memory.ask_end(instance.instance_id, Reason.PREEMPTED, text, now)
        elif instance.status is InstanceStatus.DRAINING:
            if instance.ray_node_id in draining:
                continue  # Ray is at it: the node waits for its work to end, for however long that takes
            memory.void_drain(instance.instance_id, "the node did not end in time after its drain", now)
        elif instance.status is InstanceStatus.REJOINING:
            text = f"did not join the new head within {limits.rejoining_s:.0f} s"
            memory.ask_end(instance.instance_id, Reason.NOT_REJOINED, text, now)
        else:
            memory.ask_end(instance.instance_id, Reason.OVERDUE, f"did not join in time: {waited}{why}", now)
    _note_stuck(memory, now)


def _note_stuck(memory: Memory, now: float) -> None:
    """Act on launches that do not get on: they are left to come later, if at all; what can never start is ended.

    Without clear sight nothing is noted: the trouble may have passed meanwhile.
    """
    _, no_end = sight(memory, now)
    if no_end is not None:
        return
    for instance in stuck(memory.live(), deadlines(memory), now):
        if instance.trouble is Trouble.HOPELESS:
            memory.ask_end(instance.instance_id, Reason.CANNOT_START, instance.detail, now)
        else:
            memory.note_stuck(instance, now)
