"""Made-up clusters, the same for both sides: seeded node types, nodes and demands in the model's terms."""

import random
from dataclasses import dataclass, field

from rayscaler.model.demand import Bundle, Demand, Gang
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources

GIB = 1 << 30

NODE_TYPES = (
    NodeType("small", Resources.of(CPU=8, memory=32 * GIB)),
    NodeType("large", Resources.of(CPU=32, memory=128 * GIB)),
    NodeType("gpu", Resources.of(CPU=16, memory=64 * GIB, GPU=4)),
)
"""Three usual kinds of node."""


@dataclass(frozen=True)
class Workload:
    """A cluster's nodes, and what is asked of it."""

    node_types: tuple[NodeType, ...]
    nodes: tuple[RayNode, ...]
    demands: tuple[Demand, ...]
    gangs: tuple[Gang, ...] = ()


@dataclass(frozen=True)
class Planned:
    """What one call of a planner took and gave: launches by node type, and how many were left out of which demand (its index), or of which group."""

    took_s: float
    launches: dict[str, int]
    left: dict[int, int] = field(default_factory=dict)
    left_gangs: int = 0


def make(seed: int, *, nodes: int, shapes: int, demands: int) -> Workload:
    """Make `nodes` nodes that are mostly full, and `demands` demands of `shapes` different shapes; each fits some node type."""
    rng = random.Random(seed)
    made = tuple(_node(rng, index) for index in range(nodes))
    bundles = _bundles(rng, shapes)
    counts = _split(rng, demands, shapes)
    return Workload(NODE_TYPES, made, tuple(Demand(bundle, count) for bundle, count in zip(bundles, counts, strict=True)))


def _node(rng: random.Random, index: int) -> RayNode:
    node_type = rng.choice(NODE_TYPES)
    free = {name: units // 10_000 // rng.choice((4, 8)) * 10_000 for name, units in node_type.resources.items_sorted}
    return RayNode(
        ray_node_id=f"{index:056x}",
        instance_id=f"i{index:04d}",
        node_type=node_type.name,
        status=NodeStatus.RUNNING,
        total=node_type.resources,
        available=Resources(free),
    )


def _bundles(rng: random.Random, shapes: int) -> list[Bundle]:
    found: dict[Bundle, None] = {}
    while len(found) < shapes:
        amounts = {"CPU": rng.choice((0.5, 1, 2, 3, 4, 6, 8)), "memory": rng.randrange(1, 17) * GIB}
        if rng.random() < 0.2:
            amounts["GPU"] = rng.choice((0.5, 1, 2))
        found[Bundle(Resources.of(**amounts))] = None
    return list(found)


def _split(rng: random.Random, total: int, parts: int) -> list[int]:
    """Split `total` into `parts` counts of at least one."""
    cuts = sorted(rng.sample(range(1, total), parts - 1))
    return [high - low for low, high in zip([0, *cuts], [*cuts, total], strict=True)]
