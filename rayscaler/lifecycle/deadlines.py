"""Deadlines per phase: who is overdue, and what follows. Progress in one phase never uses up the next one's time (B5)."""

from collections.abc import Iterable
from dataclasses import dataclass

from rayscaler.model.instance import Instance, InstanceStatus, Phase, Trouble

PATIENCE = {Trouble.UNSCHEDULABLE: 1 / 10, Trouble.GATED: 1 / 10, Trouble.RETRIED: 1 / 30, Trouble.HOPELESS: 0.0}
"""Which part of its phase's time a trouble may last before the instance counts as stuck: of 600 s for a machine 60 (complaint H1: the second
choice within 90 s), of 900 s for an image 30, in which kubelet has tried three times, of 300 s to start 10. Then others take its place; it
is not ended for it, since a machine that takes minutes to come still comes (complaint B5)."""


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
            drained_by = max(instance.since, self.sight_since) + self.draining_s
            return None if instance.node_dead_since is not None else max(drained_by, instance.ends_at or 0.0)
        if instance.status is InstanceStatus.TERMINATING:
            return instance.since + self.terminating_s
        if instance.status is InstanceStatus.REJOINING:
            return max(instance.since, self.sight_since) + self.rejoining_s
        if instance.is_in_flight and instance.trouble is not Trouble.GATED:
            return max(instance.phase_since, instance.since, self.sight_since) + self._of_phase(instance.phase)
        return None

    def stuck_at(self, instance: Instance) -> float | None:
        """Return the wall second at which an instance in flight has been in trouble for too long; None without trouble, or once that is noted."""
        is_new = instance.is_in_flight and instance.status is not InstanceStatus.REJOINING and instance.stuck_since is None
        if instance.trouble is None or not is_new:
            return None
        return max(instance.trouble_since, self.sight_since) + PATIENCE[instance.trouble] * self._of_phase(instance.phase)

    def _of_phase(self, phase: Phase) -> float:
        return {
            Phase.PULLING: self.pulling_s,
            Phase.STARTING: self.starting_s,
            Phase.REGISTERING: self.registering_s,
        }.get(phase, self.unscheduled_s)


def overdue(instances: Iterable[Instance], deadlines: Deadlines, now: float) -> list[Instance]:
    """Return those whose phase has outlasted its deadline."""
    return [each for each in instances if (due := deadlines.of(each)) is not None and due <= now]


def stuck(instances: Iterable[Instance], deadlines: Deadlines, now: float) -> list[Instance]:
    """Return those whose trouble has just outlasted all patience."""
    return [each for each in instances if (at := deadlines.stuck_at(each)) is not None and at <= now]
