"""build_state(): memory and `now` become the planner's whole input. Pure."""

from dataclasses import replace

from rayscaler.lifecycle.deadlines import Deadlines
from rayscaler.model.demand import Constraint, Demand, Snapshot
from rayscaler.model.instance import InstanceStatus, Reason
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import NEVER
from rayscaler.model.state import MINUTE_S, ClusterState
from rayscaler.reconciler import backlog, begun, floor, landing, learned, misfit, stayed
from rayscaler.reconciler.memory import Memory

LATE_S = 0.001
"""A due cycle comes so much later: floats near 2e9 are exact to 2e-7 s, and whoever compares must find that it is due."""


def build_state(memory: Memory, now: float) -> ClusterState:
    """Return the planner's input as of `now`."""
    snapshot = memory.snapshot or Snapshot()
    no_launch, no_end = sight(memory, now)
    is_landing = landing.is_landing(memory.ledger, seen_at(memory, now), memory.lags)
    return ClusterState(
        now=now,
        config=memory.config,
        instances=tuple(memory.live()),
        nodes=_nodes(memory, snapshot, now),
        demands=_demands(memory, snapshot, now, is_landing=is_landing),
        gangs=tuple(each for each in snapshot.gangs if not each.is_orphaned),
        constraint=_constraint(memory, now),
        expectations=tuple(replace(each, until=each.until + now - seen_at(memory, now)) for each in memory.expectations.values()),
        backoffs=tuple(memory.backoffs.values()),
        begun=begun.current(memory.record.begun, now),
        held=memory.held(now),
        unneeded_since=tuple(memory.unneeded_since.items()),
        misfits=misfit.learned(memory.guesses, snapshot, seen_at(memory, now)),
        stayed=stayed.learned(memory.places, snapshot, seen_at(memory, now), units=memory.config.device_names),
        learned=learned.totals(memory.brought, memory.config),
        is_landing=is_landing,
        unneeded_grace_s=memory.timings.unneeded_grace_s,
        node_dead_grace_s=memory.timings.node_dead_grace_s,
        no_launch=no_launch,
        no_end=no_end,
    )


def _demands(memory: Memory, snapshot: Snapshot, now: float, *, is_landing: bool) -> tuple[Demand, ...]:
    """Return the demand of those who live (E1); while anything works, or work has just landed, free of what Ray may count twice.

    Room alone does not tell: on a full node a task that ends hands its place on to the next, which was seen to raise 8 pending to 9
    for one second.
    """
    if not (snapshot.live_jobs or snapshot.live_detached_actors):
        return ()
    is_working = any(row.is_alive and row.available != row.total for row in snapshot.nodes)
    if not is_working and not is_landing:
        return snapshot.demands
    return backlog.settled(snapshot.demands, memory.counts, seen_at(memory, now), memory.timings.backlog_lag_s)


def seen_at(memory: Memory, now: float) -> float:
    """Return the wall second up to which Ray was seen. What passes with time passes only as far as that.

    Otherwise, when a monitor falls silent, old demand would outlive the room that it went to, and be launched for.
    """
    return now if memory.fresh_at is None else min(now, memory.fresh_at)


def _constraint(memory: Memory, now: float) -> Constraint | None:
    """Return the constraint that counts: not one whose owners are over, and once its cluster has ended only for the hold (design §2b.7)."""
    is_over = memory.floor_owners.is_over or (memory.floor_until is not None and now >= memory.floor_until)
    return None if is_over else memory.floor


def _nodes(memory: Memory, snapshot: Snapshot, now: float) -> tuple[RayNode, ...]:
    """Return the rows with room free of double counting, idle for as long as was observed: to the last report, not to `now` (C1)."""
    observed_to = max(memory.fresh_at or 0.0, memory.snapshot_at)
    rows = landing.rooms(memory.ledger, snapshot.nodes, seen_at(memory, now), memory.lags)
    return tuple(replace(row, idle_s=observed_to - idle_since(memory, row)) if row.status is NodeStatus.IDLE else row for row in rows)


def idle_since(memory: Memory, row: RayNode) -> float:
    """Return the wall second since which a node was seen idle. What Ray says of the time when nobody looked does not count (C1)."""
    return max(memory.snapshot_at - row.idle_s, memory.seen_since)


