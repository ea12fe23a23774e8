"""Devices of one node: how much of each is free, and Ray's way of giving them out (model/resources.py, DEVICES).

Owns the arithmetic of one kind of device on one node. Knows nothing of nodes, shapes or plans.
"""

from collections.abc import Iterable
from typing import final

from rayscaler.model.resources import UNIT


class Several(int):
    """Amounts wanted at once of one node, each from devices of its own; as a number it is their sum.

    `parts` are (amount, count), in the order in which they are given out.
    """

    parts: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, parts: Iterable[tuple[int, int]]) -> "Several":
        """Make from (amount, count) in the order in which they are given out."""
        found = tuple(parts)
        made = cls(sum(amount * count for amount, count in found))
        made.parts = found
        return made


@final
class Devices(tuple[tuple[int, int], ...]):
    """What is free of each device as (amount, number of such devices), least first; used up ones are left out.

    `devices // amount` is how many times that amount can be had of them, as it is for a plain number.
    """

    __slots__ = ()

    @property
    def total(self) -> int:
        """All that is free."""
        return sum(free * number for free, number in self)

    def __floordiv__(self, amount: int) -> int:
        """Return how many times `amount` can be had; Several at once or not at all."""
        if amount.__class__ is Several:
            return 0 if self._without_all(amount) is None else 1
        if amount < UNIT:
            held = 0
            for free, number in self:
                held += free // amount * number
            return held
        if not self or amount % UNIT or self[-1][0] < UNIT:
            return 0
        return self[-1][1] * UNIT // amount

    def without(self, amount: int, count: int) -> "Devices":
        """Return what is left after `count` of `amount`, which must be there: whole devices, or each fraction where it fits closest."""
        if amount.__class__ is Several:
            left = self._without_all(amount)
            return self if left is None else left
        if amount >= UNIT:
            rest = self[-1][1] - amount // UNIT * count
            return Devices((*self[:-1], (UNIT, rest)) if rest else self[:-1])
        after: list[tuple[int, int]] = []
        for free, number in self:
            each = free // amount
            used = min(number, count // each) if each else 0
            count -= used * each
            more = min(count, each - 1) if used < number and each else 0  # the first device that is not asked for all it can give
            count -= more
            after += ((free - each * amount, used), (free - more * amount, bool(more)), (free, number - used - bool(more)))
        return _counted(after)

    def below(self, amount: int) -> "Devices":
        """Return what there is at most of devices that are known not to have `amount`."""
        if amount >= UNIT:
            whole = self[-1][1] if self and self[-1][0] == UNIT else 0
            most = min(whole, amount // UNIT - 1)
            return _counted((*self[: len(self) - bool(whole)], (UNIT, most), (UNIT - 1, whole - most)))
        return _counted((min(free, amount - 1), number) for free, number in self)

    def _without_all(self, wanted: int) -> "Devices | None":
        """Return what is left after each part was given in its order; None where one of them finds no room."""
        left = self
        for amount, count in wanted.parts if isinstance(wanted, Several) else ():
            if left // amount < count:
                return None
            left = left.without(amount, count)
        return left


def _counted(found: Iterable[tuple[int, int]]) -> Devices:
    """Make from (amount, number) in any order, equal amounts together."""
    counts: dict[int, int] = {}
    for free, number in found:
        if free and number:
            counts[free] = counts.get(free, 0) + number
    return Devices(sorted(counts.items()))


def devices(total: int, free: int | None = None) -> Devices:
    """Return the devices of a node of which only sums are known.

    As few of them are taken to be in use as the sum allows, and these to be used alike. Where what is used is whole, or less than one,
    this is so; else it is the least one may count on, because one that had more would leave another with less.
    """
    number = total // UNIT
    used = 0 if free is None else max(0, number * UNIT - max(0, free))
    touched = -(-used // UNIT)
    left = (touched * UNIT - used) // touched if touched else 0
    found = [(left, touched)] if left else []
    return Devices([*found, (UNIT, number - touched)] if number > touched else found)
