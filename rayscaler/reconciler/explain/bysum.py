"""Why a task waits beside nodes that have room for it: Ray sends tasks by the sum of a node's devices (ray-project/ray#54729). Pure."""

from collections.abc import Iterable

from rayscaler.model.demand import Bundle
from rayscaler.model.node import RayNode
from rayscaler.model.resources import UNIT


def hint(bundle: Bundle, nodes: Iterable[RayNode], units: frozenset[str]) -> str:
    """Return what to tell of a bundle that Ray does not begin though it has room; empty where Ray's sums do not explain it.

    A raylet keeps what was sent to it for as long as the sum of its devices would do, though none of them has as much free.
    """
    asked = [(name, amount) for name, amount in bundle.resources.items_sorted if name in units]
    luring = sum(any(_is_in_parts(row, *each) for each in asked) and _has_sum(row, bundle) for row in nodes if row.takes_work)
    if not luring:
        return ""
    return (
        f"Ray sends tasks by the sum of a node's devices and keeps them there (ray-project/ray#54729): {luring} in use with so much "
        "free in all, and on no device by itself; ask for whole devices, or for parts that fill one, such as a half or a third"
    )


def _is_in_parts(row: RayNode, name: str, amount: int) -> bool:
    total, free = row.total.get(name, 0), row.available.get(name, 0)
    return total > UNIT and 0 < free < total and bool(amount % UNIT or free % UNIT)


def _has_sum(row: RayNode, bundle: Bundle) -> bool:
    return all(row.available.get(name, 0) >= amount for name, amount in bundle.resources.items_sorted)
