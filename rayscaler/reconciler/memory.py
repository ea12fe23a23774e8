"""What one cluster's task knows. Facts are folded in here, one method per kind; nothing here decides or waits.

Only the cluster's own task calls these methods, so there are no locks. What must survive the process is in `store`; all else is observed again.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import structlog

from rayscaler.errors import InsufficientCapacity, RayscalerError
from rayscaler.lifecycle import backoff, observe
from rayscaler.lifecycle.table import Fact, can, move
from rayscaler.model import replicas
from rayscaler.model.command import AskedDrain, FailedLaunch, ReplayCommand, TellCommand
from rayscaler.model.demand import CommandResult, Constraint, DemandReport, Outcome, Snapshot
from rayscaler.model.explanation import Explanation, MixExplanation
from rayscaler.model.instance import ENDED, Instance, InstanceObservation, InstanceStatus, Reason, Trouble
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.model.plan import Infeasible
from rayscaler.model.state import Backoff, Expectation, FloorOwners, Hold
from rayscaler.model.status import Action, DefinitionStatus
from rayscaler.reconciler import backlog, floor, landing, learned, misfit, stayed
from rayscaler.reconciler.admission import Order
from rayscaler.reconciler.sizes import Sizes
from rayscaler.reconciler.troubles import Troubles
from rayscaler.reconciler.worth import Worth, worth
from rayscaler.settings import Timings
from rayscaler.store.base import ClusterRecord, OpenBatch

log = structlog.get_logger(__name__)

ACTIONS_KEPT = 200
"""Actions remembered for people."""


@dataclass
class Memory:
    """One cluster's knowledge. Times are wall seconds; `fresh_at` is when the newest report's content was true.

    `contact_at` is the first report since which they came without a break: of one session, one monitor, one life of the GCS; `listed_at` is
    the same for the executor's lists, and `seen_since` what the first report said since which Ray was never out of sight for long. `floor` is what
    counts; once its cluster has ended it counts until `floor_until`, or until the new one has one; before that, while `floor_owners` are not over.
    `written` is the record as the store has it, `write_due` when more is to be written; `unfinished` are launches of an earlier life, until they are
    sent again (then None), `ends_due` ends that are noted and not yet sent. `worth` is that of all changes since its reader set it back.
    """

    config: ClusterConfig
    timings: Timings
    record: ClusterRecord
    definition: DefinitionStatus = field(default_factory=DefinitionStatus)
    order: Order = field(default_factory=Order)
    snapshot: Snapshot | None = None
    snapshot_at: float = 0.0
    snapshot_sequence: int = 0
    fresh_at: float | None = None
    contact_at: float = 0.0
    seen_since: float = 0.0
    gcs_error: str = ""
    ray_version: str = ""
    is_v1_mode: bool = False
    is_listed: bool = False
    listed_at: float = 0.0
    written: ClusterRecord | None = None
    written_at: float = 0.0
    write_due: float | None = None
    unfinished: tuple[OpenBatch, ...] | None = ()
    ends_due: dict[str, None] = field(default_factory=dict)
    executor_error: str = ""
    ungrouped: str = ""
    is_executor_broken: bool = False
    withheld: str = ""
    instances: dict[str, Instance] = field(default_factory=dict)
    expectations: dict[str, Expectation] = field(default_factory=dict)
    backoffs: dict[str, Backoff] = field(default_factory=dict)
    unneeded_since: dict[str, float] = field(default_factory=dict)
    guesses: misfit.Guesses = field(default_factory=dict)
    places: stayed.Places = field(default_factory=dict)
    drains: dict[str, AskedDrain] = field(default_factory=dict)
    sizes: Sizes = field(default_factory=Sizes)
    hold: Hold | None = None
    floor: Constraint | None = None
    floor_until: float | None = None
    floor_owners: FloorOwners = field(default_factory=FloorOwners)
    replay: ReplayCommand | None = None
    replay_not_before: float = 0.0
    telling: TellCommand | None = None
    told: frozenset[tuple[str, Reason]] = frozenset()
    driver_notice: str = ""
    counts: backlog.History = field(default_factory=dict)
    ledger: landing.Ledger | None = None
    brought: learned.Known = field(default_factory=dict)
    failed: list[FailedLaunch] = field(default_factory=list)
    troubles: Troubles = field(default_factory=Troubles)
    pending: tuple[Infeasible, ...] = ()
    explanation: Explanation | None = None
    mix: MixExplanation | None = None
    state_version: int = 0
    cycle: int = 0
    worth: Worth = Worth.NOTHING
    actions: deque[Action] = field(default_factory=lambda: deque(maxlen=ACTIONS_KEPT))

    def take_record(self, record: ClusterRecord) -> None:
        """Take up what an earlier life of the service has left."""
        self.record = self.written = record
        self.unfinished, self.state_version = record.open_batches, record.state_version
        self.troubles.take(record.troubles)
        self.backoffs = {each.node_type: each for each in record.backoffs if self.config.node_type(each.node_type) is not None}
        self.order = Order(
            session=record.session,
            retired=record.retired,
            incarnation=record.incarnation,
            retired_incarnations=record.retired_incarnations,
        )
        self.hold, self.floor, self.floor_until, self.floor_owners = record.hold, record.floor, record.floor_until, record.floor_owners
        self.drains = {each.command.command_id: each for each in record.drains}

    def redefine(self, config: ClusterConfig, content_hash: str, now: float) -> None:
        """Take another definition of the same cluster. No clock starts anew; a type that is made otherwise, or is gone, is backed off no more."""
        before = self.config
        self.config, self.definition = config, DefinitionStatus(content_hash, now)
        made = {each.name for each in config.node_types if (old := before.node_type(each.name)) is not None and each.is_made_like(old)}
        self.backoffs = {name: each for name, each in self.backoffs.items() if name in made}

    def refuse(self, problems: tuple[str, ...]) -> None:
        """Note why what the definition's file says now is not taken; what is in force stays."""
        self.definition = replace(self.definition, problems=problems)

    def take_report(self, report: DemandReport, order: Order, now: float) -> None:
        """Take an admitted report: the newest replaces, results are merged."""
        if order.session != self.order.session:
            self._begin_session(now)
        read_at = now - report.age_s
        is_gcs_anew = report.snapshot is not None and self.snapshot is not None and report.snapshot.gcs_version < self.snapshot.gcs_version
        if is_gcs_anew:
            self.replay = None
            self._begin_hold(now)
        if is_gcs_anew or order.monitor_epoch != self.order.monitor_epoch or self._is_break(read_at):
            self.contact_at = now
        seen_s = 0.0 if self.fresh_at is None or self._is_break(read_at) else max(0.0, read_at - self.fresh_at)
        self.order = order
        for result in report.results:
            self._take_result(result, now)
        self.gcs_error = report.gcs_error
        if not report.gcs_error:
            self.ray_version, self.is_v1_mode = report.ray_version, report.is_v1_mode
        if report.snapshot is None:
            if not report.gcs_error and report.base_sequence == self.snapshot_sequence:
                self._see(read_at)
                self._follow_floor(seen_s, now)
            return
        self.snapshot, self.snapshot_at, self.snapshot_sequence = report.snapshot, read_at, report.sequence
        self._see(read_at)
        self._take_constraint(report.snapshot.constraint)
        self._follow_floor(seen_s, now)
        self.counts = backlog.remember(self.counts, report.snapshot.demands, read_at, self.timings.backlog_lag_s)
        sure = backlog.settled(report.snapshot.demands, self.counts, read_at, self.timings.backlog_lag_s)
        self.ledger = landing.follow(self.ledger, replace(report.snapshot, demands=sure), read_at, self.lags)
        self._replace_all(observe.nodes(self.instances, report.snapshot.nodes, now), now)
        self.brought = learned.follow(self.brought, self.config, self.instances, report.snapshot.nodes, read_at)

    def _see(self, read_at: float) -> None:
        is_seen_anew = self.fresh_at is None or read_at - self.fresh_at > self.timings.blind_after_s
        self.seen_since, self.fresh_at = read_at if is_seen_anew else self.seen_since, read_at

    def _take_constraint(self, asked: Constraint | None) -> None:
        """Take what Ray is asked for now. A GCS that forgot it may be told again (design §2b.7), but for a floor that is over."""
        if asked is None and not self.floor_owners.is_over:
            return
        if not floor.is_same(asked, self.floor) or self.floor_until is not None:
            self.floor_owners = FloorOwners()
        self.floor, self.floor_until = asked, None

    def _follow_floor(self, seen_s: float, now: float) -> None:
        """Look who may want the floor, `seen_s` after the last look; that of a cluster that has ended has nobody to look for."""
        if self.snapshot is None or self.floor is None or not self.floor.demands or self.floor_until is not None:
            return
        was_over = self.floor_owners.is_over
        self.floor_owners = floor.follow(self.floor_owners, self.snapshot, seen_s, self.config.floor_after_driver_s)
        if self.floor_owners.is_over and not was_over:
            detail = floor.ended(self.floor)
            self.actions.append(Action(now, "FLOOR_ENDED", "", "", Reason.NOBODY_WAITS, detail, self.cycle))
            log.info("floor.ended", cluster=self.config.name, detail=detail)

    def _is_break(self, read_at: float) -> bool:
        """Whether Ray was out of sight before this report, so that its first words may lack nodes (WC-8)."""
        return self.fresh_at is None or read_at - self.fresh_at > self.timings.blind_after_s or bool(self.gcs_error)

    def _begin_session(self, now: float) -> None:
        """Another cluster answers: forget what was the old one's, and keep what the user would miss (design §2.8, §2b.6, §2b.7)."""
        self.snapshot, self.fresh_at, self.counts, self.ledger = None, None, {}, None
        self.replay, self.telling, self.told, self.driver_notice = None, None, frozenset(), ""
        if self.order.session is None:
            return
        self.drains.clear()
        for instance in list(self.live()):
            self._set(observe.head_lost(instance, now), now)
        self._begin_hold(now)
        if self.floor_owners.is_over:
            self.floor = None
        elif self.floor is not None and self.floor_until is None:
            self.floor_until = now + self.config.floor_hold_s
        self.floor_owners = FloorOwners()  # ids of jobs are those of one cluster

    def _begin_hold(self, now: float) -> None:
        self.hold = Hold(now, self.record.targets) if self.record.targets else None

    def held(self, now: float) -> tuple[tuple[str, int], ...]:
        """Return how many of each node type are held now: each type for its idle timeout, so that a returning job finds its nodes."""
        if self.hold is None:
            return ()
        return tuple((name, count) for name, count in self.hold.targets if now < self.hold.since + self.config.hold_of(name))

    def _take_result(self, result: CommandResult, now: float) -> None:
        if self.replay is not None and result.command_id == self.replay.command_id:
            is_refused = self.replay.replaces is not None and result.outcome is not Outcome.DONE  # also by a monitor that cannot do it
            pause_s = self.timings.safety_cycle_s if is_refused else self.timings.drain_retry_s
            self.replay, self.replay_not_before = None, now + pause_s
        if self.telling is not None and result.command_id == self.telling.command_id:
            self.telling = None
        asked = self.drains.pop(result.command_id, None)
        if asked is None:
            return
        instance = self.instances.get(asked.instance_id)
        if instance is not None and instance.ray_node_id == asked.command.ray_node_id:
            accepted, pause_s = result.outcome is Outcome.DONE, self.timings.drain_retry_s
            self._set(observe.drain_result(instance, accepted=accepted, detail=result.detail, now=now, retry_after_s=pause_s), now)

    def take_observation(self, seen: InstanceObservation, now: float) -> None:
        """Take one observation of the executor's."""
        known = self.instances.get(seen.instance_id)
        after = observe.observation(known, seen, now)
        if after is not None:
            self._set(after, now)
            if known is None:
                self._match({seen.instance_id}, now)

    def take_list(self, seen: Sequence[InstanceObservation], calls: frozenset[str], now: float) -> None:
        """Take a complete list; `calls` are the instances whose launch call ran at some moment of the listing."""
        if self.executor_error or not self.is_listed:
            self.listed_at, self.worth = now, Worth.DECIDING
        self.is_listed, self.executor_error = True, ""
        known = {*self.instances}
        self._replace_all(observe.full_list(self.instances, seen, calls, now), now)
        self._match({*self.instances} - known, now)

    def _match(self, adopted: set[str], now: float) -> None:
        """Look for adopted instances in the last snapshot: it may have come before them, and while Ray changes nothing no other comes."""
        if self.snapshot is not None and adopted:
            rows = [row for row in self.snapshot.nodes if row.instance_id in adopted]
            self._replace_all(observe.nodes(self.instances, rows, now), now)

    def take_silence(self, error: str, *, is_broken: bool) -> None:
        """Note why the executor tells nothing, or nothing that can be believed."""
        self.executor_error, self.is_executor_broken, self.worth = error, is_broken, Worth.DECIDING

    def take_launched(self, instance_id: str, external_id: str, now: float) -> None:
        """Take the executor's word that it has the instance."""
        instance = self.instances.get(instance_id)
        if instance is not None and instance.status is InstanceStatus.REQUESTED:
            after = move(instance, Fact.EXISTS, now, detail="the executor has it")
            self._set(replace(after, external_id=external_id, phase_since=now), now)

    def take_refused(self, instance_id: str, error: RayscalerError, now: float) -> None:
        """Take a launch that failed for good."""
        instance = self.instances.get(instance_id)
        if instance is not None and can(instance, Fact.REFUSED):
            reason = Reason.NO_CAPACITY if isinstance(error, InsufficientCapacity) else Reason.LAUNCH_ERROR
            self._set(move(instance, Fact.REFUSED, now, reason=reason, detail=f"{error.name}: {error}"), now)

    def take_without_outcome(self, instance_id: str, error: RayscalerError, now: float) -> None:
        """Take a launch that may or may not have been made: it failed, and counts until the executor surely has it no more."""
        instance = self.instances.get(instance_id)
        if instance is not None and instance.status is InstanceStatus.REQUESTED:
            self._set(move(instance, Fact.END_ASKED, now, reason=Reason.LAUNCH_ERROR, detail=f"{error.name}: {error}"), now)

    def note_stuck(self, instance: Instance, now: float) -> None:
        """Note that a launch does not get on: a failure of its type, though it may come yet."""
        self._set(replace(instance, stuck_since=now), now)
        self._failed(instance, backoff.STUCK, now)
        again = backoff.again(self.backoffs[instance.node_type], now)
        self.note(Reason.STUCK.value, instance, Reason.STUCK, f"{instance.detail}; {again}", now)

    def ask_end(self, instance_id: str, reason: Reason, detail: str, now: float) -> None:
        """Note that the executor is to be asked to end the instance."""
        instance = self.instances[instance_id]
        self.ends_due[instance_id] = None
        if instance.status is InstanceStatus.TERMINATING:
            self._set(replace(instance, since=now), now)
        else:
            self._set(move(instance, Fact.END_ASKED, now, reason=reason, detail=detail), now)

    def ask_drain(self, asked: AskedDrain, now: float) -> None:
        """Note that Ray is asked to drain the instance's node."""
        self.drains[asked.command.command_id] = asked
        self._leaves(asked, now)

    def ask_replay(self, now: float) -> None:
        """Have the GCS told the constraint that it forgot in a restart, if it is still the cluster that was asked (design §2b.7).

        And have it forget one that is over.
        """
        is_forgotten = self.snapshot is not None and self.snapshot.constraint is None and self.floor_until is None
        if is_forgotten and self.floor is not None and self.floor.demands and self.replay is None and now >= self.replay_not_before:
            self.replay = ReplayCommand(f"replay-{int(now * 1000)}", self.floor)
        self._ask_take_back(now)

    def _ask_take_back(self, now: float) -> None:
        """While a floor that is over stands in the GCS, the same asked for anew would be no change."""
        is_there = self.snapshot is not None and floor.is_same(self.snapshot.constraint, self.floor)
        if self.floor_owners.is_over and is_there and self.replay is None and now >= self.replay_not_before:
            self.replay = ReplayCommand(f"take-back-{int(now * 1000)}", Constraint(), replaces=self.floor)

    def void_drain(self, instance_id: str, detail: str, now: float) -> None:
        """Give up a drain that led nowhere."""
        instance = self.instances[instance_id]
        self.drains = {key: each for key, each in self.drains.items() if each.instance_id != instance_id}
        self._set(observe.void_drain(instance, detail=detail, now=now, retry_after_s=self.timings.drain_retry_s), now)

    def request(self, instance: Instance, expectation: Expectation) -> None:
        """Note a launch that is about to be asked for."""
        self.expectations[instance.instance_id] = expectation
        self._set(instance, instance.since)

    def end_cycle(self, now: float) -> None:
        """Drop what is over: ended instances, old expectations, old failures."""
        self.instances = {key: each for key, each in self.instances.items() if each.status not in ENDED}
        self.expectations = {
            key: each for key, each in self.expectations.items() if key in self.instances and (each.until > now or self._flies(key))
        }
        self.unneeded_since = {key: since for key, since in self.unneeded_since.items() if self._flies(key)}
        self.failed = [each for each in self.failed if each.failed_at > now - self.timings.failure_memory_s]
        self.hold = self.hold if self.held(now) else None
        if self.floor_until is not None and now >= self.floor_until:
            self.floor, self.floor_until = None, None

    def _flies(self, instance_id: str) -> bool:
        return (found := self.instances.get(instance_id)) is not None and found.is_in_flight

    def _replace_all(self, after: dict[str, Instance], now: float) -> None:
        for instance in after.values():
            self._set(instance, now)

    def _set(self, instance: Instance, now: float) -> None:
        """Store the instance; the one place where a change of status has consequences."""
        before = self.instances.get(instance.instance_id)
        self.instances[instance.instance_id] = instance
        self.worth = max(self.worth, worth(before, instance))
        if before is not None and before.status is instance.status:
            return
        self.note(instance.status.value, instance, instance.reason, instance.detail, now)
        if instance.status is InstanceStatus.RUNNING and before is not None and before.is_in_flight:
            self._joined(instance, now)
        elif backoff.is_failure(instance):
            self._failed(instance, backoff.after(instance.reason, was_stuck=before is not None and before.stuck_since is not None), now)
        elif backoff.is_given_up(instance) and instance.node_type in self.backoffs:
            self.backoffs[instance.node_type] = backoff.given_up(self.backoffs[instance.node_type], now)

    def _joined(self, instance: Instance, now: float) -> None:
        expectation = self.expectations.get(instance.instance_id)
        if expectation is not None:  # one that was adopted says nothing of launches now
            if self._has_whole_replica(instance):
                self.backoffs.pop(instance.node_type, None)
            # Its demand stays in the snapshot for a while after it has landed there.
            self.expectations[instance.instance_id] = replace(expectation, until=now + self.timings.usage_lag_s)
        asked = next((each for each in self.drains.values() if each.command.ray_node_id == instance.ray_node_id), None)
        if asked is not None:  # by an earlier life of the service
            self._leaves(asked, now)

    def _has_whole_replica(self, instance: Instance) -> bool:
        """Whether all hosts of its replica have joined: where some are refused, the type is not well though others come."""
        if not instance.replica:
            return True
        hosts = [each for each in self.live() if each.replica == instance.replica and each.status is InstanceStatus.RUNNING]
        return not replicas.lacking(self.config, hosts)

    def _leaves(self, asked: AskedDrain, now: float) -> None:
        instance = self.instances[asked.instance_id]
        self._set(move(instance, Fact.DRAIN_ASKED, now, reason=asked.reason, detail=asked.command.detail), now)

    def _failed(self, instance: Instance, waits: backoff.Waits, now: float) -> None:
        name = instance.node_type
        self.backoffs[name] = backoff.failed(self.backoffs.get(name), name, instance.detail, now, waits)
        self.troubles.count(instance)
        if instance.trouble is not Trouble.GATED:
            self.failed.append(FailedLaunch(name, instance.detail, instance.requested_at, now))

    def note(self, kind: str, instance: Instance, reason: Reason, detail: str, now: float) -> None:
        """Remember an action for people."""
        self.actions.append(Action(now, kind, instance.instance_id, instance.node_type, reason, detail, self.cycle))

    @property
    def lags(self) -> landing.Lags:
        """How long use that has grown still counts as room."""
        return landing.Lags(self.timings.usage_lag_s, self.timings.doubled_lag_s)

    def live(self) -> Iterable[Instance]:
        """Yield instances that have not ended."""
        return (each for each in self.instances.values() if each.status not in ENDED)