def sight(memory: Memory, now: float) -> tuple[Reason | None, Reason | None]:
    """Return why nothing may be launched, and why nothing may be ended; None where sight is clear (design §2.7)."""
    blind = _blind(memory, now)
    if blind is not None:
        return blind, blind
    if memory.fresh_at is not None and memory.fresh_at < settled_at(memory):
        shown = {row.instance_id for row in (memory.snapshot or Snapshot()).nodes if row.is_alive}
        alive = [each for each in memory.live() if each.status is InstanceStatus.RUNNING and each.node_dead_since is None]
        is_lacking = any(each.instance_id not in shown for each in alive)
        return (Reason.SETTLING if is_lacking else None), Reason.SETTLING
    return None, None


def settled_at(memory: Memory) -> float:
    """Return the wall second that a report must be fresh up to before anything may be ended: never by the first ones (WC-12.6)."""
    return memory.contact_at + memory.timings.settle_s


def _blind(memory: Memory, now: float) -> Reason | None:
    silent_since = now - memory.timings.blind_after_s
    causes = (
        (bool(memory.withheld), Reason.DEFINITION_WITHHELD),
        (bool(memory.executor_error), Reason.EXECUTOR_BROKEN if memory.is_executor_broken else Reason.EXECUTOR_SILENT),
        (not memory.is_listed, Reason.NO_FIRST_LIST),
        (bool(memory.gcs_error), Reason.GCS_UNREADABLE),
        (memory.fresh_at is None, Reason.NO_REPORT),
        (memory.fresh_at is not None and memory.fresh_at < silent_since, Reason.REPORT_TOO_OLD),
    )
    return next((reason for is_so, reason in causes if is_so), None)


def deadlines(memory: Memory) -> Deadlines:
    """Return the per-phase deadlines that the settings give; they run from when Ray and the executor could be seen."""
    timings = memory.timings
    return Deadlines(
        sight_since=max(memory.contact_at, memory.listed_at),
        rejoining_s=timings.rejoining_s,
        unscheduled_s=timings.unscheduled_s,
        pulling_s=timings.pulling_s,
        starting_s=timings.starting_s,
        registering_s=timings.registering_s,
        draining_s=timings.draining_s,
        terminating_s=timings.terminating_s,
    )


def next_due(memory: Memory, now: float) -> float:
    """Return the wall second at which the next cycle is due by itself; facts make one due at once."""
    timings = memory.timings
    limits = deadlines(memory)
    moments = [now + timings.safety_cycle_s]
    moments += [due for each in memory.live() if (due := limits.of(each)) is not None]
    moments += [at for each in memory.live() if (at := limits.stuck_at(each)) is not None]
    moments += [each.drain_not_before for each in memory.live()]
    moments += memory.sizes.moments(memory.live(), memory.config)
    moments += [each.node_dead_since + timings.node_dead_grace_s for each in memory.live() if each.node_dead_since is not None]
    moments += [since + timings.unneeded_grace_s for since in memory.unneeded_since.values()]
    moments += [each.until for each in memory.backoffs.values()]
    moments += [each.at + MINUTE_S for each in memory.record.begun]
    if memory.fresh_at is not None:
        moments.append(memory.fresh_at + timings.blind_after_s)
    if memory.write_due is not None:
        moments.append(memory.write_due)
    if memory.hold is not None:
        moments += [memory.hold.since + memory.config.hold_of(name) for name, _ in memory.hold.targets]
    if memory.floor_until is not None:
        moments.append(memory.floor_until)
    if memory.floor is not None:
        moments.append(memory.replay_not_before)
    return min(moment + LATE_S for moment in moments if moment + LATE_S > now)


def next_fresh(memory: Memory) -> float | None:
    """Return the wall second that a report must be fresh up to before more may be decided; None if only other facts can change that.

    It is compared with what reports say, not with the clock: idle time that nobody observed does not count (C1), nor does time that
    would make old room or an old promise pass.
    """
    seen_to = memory.fresh_at or 0.0
    moments = [
        idle_since(memory, row) + memory.config.idle_timeout_of(row.node_type)
        for row in (memory.snapshot or Snapshot()).nodes
        if row.status is NodeStatus.IDLE and not row.is_head
    ]
    moments.append(settled_at(memory))
    step_s = floor.next_step(memory.floor_owners, memory.config.floor_after_driver_s)
    moments += [] if step_s is None else [seen_to + step_s]
    moments += [each.until for each in memory.expectations.values()]
    expiries = (
        landing.next_expiry(memory.ledger, seen_to, memory.lags),
        backlog.next_expiry(memory.counts, seen_to, memory.timings.backlog_lag_s),
        misfit.next_learned(memory.guesses, seen_to),
        stayed.next_learned(memory.places, seen_to),
    )
    moments += [each for each in expiries if each is not None]
    return min((moment + LATE_S for moment in moments if seen_to < moment + LATE_S < NEVER), default=None)
