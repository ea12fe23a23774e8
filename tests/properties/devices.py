"""What Ray can use of unit-instance resources, as the independent judge of plans sees it: written apart from the planner, exact by search.

A unit of such a resource is a device. A fraction comes from one device, one or more are whole devices; 1.5 is nothing Ray can give.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from functools import lru_cache

from rayscaler.model.resources import UNIT

DEVICES = frozenset({"GPU", "TPU", "NPU", "HPU", "neuron_cores", "RBLN", "FURIOSA", "TTNPU", "MBLT"})
"""The accelerators that a raylet hands out one by one; all other resources are pools."""

Rooms = tuple[int, ...]
"""What is free of each device, most first; used up ones are left out."""
Items = tuple[tuple[int, int], ...]
"""Amounts wanted with their counts, largest first."""


def rooms(total: int, free: int) -> Rooms:
    """Return what each device of a node has free when only sums are known: as few as can be are touched, and these alike.

    Where what is used is whole this is what must be; else it is the least that one may build on.
    """
    used = max(0, total - max(0, free))
    touched = -(-used // UNIT)
    left = (touched * UNIT - used) // touched if touched else 0
    return (UNIT,) * (total // UNIT - touched) + ((left,) * touched if left else ())


def is_amount(amount: int) -> bool:
    """Whether Ray gives such an amount at all."""
    return amount <= UNIT or amount % UNIT == 0


def least_amount(amount: int) -> int:
    """Return the least that Ray gives of what is not less: what a sum of work needs at least, as far as one knows."""
    return amount if is_amount(amount) else -(-amount // UNIT) * UNIT


def items(amounts: Mapping[int, int]) -> Items:
    """Return amounts with their counts as the searches take them; amounts that Ray cannot give stay, and fit nowhere."""
    return tuple(sorted(((amount, count) for amount, count in amounts.items() if amount > 0 and count > 0), reverse=True))


def pack(wanted: Items, free: Rooms) -> bool:
    """Whether all that is wanted can be had at once, each from devices of its own choosing."""
    after = _after_whole(wanted, free)
    return after is not None and _has_way(*after)


def remainders(placed: Items, free: Rooms) -> frozenset[Rooms]:
    """Return all that may be left when what is placed has been handed out, whichever devices it came from."""
    after = _after_whole(placed, free)
    return frozenset() if after is None else _ways(*after)


def wanted_of(bundles: Iterable[tuple[Mapping[str, int], int]]) -> dict[str, Counter[int]]:
    """Return per device resource which amounts are wanted how often by bundles with counts."""
    found: dict[str, Counter[int]] = {}
    for resources, count in bundles:
        for name, amount in resources.items():
            if name in DEVICES:
                found.setdefault(name, Counter())[amount] += count
    return found


def _after_whole(wanted: Items, free: Rooms) -> tuple[Items, Rooms] | None:
    """Take whole devices first: they can come from nowhere else. Return the fractions left and what is left for them."""
    if not all(is_amount(amount) for amount, _ in wanted):
        return None
    whole = sum(amount // UNIT * count for amount, count in wanted if amount >= UNIT)
    if whole > free.count(UNIT):
        return None
    return tuple(each for each in wanted if each[0] < UNIT), free[whole:]


@lru_cache(maxsize=100_000)
def _has_way(wanted: Items, free: Rooms) -> bool:
    if len(wanted) < 2:
        return all(sum(room // amount for room in free) >= count for amount, count in wanted)
    if sum(amount * count for amount, count in wanted) > sum(free):
        return False
    return any(_has_way(_one_less(wanted), left) for left in _choices(wanted[0][0], free))


@lru_cache(maxsize=100_000)
def _ways(wanted: Items, free: Rooms) -> frozenset[Rooms]:
    ways = {free}
    for amount, count in wanted:
        for _ in range(count):
            ways = {left for way in ways for left in _choices(amount, way)}
    return frozenset(ways)


def _one_less(wanted: Items) -> Items:
    (amount, count), *rest = wanted
    return ((amount, count - 1), *rest) if count > 1 else tuple(rest)


def _choices(amount: int, free: Rooms) -> list[Rooms]:
    """Return what may be left after one device has given `amount`; of equal devices one is enough to try."""
    found = []
    for room in dict.fromkeys(reversed(free)):
        if room >= amount:
            rest = list(free)
            rest.remove(room)
            found.append(tuple(sorted([*rest, *([room - amount] if room > amount else [])], reverse=True)))
    return found
