"""Deadlines per phase: who is overdue, and what follows. Progress in one phase never uses up the next one's time (B5)."""

from collections.abc import Iterable
from dataclasses import dataclass

from rayscaler.model.instance import Instance, InstanceStatus, Phase


@dataclass(frozen=True)
class Deadlines:
    """Seconds an instance may stay in each phase.

    `sight_since` is the wall second since which its going on could be seen: what nobody could watch does not make it overdue. Only
    an end that was asked for runs on without sight, since asking again harms nobody.
    """

    unscheduled_s: float = 600.0
    pulling_s: float = 900.0
    starting_s: float = 300.0
    registering_s: float = 180.0
    rejoining_s: float = 150.0
    draining_s: float = 60.0
    terminating_s: float = 120.0
    sight_since: float = 0.0

    def of(self, instance: Instance) -> float | None:
        """Return the wall second at which the instance is overdue, or None where no deadline runs."""
        if instance.status is InstanceStatus.DRAINING:
            return None if instance.node_dead_since is not None else max(instance.since, self.sight_since) + self.draining_s
        if instance.status is InstanceStatus.TERMINATING:
            return instance.since + self.terminating_s
        if instance.status is InstanceStatus.REJOINING:
            return max(instance.since, self.sight_since) + self.rejoining_s
        if instance.is_in_flight:
            return max(instance.phase_since, instance.since, self.sight_since) + self._of_phase(instance.phase)
        return None

    def _of_phase(self, phase: Phase) -> float:
        return {
            Phase.PULLING: self.pulling_s,
            Phase.STARTING: self.starting_s,
            Phase.REGISTERING: self.registering_s,
        }.get(phase, self.unscheduled_s)


def overdue(instances: Iterable[Instance], deadlines: Deadlines, now: float) -> list[Instance]:
    """Return those whose phase has outlasted its deadline."""
    return [each for each in instances if (due := deadlines.of(each)) is not None and due <= now]
