"""What a change of an instance is worth to the cluster's task: a decision, a word to people, or nothing. Pure."""

from enum import IntEnum

from rayscaler.model.instance import Instance, InstanceStatus


class Worth(IntEnum):
    """What has changed is worth so much, at most."""

    NOTHING = 0
    TELLING = 1
    """A launch gets on: no plan rests on that."""
    DECIDING = 2
    """A plan may rest on it."""


def worth(before: Instance | None, after: Instance) -> Worth:
    """Return what it is worth that an instance was `before` and is `after` now; None is one that was not known."""
    if before is None:
        return Worth.DECIDING
    if before == after:
        return Worth.NOTHING
    return Worth.TELLING if _weight(before) == _weight(after) else Worth.DECIDING


def _weight(instance: Instance) -> tuple[object, ...]:
    """Return what of an instance a plan may rest on: not how far a launch has come, nor what is said of it."""
    return (
        InstanceStatus.ALLOCATED if instance.is_launching else instance.status,
        instance.ray_node_id,
        instance.node_dead_since,
        instance.drain_accepted,
        instance.drain_not_before,
        instance.made_as,
        instance.trouble,
        instance.stuck_since,
        instance.ends_at,
        instance.growing,
        instance.ungrown_until,
        instance.replica,
        instance.host,
        instance.membership,
    )
