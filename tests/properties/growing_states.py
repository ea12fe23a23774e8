"""Random states in which most types have workers that may grow in place, and most of these are busy."""

from dataclasses import replace

from hypothesis import strategies as st

from rayscaler.model.demand import Bundle, Demand
from rayscaler.model.instance import Growing, Instance, InstanceStatus
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import NodeType, Resize
from rayscaler.model.resources import UNIT, Resources
from rayscaler.model.state import ClusterState
from tests.properties.states import NOW, cluster_states

SHARES = st.sampled_from([0, 0, 0, 1, 2])
"""Halves of a node that are free."""

COMMON = st.builds(
    lambda cpus, memory: Bundle(Resources({"CPU": cpus * UNIT // 2, "memory": memory * UNIT})),
    st.integers(1, 6),
    st.sampled_from([0, 0, 1, 2, 3]),
)
"""What most nodes have, or may grow to."""


@st.composite
def growing_states(draw, *, is_steady: bool = False, device: str | None = None) -> ClusterState:
    state = draw(cluster_states(is_steady=is_steady, device=device))
    types = tuple(draw(growable(each)) for each in state.config.node_types)
    if not types:
        types = (NodeType("ant", Resources.of(CPU=1), resize=Resize(Resources.of(CPU=4))),)
    config = replace(state.config, node_types=types)
    names = [each.name for each in types if each.hosts_per_replica == 1]
    more = [
        draw(workers(f"w{number}", config.node_type(draw(st.sampled_from(names))))) for number in range(draw(st.integers(1, 4))) if names
    ]
    wanted = draw(st.lists(st.builds(Demand, COMMON, st.sampled_from([1, 2, 3, 7])), max_size=3))
    return replace(
        state,
        config=config,
        demands=(*state.demands, *wanted),
        instances=(*state.instances, *(instance for instance, _ in more)),
        nodes=(*state.nodes, *(row for _, row in more)),
        learned=tuple((name, total) for name, total in state.learned if draw(st.booleans())),
    )


@st.composite
def growable(draw, kind: NodeType) -> NodeType:
    """Return a type whose workers may grow, if they are no hosts of a replica, by CPU for sure."""
    if kind.hosts_per_replica > 1:
        return kind
    brings = Resources({"CPU": UNIT, **kind.resources})
    kinds = [name for name in ("CPU", "memory") if name in brings]
    most = {name: brings[name] + draw(st.sampled_from([1, 2, 6])) * UNIT for name in kinds}
    return replace(kind, resources=brings, resize=Resize(Resources({**brings, **most})))


@st.composite
def workers(draw, name: str, kind: NodeType) -> tuple[Instance, RayNode]:
    """Return a worker that has joined, some of which have grown before or are growing now, and what Ray shows of it."""
    most = kind.resize.resources if kind.resize else kind.resources
    total = Resources({each: draw(st.sampled_from([amount, amount, most[each]])) for each, amount in kind.resources.items()})
    growing = Growing(most, NOW - 1) if draw(st.sampled_from([False] * 4 + [True])) else None
    instance = Instance(name, kind.name, InstanceStatus.RUNNING, 0.0, requested_at=1.0, ray_node_id=f"n-{name}", growing=growing)
    free = Resources({each: amount * draw(SHARES) // 2 for each, amount in total.items()})
    instance = replace(instance, ungrown_until=draw(st.sampled_from([0.0] * 4 + [NOW + 9])), made_as=draw(st.sampled_from([None, kind])))
    labels = tuple(sorted(kind.node_labels().items()))
    return instance, RayNode(f"n-{name}", name, kind.name, NodeStatus.RUNNING, total, free, labels)
