"""The model to head.proto: explanations."""

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.model.explanation import (
    Because,
    DemandKind,
    Explanation,
    NodeExplanation,
    OnTheWay,
    ShapeExplanation,
    TypeExplanation,
)
from rayscaler.model.reasons import MEANINGS, Mover
from rayscaler.server.answers import bundle, definition_status, mix, timestamp

_MOVER = {
    Mover.NOBODY: pb.MOVER_NOBODY,
    Mover.USER: pb.MOVER_USER,
    Mover.OPERATOR: pb.MOVER_OPERATOR,
    Mover.WORLD: pb.MOVER_WORLD,
}
_KIND = {
    DemandKind.TASKS: pb.DEMAND_KIND_TASKS,
    DemandKind.GANG: pb.DEMAND_KIND_GANG,
    DemandKind.CONSTRAINT: pb.DEMAND_KIND_CONSTRAINT,
}


def cluster_explanation(explanation: Explanation) -> pb.ClusterExplanation:
    """Return one cluster's explanation."""
    return pb.ClusterExplanation(
        cluster=explanation.cluster,
        at=timestamp(explanation.at),
        shapes=[_shape(each) for each in explanation.shapes],
        nodes=[_node(each) for each in explanation.nodes],
        node_types=[_node_type(each) for each in explanation.node_types],
        definition=definition_status(explanation.definition),
        mix=None if explanation.mix is None else mix(explanation.mix),
    )


def _because(because: Because) -> pb.Because:
    text, mover = MEANINGS[because.reason]
    return pb.Because(
        reason=because.reason.value,
        text=text,
        detail=because.detail,
        since=timestamp(because.since),
        until=None if because.until is None else timestamp(because.until),
        mover=_MOVER[mover],
    )


def _shape(each: ShapeExplanation) -> pb.ShapeExplanation:
    return pb.ShapeExplanation(
        kind=_KIND[each.kind],
        shape=each.shape,
        bundle=None if each.bundle is None else bundle(each.bundle),
        gang_id=each.gang_id,
        count=each.count,
        because=_because(each.because),
        on_the_way=[_on_the_way(way) for way in each.on_the_way],
    )


def _on_the_way(each: OnTheWay) -> pb.OnTheWay:
    until = None if each.until is None else timestamp(each.until)
    return pb.OnTheWay(node_type=each.node_type, nodes=each.nodes, count=each.count, until=until)


def _node(each: NodeExplanation) -> pb.NodeExplanation:
    return pb.NodeExplanation(
        instance_id=each.instance_id,
        ray_node_id=each.ray_node_id,
        node_type=each.node_type,
        status="" if each.status is None else each.status.value,
        because=_because(each.because),
    )


def _node_type(each: TypeExplanation) -> pb.TypeExplanation:
    return pb.TypeExplanation(
        name=each.name,
        running=each.running,
        in_flight=each.in_flight,
        leaving=each.leaving,
        min_workers=each.min_workers,
        max_workers=each.max_workers,
        because=_because(each.because),
        failures=each.failures,
        last_error=each.last_error,
    )
