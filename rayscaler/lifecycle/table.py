"""The transition table: (status, fact) -> status, with a comment on every edge. An illegal move raises and changes nothing."""

from dataclasses import replace
from enum import StrEnum

from rayscaler.model.instance import Instance, InstanceStatus, Reason

REQUESTED = InstanceStatus.REQUESTED
ALLOCATED = InstanceStatus.ALLOCATED
RUNNING = InstanceStatus.RUNNING
REJOINING = InstanceStatus.REJOINING
DRAINING = InstanceStatus.DRAINING
TERMINATING = InstanceStatus.TERMINATING
TERMINATED = InstanceStatus.TERMINATED
LAUNCH_FAILED = InstanceStatus.LAUNCH_FAILED


class Fact(StrEnum):
    """What can happen to an instance."""

    EXISTS = "the executor has it"
    REFUSED = "the executor refused the launch for good"
    JOINED = "Ray shows a live node of it"
    DRAIN_ASKED = "we ask Ray to drain its node"
    DRAIN_VOID = "the drain was refused, timed out, or died with its node or its session"
    HEAD_LOST = "another Ray cluster answers in place of the one it was part of"
    END_ASKED = "we ask the executor to end it"
    GONE = "the executor has it no more"


EDGES: dict[tuple[InstanceStatus, Fact], InstanceStatus] = {
    (REQUESTED, Fact.EXISTS): ALLOCATED,  # the launch was taken
    (REQUESTED, Fact.REFUSED): LAUNCH_FAILED,  # nothing was made: the node type is backed off
    (REQUESTED, Fact.JOINED): RUNNING,  # Ray was faster than the executor's answer
    (REQUESTED, Fact.END_ASKED): TERMINATING,  # no longer wanted, or the launch has no known outcome
    (REQUESTED, Fact.GONE): LAUNCH_FAILED,  # asked for, and a complete later list does not have it
    (ALLOCATED, Fact.EXISTS): ALLOCATED,  # another phase
    (ALLOCATED, Fact.JOINED): RUNNING,  # the end of a launch
    (REQUESTED, Fact.HEAD_LOST): REQUESTED,  # it will find the new head
    (ALLOCATED, Fact.HEAD_LOST): ALLOCATED,  # likewise
    (ALLOCATED, Fact.END_ASKED): TERMINATING,  # overdue or no longer wanted; it never joined
    (ALLOCATED, Fact.GONE): LAUNCH_FAILED,  # it died before it joined: counts as a failure of its type
    (RUNNING, Fact.EXISTS): RUNNING,  # seen again
    (RUNNING, Fact.JOINED): RUNNING,  # seen again, or on a new node
    (RUNNING, Fact.DRAIN_ASKED): DRAINING,  # idle, outdated or in excess
    (RUNNING, Fact.END_ASKED): TERMINATING,  # its node died and no other of it lives
    (RUNNING, Fact.GONE): TERMINATED,  # lost
    (RUNNING, Fact.HEAD_LOST): REJOINING,  # its supervisor brings a new raylet to the new head
    (REJOINING, Fact.EXISTS): REJOINING,  # seen again
    (REJOINING, Fact.JOINED): RUNNING,  # the same instance, a new node
    (REJOINING, Fact.HEAD_LOST): REJOINING,  # the next head came before it had joined the last one
    (REJOINING, Fact.END_ASKED): TERMINATING,  # it did not come in time, or is not wanted any more
    (REJOINING, Fact.GONE): TERMINATED,  # lost; no failure of its type, for it had joined once
    (DRAINING, Fact.EXISTS): DRAINING,  # seen again
    (DRAINING, Fact.JOINED): DRAINING,  # still leaving
    (DRAINING, Fact.DRAIN_VOID): RUNNING,  # work had come, or nobody drains it any more
    (DRAINING, Fact.HEAD_LOST): REJOINING,  # a drain dies with its cluster
    (DRAINING, Fact.END_ASKED): TERMINATING,  # drained: its node is dead
    (DRAINING, Fact.GONE): TERMINATED,  # lost while leaving
    (TERMINATING, Fact.EXISTS): TERMINATING,  # not gone yet
    (TERMINATING, Fact.JOINED): TERMINATING,  # joined while being ended: it takes no part in plans
    (TERMINATING, Fact.REFUSED): LAUNCH_FAILED,  # the launch and its cancellation crossed
    (TERMINATING, Fact.END_ASKED): TERMINATING,  # asked again: the first call had no effect in time
    (TERMINATING, Fact.HEAD_LOST): TERMINATING,  # the executor goes on
    (TERMINATING, Fact.GONE): TERMINATED,  # done
}


class IllegalTransition(Exception):
    """A move that the table does not have: a bug of the caller, never of the world."""


def move(instance: Instance, fact: Fact, now: float, *, reason: Reason | None = None, detail: str | None = None) -> Instance:
    """Return `instance` after `fact`; reason and detail change only with the status."""
    after = EDGES.get((instance.status, fact))
    if after is None:
        raise IllegalTransition(f"{instance.instance_id}: {instance.status.value} has no edge for: {fact.value}")
    if after is instance.status:
        return instance
    return replace(
        instance,
        status=after,
        since=now,
        reason=instance.reason if reason is None else reason,
        detail=instance.detail if detail is None else detail,
    )


def can(instance: Instance, fact: Fact) -> bool:
    """Whether the table has an edge for `fact` from the instance's status."""
    return (instance.status, fact) in EDGES
