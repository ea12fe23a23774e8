"""Virtual time: work comes, starts and ends, nodes come and go, and between them the planner is asked as the service asks it. Pure.

Time goes from one event to the next. A change is planned for a little later, with all that has come meanwhile, as the service does. A launch
joins after the start-up time of its type; a drained node takes nothing new, and is gone once nothing runs on it. Launches never fail, and what
may grow in place does, at once.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from itertools import count

from rayscaler.cli.simulate.fleet import Assumed, Fleet
from rayscaler.cli.simulate.log import Log, Sample
from rayscaler.cli.simulate.nodes import Node, Offers, Taken
from rayscaler.cli.simulate.trace import Arrival
from rayscaler.model.demand import Bundle, Demand
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.model.plan import Plan
from rayscaler.model.state import MINUTE_S, ClusterState

PATIENCE = 3
"""When nothing comes and nothing runs, what waits is given up after so many times the longest start-up and idle timeout."""

Planner = Callable[[ClusterState], Plan]


@dataclass(frozen=True)
class _Finish:
    node: Node
    taken: Taken


@dataclass(frozen=True)
class _Join:
    instance_id: str


@dataclass(frozen=True)
class _Cycle:
    """The planner is asked; of several that are due the earliest counts."""


_Event = _Finish | _Join | Arrival | _Cycle


@dataclass
class _Waiting:
    """What is left of an arrival."""

    at: float
    duration_s: float
    left: int


class Simulation:
    """One replay: `run` goes through it, and `log` has what happened."""

    def __init__(self, config: ClusterConfig, arrivals: Sequence[Arrival], assumed: Assumed, planner: Planner) -> None:
        self.last_plan = Plan()
        self.log = Log(tuple(sorted({name for each in arrivals for name in each.bundle.resources})))
        self._config, self._assumed, self._planner = config, assumed, planner
        self._number = count()
        self._events: list[tuple[float, int, _Event]] = [(each.at, next(self._number), each) for each in arrivals]
        heapify(self._events)
        self._to_come = sum(each.count for each in arrivals)
        self._waiting: dict[Bundle, deque[_Waiting]] = {}
        self._running = 0
        self._cycle_at = math.inf
        self._moved_at = begin = min(each.at for each in arrivals)
        self._fleet = Fleet(config, assumed, self.log, begin)
        self._wake(begin + assumed.reaction_s)

    @property
    def waiting(self) -> tuple[Demand, ...]:
        """What waits now."""
        return tuple(Demand(bundle, sum(each.left for each in queue)) for bundle, queue in self._waiting.items())

    def run(self) -> Iterator[int]:
        """Let time pass to the end; yields after each moment how many tasks have ended."""
        now = self._moved_at
        while self._events and not self._is_hopeless():
            now = self._events[0][0]
            grown: dict[str, Node] = {}
            fresh: set[Bundle] = set()
            is_due = is_changed = False
            while self._events and self._events[0][0] == now:
                what = heappop(self._events)[2]
                if isinstance(what, _Cycle):
                    is_due = is_due or now == self._cycle_at
                else:
                    is_changed = True
                    self._happen(now, what, grown, fresh)
            self._start(now, grown, fresh)
            if is_due:
                self._cycle(now)
            elif is_changed:
                self._wake(now + self._assumed.reaction_s)
            if is_due or is_changed:
                self._sample(now)
                yield self.log.finished
        self._fleet.close(now)

    def _push(self, at: float, what: _Event) -> None:
        heappush(self._events, (at, next(self._number), what))

    def _wake(self, at: float) -> None:
        if at < self._cycle_at:
            self._cycle_at = at
            self._push(at, _Cycle())

    def _is_hopeless(self) -> bool:
        """Whether nothing comes, nothing runs, and what waits has waited for longer than for any launch or idle node."""
        if self._to_come or self._running or not self._waiting:
            return False
        timeouts = [self._config.idle_timeout_of(each.name) for each in self._config.node_types]
        pauses = (*self._assumed.start_up_s.values(), *timeouts, MINUTE_S if self._config.is_paced else 0.0)
        longest = max((each for each in pauses if math.isfinite(each)), default=0.0)
        return self._events[0][0] > self._moved_at + PATIENCE * (longest + self._assumed.reaction_s)

    def _happen(self, now: float, what: _Finish | _Join | Arrival, grown: dict[str, Node], fresh: set[Bundle]) -> None:
        """Note a fact: nodes with more room than before go into `grown`, bundles that nothing waited for before into `fresh`."""
        if isinstance(what, _Join):
            node = self._fleet.join(what.instance_id, now)
            grown.update({} if node is None else {node.name: node})
            return
        self._moved_at = now
        if isinstance(what, _Finish):
            self._fleet.finish(what.node, what.taken, now)
            grown[what.node.name] = what.node
            self._running -= 1
            self.log.finished += 1
            return
        if what.bundle not in self._waiting:
            self._waiting[what.bundle] = deque()
            fresh.add(what.bundle)
        self._waiting[what.bundle].append(_Waiting(what.at, what.duration_s, what.count))
        self._to_come -= what.count
        self.log.arrived += what.count

    def _start(self, now: float, grown: dict[str, Node], fresh: set[Bundle]) -> None:
        """Start what waits, the oldest first. What waited before has no room but on nodes that have grown."""
        if not grown and not fresh:
            return
        everywhere = list(self._fleet.nodes.values())
        for bundle in sorted(self._waiting, key=lambda each: self._waiting[each][0].at):
            queue = self._waiting[bundle]
            offers = Offers(everywhere if bundle in fresh else grown.values(), bundle, self._config.device_names)
            while queue and (found := offers.take()) is not None:
                self._begin(now, queue[0], *found)
                if not queue[0].left:
                    queue.popleft()
            if not queue:
                del self._waiting[bundle]

    def _begin(self, now: float, waiting: _Waiting, node: Node, taken: Taken) -> None:
        waiting.left -= 1
        self._running += 1
        self._moved_at = now
        self._fleet.started(node, taken[0], now)
        self.log.waits.append((now - waiting.at, 1))
        self._push(now + waiting.duration_s, _Finish(node, taken))

    def _cycle(self, now: float) -> None:
        self._cycle_at = math.inf
        plan = self.last_plan = self._planner(self._fleet.state(now, self.waiting))
        self.log.plans += 1
        for joins_at, instance_id in self._fleet.carry_out(plan, now):
            self._push(joins_at, _Join(instance_id))
        self._start(now, {each.instance_id: self._fleet.nodes[each.instance_id] for each in plan.growths}, set())
        if not plan.is_empty:
            self._wake(now + self._assumed.reaction_s)
        due = self._fleet.next_due(now)
        if due is not None:
            self._wake(due)

    def _sample(self, now: float) -> None:
        fleet, names = self._fleet, self.log.resources
        self.log.samples.append(
            Sample(
                now,
                fleet.cost_per_hour,
                fleet.starting,
                fleet.joined,
                sum(each.left for queue in self._waiting.values() for each in queue),
                self._running,
                tuple([fleet.used[name] for name in names]),
                tuple([fleet.total[name] for name in names]),
            )
        )
