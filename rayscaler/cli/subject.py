"""What a question of `rayscaler explain` is about: a shape, a node or a node type. Pure."""

import difflib
from collections.abc import Iterable, Sequence

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.config import quantity
from rayscaler.errors import InvalidRequest, Problem
from rayscaler.model.resources import UNIT

PREFIX = 4
"""Characters of an id that are enough to mean it."""
NEAR = 5
"""Names told when a subject is not known."""
REFUSED = "the changed definition of {} is not taken, `rayscaler explain` says why"
"""Added then: what is new in it is not known either."""


def about(clusters: Iterable[pb.ClusterExplanation], subject: str) -> list[pb.ClusterExplanation]:
    """Return what the explanations say of `subject`; all of it if that is "". Raises InvalidRequest naming near ones.

    A shape is written like CPU=4,GPU=1 or as it is shown, a gang also by its id; instances, nodes and gangs go by a prefix of their id too.
    """
    known = list(clusters)
    if not subject:
        return known
    wanted = _shape(subject)
    for is_exact in (True, False):
        found = [each for cluster in known if (each := _part(cluster, subject, wanted, is_exact=is_exact)) is not None]
        if found:
            return found
    raise InvalidRequest(Problem("SUBJECT", repr(subject), _hint(known, subject)))


def _part(cluster: pb.ClusterExplanation, subject: str, wanted: dict[str, int] | None, *, is_exact: bool) -> pb.ClusterExplanation | None:
    def names(*ids: str) -> bool:
        return subject in ids if is_exact else len(subject) >= PREFIX and any(each.startswith(subject) for each in ids)

    shapes = [each for each in cluster.shapes if _is_shape(each, subject, wanted) or (each.gang_id and names(each.gang_id))]
    nodes = [each for each in cluster.nodes if names(*filter(None, (each.instance_id, each.ray_node_id)))]
    types = [each for each in cluster.node_types if is_exact and each.name == subject]
    if not (shapes or nodes or types):
        return None
    return pb.ClusterExplanation(
        cluster=cluster.cluster, at=cluster.at, shapes=shapes, nodes=nodes, node_types=types, definition=cluster.definition
    )


def _is_shape(each: pb.ShapeExplanation, subject: str, wanted: dict[str, int] | None) -> bool:
    is_meant = wanted is not None and each.HasField("bundle") and dict(each.bundle.resources) == wanted
    return is_meant or _plain(each.shape) == _plain(subject)


def _plain(shape: str) -> str:
    return "".join(shape.split())


def _shape(subject: str) -> dict[str, int] | None:
    """Return the amounts of CPU=4,GPU=1; None for what is not written so. Raises InvalidRequest for a bad amount."""
    if "=" not in subject or subject.startswith("{"):
        return None
    amounts: dict[str, int] = {}
    problems = []
    for part in subject.split(","):
        name, _, value = part.strip().partition("=")
        try:
            amounts[name.strip()] = quantity.amount(name.strip(), value.strip())
        except ValueError as error:
            problems.append(Problem("SUBJECT", repr(part.strip()), f"{error}; a shape is written like CPU=4,GPU=1"))
    if problems:
        raise InvalidRequest(*problems)
    return {name: amount for name, amount in amounts.items() if amount}


def _hint(clusters: Sequence[pb.ClusterExplanation], subject: str) -> str:
    return "; ".join([_near(clusters, subject), *(REFUSED.format(each.cluster) for each in clusters if each.definition.problems)])


def _near(clusters: Iterable[pb.ClusterExplanation], subject: str) -> str:
    shapes, nodes, types = set[str](), set[str](), set[str]()
    for cluster in clusters:
        shapes |= {each.gang_id or _typed(each) for each in cluster.shapes}
        nodes |= {name for each in cluster.nodes for name in (each.instance_id, each.ray_node_id) if name}
        types |= {each.name for each in cluster.node_types}
    near = difflib.get_close_matches(subject, sorted(shapes | nodes | types), NEAR)
    if near:
        return f"no pending shape, node or node type is called so; did you mean {' or '.join(near)}?"
    parts = (("pending shapes", shapes), ("nodes", nodes), ("node types", types))
    told = "; ".join(f"{kind}: {_few(sorted(names))}" for kind, names in parts)
    return f"no pending shape, node or node type is called so; {told}"


def _few(names: list[str]) -> str:
    more = f" and {len(names) - NEAR} more" if len(names) > NEAR else ""
    return ", ".join(names[:NEAR]) + more if names else "none"


def _typed(each: pb.ShapeExplanation) -> str:
    """Return a shape as it can be typed."""
    amounts = sorted(each.bundle.resources.items())
    return ",".join(f"{name}={amount // UNIT if amount % UNIT == 0 else amount / UNIT}" for name, amount in amounts) or each.shape
