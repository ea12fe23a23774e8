"""What a change of an instance means for the cluster's task: something to decide, something to tell, or nothing. Pure."""

from enum import IntEnum

from rayscaler.model.instance import Instance, InstanceStatus


class News(IntEnum):
    """What has changed, at most."""

    NONE = 0
    STEP = 1
    """A launch gets on: there is something to tell, and nothing to decide."""
    CHANGE = 2
    """Something that a plan may rest on."""


def news(before: Instance | None, after: Instance) -> News:
    """Return what it means that an instance was `before` and is `after` now; None is one that was not known."""
    if before is None:
        return News.CHANGE
    if before == after:
        return News.NONE
    return News.STEP if _weight(before) == _weight(after) else News.CHANGE


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
    )
