"""ClusterReconciler: one task per cluster, the single writer of its state. Reports and observations go in, acts come out."""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import structlog

from rayscaler.clock import Clock
from rayscaler.errors import Fenced, InvalidRequest, Unavailable
from rayscaler.executor.base import Executor
from rayscaler.lifecycle.table import IllegalTransition
from rayscaler.model.command import AutoscalingState, ReportAnswer
from rayscaler.model.demand import DemandReport
from rayscaler.model.explanation import Explanation, MixExplanation
from rayscaler.model.instance import InstanceStatus, Reason
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.model.plan import Plan
from rayscaler.model.state import ClusterState
from rayscaler.model.status import ClusterStatus, DefinitionStatus
from rayscaler.model.trouble import Announcement
from rayscaler.planner.plan import plan
from rayscaler.reconciler import drivers, growing, pacing, peaks, publish, unfinished
from rayscaler.reconciler.admission import Order, admit
from rayscaler.reconciler.apply import apply, end_overdue
from rayscaler.reconciler.calls import Calls, Fact
from rayscaler.reconciler.explain.whole import explain
from rayscaler.reconciler.improve import Improver, Wait
from rayscaler.reconciler.memory import Memory
from rayscaler.reconciler.state import build_state, next_due, next_fresh, seen_at, sight
from rayscaler.reconciler.worth import Worth
from rayscaler.settings import HEARTBEAT_READINGS, Timings
from rayscaler.store.base import ClusterRecord, Store

log = structlog.get_logger(__name__)


@dataclass
class _Cycle:
    """The cycle that runs, or ran last: when it began (wall second), and for how long one kept the event loop."""

    is_running: bool = False
    began_at: float = 0.0
    took_s: float = 0.0
    retry_at: float | None = None
    soon: asyncio.TimerHandle | None = None
    """The next one, if only to tell of steps."""


@dataclass(frozen=True)
class Shared:
    """What the clusters of a service have in common. Without an improver first plans are carried out as they are."""

    turns: pacing.Turns = field(default_factory=pacing.Turns)
    improver: Improver | None = None
    has_webhook: bool = False
    """Whether somebody is told outward of node types in trouble."""


