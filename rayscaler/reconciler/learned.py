"""What nodes of each type really bring, as they joined: less memory than its definition says, an object store, an accelerator's name. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rayscaler.model.instance import Instance
from rayscaler.model.node import RayNode
from rayscaler.model.nodetype import GROWS, ClusterConfig, NodeType
from rayscaler.model.raynames import GROUP_MARK
from rayscaler.model.resources import NODE_PREFIX, Resources

KEPT_S = 3600.0
"""What the last node of a type brought counts for so long after it was seen; then the definition is believed again, at the price of one node."""


@dataclass(frozen=True)
class Brought:
    """The most that nodes of one make had of each resource, and until when that was seen (wall seconds)."""

    made_as: NodeType
    total: Resources
    seen_at: float


Known = Mapping[str, Brought]


def follow(
    known: Known, config: ClusterConfig, instances: Mapping[str, Instance], nodes: Iterable[RayNode], at: float
) -> dict[str, Brought]:
    """Return what is known after a snapshot: of each type that has nodes of today's make what they have, of others what they had last."""
    found: dict[str, Brought] = {}
    for row in nodes:
        instance = instances.get(row.instance_id)
        if instance is None or not row.is_alive or instance.ray_node_id != row.ray_node_id or instance.made_as is None:
            continue
        node_type = config.node_type(instance.node_type)
        if node_type is not None and instance.made_as.is_made_like(node_type):
            before = found.get(node_type.name)
            total = row.total if node_type.resize is None else _ungrown(row.total, node_type)
            found[node_type.name] = Brought(node_type, _most(before.total if before else Resources(), total), at)
    kept = {name: each for name, each in known.items() if at - each.seen_at < KEPT_S}
    return {**kept, **found}


def totals(known: Known, config: ClusterConfig) -> tuple[tuple[str, Resources], ...]:
    """Return what a node of each type brings, where that is known and not what its definition says anyway."""
    pairs = ((config.node_type(name), each) for name, each in sorted(known.items()))
    return tuple(
        (now.name, each.total) for now, each in pairs if now is not None and each.made_as.is_made_like(now) and each.total != now.resources
    )


def _ungrown(total: Resources, node_type: NodeType) -> Resources:
    """Return what a node had before it grew, at most: the next one is launched as the definition says."""
    made = node_type.resources
    return Resources({name: min(amount, made.get(name, amount)) if name in GROWS else amount for name, amount in total.items_sorted})


def _most(most: Resources, total: Resources) -> Resources:
    own = {name: amount for name, amount in total.items_sorted if not name.startswith(NODE_PREFIX) and GROUP_MARK not in name}
    if most.amounts == own:
        return most
    return Resources({name: max(most.get(name, 0), own.get(name, 0)) for name in (*most, *own)})
