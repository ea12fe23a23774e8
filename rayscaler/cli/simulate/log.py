"""What happened in a simulation, as it happens. Reckons nothing but what must be counted on the way; `outcome` reckons the rest."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import NamedTuple

from rayscaler.model.instance import Reason


class Sample(NamedTuple):
    """How things stand from second `at` on: nodes by their number, amounts of joined workers in the order of `Log.resources`."""

    at: float
    cost_per_hour: float
    starting: int
    joined: int
    waiting: int
    running: int
    used: tuple[int, ...]
    total: tuple[int, ...]


@dataclass(eq=False)
class Log:
    """Everything that is told of a simulation.

    `waits` are seconds from arrival to start, with how many waited so long. A launch counts as relaunched if it was called off, and its
    type is launched again before it would have joined: calling it off gained nothing.
    """

    resources: tuple[str, ...]
    arrived: int = 0
    finished: int = 0
    waits: list[tuple[float, int]] = field(default_factory=list)
    launches: Counter[str] = field(default_factory=Counter)
    ends: Counter[str] = field(default_factory=Counter)
    cancelled: Counter[str] = field(default_factory=Counter)
    relaunched: Counter[str] = field(default_factory=Counter)
    launch_reasons: Counter[Reason] = field(default_factory=Counter)
    end_reasons: Counter[Reason] = field(default_factory=Counter)
    paid_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    spared_s: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    """For how long work that asked for no accelerator had a node with accelerators for itself."""
    peak: Counter[str] = field(default_factory=Counter)
    samples: list[Sample] = field(default_factory=list)
    plans: int = 0
    _there: Counter[str] = field(default_factory=Counter)
    _called_off: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    def launch(self, node_type: str, reason: Reason, now: float) -> None:
        """Note a launch."""
        self.launches[node_type] += 1
        self.launch_reasons[reason] += 1
        self._there[node_type] += 1
        self.peak[node_type] = max(self.peak[node_type], self._there[node_type])
        gone = self._called_off[node_type]
        gone[:] = [joins_at for joins_at in gone if joins_at > now]
        if gone:
            gone.pop(0)
            self.relaunched[node_type] += 1

    def call_off(self, node_type: str, reason: Reason, requested_at: float, now: float, joins_at: float) -> None:
        """Note the end of a launch that has not joined, and would have at `joins_at`."""
        self.cancelled[node_type] += 1
        self._called_off[node_type].append(joins_at)
        self._end(node_type, reason, requested_at, now)

    def end(self, node_type: str, reason: Reason, requested_at: float, now: float) -> None:
        """Note the end of a node."""
        self.ends[node_type] += 1
        self._end(node_type, reason, requested_at, now)

    def _end(self, node_type: str, reason: Reason, requested_at: float, now: float) -> None:
        self.end_reasons[reason] += 1
        self.paid_s[node_type] += now - requested_at
        self._there[node_type] -= 1
