"""The most that was in use on each node for at least its idle timeout: what consolidation goes by. Pure.

Two spans follow each other, each as long as the idle timeout: one that is over and one that goes on. So what is told covers one to two idle
timeouts, and a node of which less was seen is not told of at all.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rayscaler.model.node import RayNode
from rayscaler.model.nodetype import NEVER, ClusterConfig
from rayscaler.model.raynames import GROUP_MARK
from rayscaler.model.resources import NODE_PREFIX, Resources

UNPLANNED = "object_store_memory"
"""Used without being asked for."""


@dataclass(frozen=True)
class Peak:
    """The most in use since `since` (wall seconds), and in the idle timeout `before`; None while that is not over."""

    since: float
    used: Resources
    before: Resources | None = None


Known = Mapping[str, Peak]


def follow(known: Known, config: ClusterConfig, nodes: Iterable[RayNode], at: float) -> dict[str, Peak]:
    """Return what is known by ray_node_id once nodes were seen like this at `at`; nothing where the definition asks for no consolidation."""
    if not config.consolidation:
        return {}
    found: dict[str, Peak] = {}
    for row in nodes:
        timeout_s = config.idle_timeout_of(row.node_type)
        if row.is_head or not row.takes_work or timeout_s == NEVER or config.node_type(row.node_type) is None:
            continue
        used, before = _used(row), known.get(row.ray_node_id)
        if before is None:
            found[row.ray_node_id] = Peak(at, used)
        elif at - before.since >= timeout_s:
            found[row.ray_node_id] = Peak(at, used, _most(before.used, used))
        else:
            found[row.ray_node_id] = Peak(before.since, _most(before.used, used), before.before)
    return found


def whole(known: Known) -> tuple[tuple[str, Resources], ...]:
    """Return the most that was in use on each node that was seen for its idle timeout."""
    return tuple((name, _most(each.before, each.used)) for name, each in sorted(known.items()) if each.before is not None)


def _used(row: RayNode) -> Resources:
    free = row.available.amounts
    return Resources(
        {
            name: max(0, amount - free.get(name, 0))
            for name, amount in row.total.items_sorted
            if not name.startswith(NODE_PREFIX) and GROUP_MARK not in name and name != UNPLANNED
        }
    )


def _most(one: Resources, other: Resources) -> Resources:
    if one == other:
        return one
    return Resources({name: max(one.get(name, 0), other.get(name, 0)) for name in {**one.amounts, **other.amounts}})
