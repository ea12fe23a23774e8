"""How far workers of a type may grow in place: `resize` of a node type, checked against what the type brings as it is launched. Pure."""

from collections.abc import Collection

from rayscaler.config import quantity, shown
from rayscaler.config.reader import Reader
from rayscaler.model.nodetype import GROWS, RESIZE_TIMEOUT_S, NodeType, Resize
from rayscaler.model.resources import Resources, to_text

KEYS = {"maxResources", "timeout"}


def read(reader: Reader, path: str, value: object, node_type: NodeType, stated: Collection[str]) -> Resize | None:
    """Return how far a worker may grow, None where it keeps its size; `stated` names what the type speaks of, also of 0."""
    raw = reader.mapping(path, value, KEYS)
    if value is None or not isinstance(value, dict):
        return None
    if node_type.hosts_per_replica > 1:
        reader.problem(path, value, "hosts of a replica keep their size: leave it out, or hostsPerReplica")
    most = _most(reader, f"{path}.maxResources", raw.get("maxResources"), node_type.resources, {*node_type.resources, *stated})
    timeout_s = _timeout_s(reader, f"{path}.timeout", raw.get("timeout"))
    return Resize(Resources({**node_type.resources, **most}), timeout_s)


def _most(reader: Reader, path: str, value: object, brings: Resources, named: Collection[str]) -> Resources:
    if value is None or value == {}:
        reader.problem(path, value, "is needed: to how much of CPU, of memory or of both a worker may grow")
    found = reader.resources(path, value)
    if any(each.path.startswith(path) for each in reader.problems):
        return Resources()
    for name, said in reader.mapping(path, value).items():
        where = shown.under(path, name)
        if name not in GROWS:
            reader.problem(where, said, "only CPU and memory grow in place; all else stays as it is launched: leave it out")
        elif name not in named:
            reader.problem(where, said, f"the type does not say how much {name} it is launched with: say it in its resources")
        elif found.get(name, 0) < brings.get(name, 0):
            reader.problem(where, said, f"is below what the type is launched with, {to_text(name, brings.get(name, 0))}")
    return found


def _timeout_s(reader: Reader, path: str, value: object) -> float:
    if value is None:
        return RESIZE_TIMEOUT_S
    try:
        found = quantity.duration_s(value)
    except ValueError as error:
        reader.problem(path, value, str(error))
        return RESIZE_TIMEOUT_S
    if found <= 0:
        reader.problem(path, value, "must be above 0s")
    return found