class ClusterReconciler:
    """Keeps one cluster as its definition and its demand want it."""

    def __init__(
        self,
        config: ClusterConfig,
        *,
        executor: Executor,
        store: Store,
        clock: Clock,
        timings: Timings,
        head_address: Callable[[], str],
        definition_hash: str = "",
        served_head: Callable[[], str] = lambda: "",
        told: Callable[[], None] = lambda: None,
        shared: Shared | None = None,
    ) -> None:
        """Take where the head is, and which incarnation of it is the one that counts; "" while nobody knows better than the reports.

        `told` is called after each cycle: there may be news for people. `shared` is one for all clusters of a service.
        """
        self._shared = shared or Shared()
        self._told = told
        self._executor, self._store = executor, store
        self._clock, self._timings = clock, timings
        self._head_address, self._served_head = head_address, served_head
        self._memory = Memory(config, timings, ClusterRecord(config.name), DefinitionStatus(definition_hash, clock.now()))
        self._memory.troubles.is_told = self._shared.has_webhook
        self._reachable = publish.reachable(config)
        self._order = Order()
        self._inbox: list[tuple[Fact, bool]] = []
        self._answered: set[str] = set()
        """Commands whose results wait in the inbox: handed out again, they would come back at once, for as long as a cycle lasts."""
        self._wake = asyncio.Event()
        self._wait = Wait(self._shared.improver, timings.plan_budget_s, self._wake.set)
        self._base: tuple[int, int] = (0, 0)
        self._is_loaded = False
        self._state: AutoscalingState | None = None
        self._fresh_due: float | None = None
        self._blind: Reason | None = None
        self._blind_since: float | None = None
        self._peaks: peaks.Known = {}
        self._cycle = _Cycle()

    @property
    def config(self) -> ClusterConfig:
        """The definition in force."""
        return self._memory.config

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self._memory.config.name

    def submit(self, report: DemandReport) -> ReportAnswer:
        """Take a report and answer with what is due; raises Superseded. Never waits: the cycle comes after the answer."""
        if not self._is_loaded:
            raise Unavailable(f"the record of {self.name} is not read yet: it says which sessions have ended")
        order, is_news = admit(self._order, report, self._served_head())
        is_new_session = order.session != self._order.session
        is_heartbeat = report.snapshot is None and not report.gcs_error
        wants_snapshot = is_heartbeat and (is_new_session or self._base != (report.monitor_epoch, report.base_sequence))
        if is_news and not wants_snapshot:
            self._order = order
            if report.snapshot is not None:
                self._base = (report.monitor_epoch, report.sequence)
            elif is_new_session:
                self._base = (0, 0)
            self._answered.update(result.command_id for result in report.results)
            self._tell(partial(_take_report, report, order, self._clock.now()), wakes=not is_heartbeat or bool(report.results))
            if self._is_worth_a_cycle(report):
                self._wake.set()
        return ReportAnswer(
            commands=tuple(each for each in publish.commands(self._memory) if each.command_id not in self._answered),
            acknowledged=() if wants_snapshot else tuple(result.command_id for result in report.results),
            autoscaling_state=self._state_news(report),
            next_interval_s=self._interval(self._clock.now()),
            wants_snapshot=wants_snapshot,
            cluster_config=None if report.gcs_error or report.reported_config_hash == self._reachable.content_hash else self._reachable,
            driver_notice=self._memory.driver_notice,
            head_ip="" if self._memory.snapshot is None else self._memory.snapshot.head_ip,
        )

    def redefine(self, config: ClusterConfig, content_hash: str) -> None:
        """Put another definition of the same cluster in force, live; raises InvalidRequest for one of another cluster."""
        if config.name != self.name:
            raise InvalidRequest(f"metadata.name: {config.name!r}: must stay {self.name!r}; another cluster needs a definition of its own")
        self._reachable = publish.reachable(config)
        self._tell(partial(_redefine, config, content_hash), wakes=True)
        log.info("definition.taken", cluster=self.name, hash=content_hash)

    def refuse(self, problems: tuple[str, ...]) -> None:
        """Say why what the definition's file has become is not taken; the one in force stays."""
        self._tell(partial(_refuse, problems))
        log.warning("definition.refused", cluster=self.name, in_force=self._memory.definition.content_hash, problems=list(problems))

    def withhold(self, why: str) -> None:
        """Launch and end nothing from now on, for this reason; "" ends that."""
        self._tell(partial(_withhold, why), wakes=True)
        if why:
            log.warning("definition.withheld", cluster=self.name, why=why)
        else:
            log.info("definition.no_longer_withheld", cluster=self.name)

    def advise(self, warnings: tuple[str, ...]) -> None:
        """Say what somebody should look at in the definition that is in force, until another one is."""
        self._tell(partial(_advise, warnings))
        if warnings:
            log.warning("definition.advice", cluster=self.name, warnings=list(warnings))

    def status(self) -> ClusterStatus:
        """Tell what is known, done and why."""
        return publish.status(self._memory, self._blind_since, self._clock.now())

    def explanation(self) -> Explanation:
        """Tell of each pending shape, node and node type why it stands as it does, as of the last cycle."""
        found = self._memory.explanation or explain(self._memory, build_state(self._memory, self._clock.now()), Plan())
        return replace(found, definition=self._memory.definition)

    def announcements(self) -> tuple[Announcement, ...]:
        """Return what is to be told outward now; each is due until `take_told` was called for it."""
        memory, written = self._memory, self._memory.written
        return () if written is None else tuple(memory.troubles.due(self.name, written.troubles, memory.backoffs, self._clock.now()))

    def farewell(self) -> tuple[Announcement, ...]:
        """Return what is still to be told outward of a cluster that is no more."""
        return tuple(self._memory.troubles.ends(self.name, self._clock.now()))

    def take_told(self, announced: Announcement, untold: str = "") -> None:
        """Take that something was told outward, or why it never will be."""
        self._tell(partial(_take_told, announced, untold), wakes=True)

    async def run(self) -> None:
        """Run for ever: adopt what the record and the executor have, then a cycle whenever one is due."""
        await self._load()
        async with asyncio.TaskGroup() as tasks:
            calls = Calls(self._executor, self.name, timings=self._timings, tasks=tasks, tell=self._tell)
            tasks.create_task(calls.follow(), name=f"follow executor of {self.name}")
            try:
                while True:
                    await self._until_due()
                    await self.run_cycle(calls)
            finally:
                self._wait.end()

    async def run_cycle(self, calls: Calls) -> None:
        """Decide, act, tell, by what is known when it begins. Without a first list or any report there is nothing to decide."""
        self._begin_cycle()
        began_at, scene = self._clock.mono(), None
        try:
            now, memory = self._cycle.began_at, self._memory
            self._note_sight(now)
            unfinished.finish(memory, calls, self._head_address(), now)
            if not memory.is_listed or memory.snapshot is None:
                scene = build_state(memory, now), Plan()
                return
            memory.cycle += 1
            end_overdue(memory, now)
            growing.follow(memory, now)
            state = self._with_peaks(build_state(memory, now))
            first = self._wait.planned(state) or plan(state)
            decided = self._wait.decide(state, first)
            scene = state, first if self._wait.is_on else decided
            self._cycle.took_s = self._clock.mono() - began_at
            memory.pending = decided.infeasible
            await apply(decided, memory, store=self._store, calls=calls, head_address=self._head_address(), now=now)
            memory.ask_replay(now)
            drivers.tell(memory, now)
            self._conclude(decided, now)
        except Unavailable as error:
            # Nothing was sent; the next cycle starts from facts again.
            log.warning("cycle.unwritten", cluster=self.name, cycle=self._memory.cycle, error=str(error))
            self._cycle.retry_at = self._clock.now() + self._timings.executor_retry_s
        except Fenced:
            raise  # another service leads: this one has sent nothing, and ends
        except Exception:
            # A bug in deciding for one cluster must not stop the others (FH-10); it is told, and tried again later.
            log.exception("cycle.failed", cluster=self.name, cycle=self._memory.cycle)
            self._cycle.retry_at = self._clock.now() + self._timings.executor_retry_max_s
        finally:
            if scene is not None:
                asyncio.get_running_loop().call_soon(self._explain, *scene)  # after the calls that are to go out
            self._memory.worth = Worth.NOTHING  # its own doing
            self._cycle.is_running = False
            self._fold(self._clock.now())

    def _with_peaks(self, state: ClusterState) -> ClusterState:
        """Return the state with what was in use at most, as of the last snapshot: the state's own rows show what has just landed as free."""
        snapshot = self._memory.snapshot
        if state.no_end is not None or snapshot is None:
            self._peaks = {}  # what was not seen all the time is not known
            return state
        self._peaks = peaks.follow(self._peaks, state.config, snapshot.nodes, seen_at(self._memory, state.now))
        return replace(state, busiest=peaks.whole(self._peaks))

    def _conclude(self, decided: Plan, now: float) -> None:
        """Note what the cycle leaves: the state for the GCS, what is over, when more may be decided."""
        memory = self._memory
        self._state = publish.autoscaling_state(memory, self._state, now)
        if decided.mix is not None and not self._wait.is_on:
            memory.mix = MixExplanation(now, decided.mix, self._wait.outcome)
        memory.state_version = self._state.version
        memory.end_cycle(now)
        if any(each.reason is Reason.CONSOLIDATED for each in decided.drains):
            self._peaks = {}  # the others are to show first what the work of these is to them
        self._fresh_due = next_fresh(memory)
        if not decided.is_empty:
            log.info("cycle", cluster=self.name, cycle=memory.cycle, **publish.summary(decided, self._wait.outcome))

    def _explain(self, state: ClusterState, decided: Plan) -> None:
        """Note why all stands as it does. A bug in that stops nothing."""
        began_at = self._clock.mono()
        try:
            self._memory.explanation = explain(self._memory, state, decided, retry_at=self._cycle.retry_at)
        except Exception:
            # Explaining serves people only: the loop must not lose a cycle to it, and the next cycle explains anew.
            log.exception("explain.failed", cluster=self.name, cycle=self._memory.cycle)
        self._cycle.took_s += self._clock.mono() - began_at
        self._told()

    async def _load(self) -> None:
        """Take the record up again; without it nothing may be launched, so this waits until it can be read."""
        wait_s = self._timings.executor_retry_s
        while True:
            try:
                record = await self._store.load(self.name)
                break
            except Unavailable as error:
                log.warning("record.unreadable", cluster=self.name, error=str(error))
                await asyncio.sleep(wait_s)
                wait_s = min(wait_s * 2, self._timings.executor_retry_max_s)
        if record is not None:
            unknown = record.node_types() - {each.name for each in self.config.node_types}
            if unknown:
                log.warning("record.unknown_types", cluster=self.name, node_types=sorted(unknown))
            self._memory.take_record(record)
            self._order = self._memory.order
        self._is_loaded = True

    async def _until_due(self) -> None:
        """Wait for a fact or a deadline; then until some time since the last cycle, so that a burst is one cycle, and many are not all there is."""
        now = self._clock.now()
        due = next_due(self._memory, now)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, (due if self._cycle.retry_at is None else min(due, self._cycle.retry_at)) - now)):
                await self._wake.wait()
        apart_s = pacing.apart_s(self._cycle.took_s, self._timings)
        rest_s = self._cycle.began_at + apart_s - self._clock.now()
        if rest_s > 0:
            await asyncio.sleep(min(rest_s, apart_s))
        self._wake.clear()

    def _tell(self, fact: Fact, *, wakes: bool = False) -> None:
        """Take a fact: at once if no cycle is under way, else after it. What it changes makes a cycle due, `wakes` or not."""
        self._inbox.append((fact, wakes))
        if not self._cycle.is_running:
            self._fold(self._clock.now())

    def _fold(self, now: float) -> None:
        facts, self._inbox = self._inbox, []
        self._answered.clear()
        for fact, wakes in facts:
            try:
                fact(self._memory, now)
            except IllegalTransition:
                # A fact that fits nothing known is dropped; the next list or report tells what is.
                log.exception("fact.refused", cluster=self.name)
            worth, self._memory.worth = self._memory.worth, Worth.NOTHING
            if wakes or worth is Worth.DECIDING:
                self._wake.set()
            elif worth is Worth.TELLING and self._cycle.soon is None:
                loop = asyncio.get_running_loop()
                self._cycle.soon = loop.call_at(self._shared.turns.next(loop.time(), self._cycle.took_s, self._timings), self._wake.set)

    def _begin_cycle(self) -> None:
        if self._cycle.soon is not None:
            self._cycle.soon.cancel()
        self._cycle = _Cycle(is_running=True, began_at=self._clock.now(), took_s=self._cycle.took_s)

    def _note_sight(self, now: float) -> None:
        blind, _ = sight(self._memory, now)
        if blind is not self._blind:
            log.info("sight", cluster=self.name, blind=blind and blind.value)
            if self._blind is None or blind is None:
                self._blind_since = None if blind is None else now
            self._blind = blind

    def _is_worth_a_cycle(self, report: DemandReport) -> bool:
        """Whether a heartbeat alone is reason to decide again: it says that somebody is idle for long enough, or sight has come back."""
        read_at = self._clock.now() - report.age_s
        return self._blind is not None or (self._fresh_due is not None and read_at >= self._fresh_due)

    def _state_news(self, report: DemandReport) -> AutoscalingState | None:
        return None if self._state is None or self._state.version == report.reported_state_version else self._state

    def _interval(self, now: float) -> float:
        snapshot = self._memory.snapshot
        is_busy = snapshot is None or bool(snapshot.demands or snapshot.gangs or self._memory.drains)
        is_busy = is_busy or any(each.status is not InstanceStatus.RUNNING or each.growing is not None for each in self._memory.live())
        interval_s = self._timings.busy_interval_s if is_busy else self._timings.quiet_interval_s
        if self._fresh_due is None:
            return interval_s
        # The next heartbeat comes when it is what a decision waits for, and the one that fetches what was decided soon after it.
        return min(interval_s, max(self._timings.due_interval_s, (self._fresh_due - now) / HEARTBEAT_READINGS))


def _redefine(config: ClusterConfig, content_hash: str, memory: Memory, now: float) -> None:
    memory.redefine(config, content_hash, now)


def _refuse(problems: tuple[str, ...], memory: Memory, now: float) -> None:  # noqa: ARG001 - the form of a Fact
    memory.refuse(problems)


def _withhold(why: str, memory: Memory, now: float) -> None:  # noqa: ARG001 - the form of a Fact
    memory.withheld = why


def _advise(warnings: tuple[str, ...], memory: Memory, now: float) -> None:  # noqa: ARG001 - the form of a Fact
    memory.definition = replace(memory.definition, warnings=warnings)


def _take_told(announced: Announcement, untold: str, memory: Memory, now: float) -> None:
    memory.troubles.take_told(announced, untold, now)


def _take_report(report: DemandReport, order: Order, received_at: float, memory: Memory, now: float) -> None:
    # Its age counts from when it came: a slow write of the record makes no report fresher.
    memory.take_report(report, order, received_at)
    growing.take_results(report.results, memory, now)
