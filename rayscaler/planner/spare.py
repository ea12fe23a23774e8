"""Which nodes the others could do without: those whose work, at its most, fits on another beside what that one has at its most.

Owns the arithmetic of consolidation. Knows nothing of instances, limits or what is asked for now.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from rayscaler.model.resources import DEVICES, UNIT, Resources
from rayscaler.planner.devices import devices

MOST_TRIES = 10_000
"""Pairs of nodes looked at for one plan; whoever is left over stays until the next round."""


@dataclass(frozen=True)
class Place:
    """A node: what it has, the most of it that was in use, and what its type's definition calls it."""

    name: str
    total: Resources
    used: Resources
    labels: frozenset[tuple[str, str]] = frozenset()


class Hosts:
    """Nodes that stay, in the order in which they are tried, with all that is to fit on them."""

    def __init__(self, places: Iterable[Place], units: frozenset[str] = DEVICES) -> None:
        self._units = units
        self._places = list(places)
        self._used = {each.name: each.used for each in self._places}
        self._taken: set[str] = set()
        self._gone: set[str] = set()
        self._from: dict[tuple[Resources, frozenset[tuple[str, str]]], int] = {}
        self._tries = 0

    def take(self, going: Place) -> str | None:
        """Give all work of a node to one that stays; None where none has room, or it is itself to take another's.

        To one, since only the sum of its work is known, not in which pieces it comes; and to one with its labels, since work may ask for them.
        Who had no room for as much has none now: rooms only get less, so that the search for the same goes on where it was.
        """
        if going.name in self._taken:
            return None
        key = (going.used, going.labels)
        for index in range(self._from.get(key, 0), len(self._places)):
            place = self._places[index]
            self._from[key] = index
            self._tries += 1
            if self._tries > MOST_TRIES:
                return None
            if place.name == going.name or place.name in self._gone or not going.labels <= place.labels:
                continue
            if self._holds(place.total, self._used[place.name], going.used):
                self._used[place.name] = self._used[place.name].add(going.used)
                self._taken.add(place.name)
                self._gone.add(going.name)
                return place.name
        self._from[key] = len(self._places)
        return None

    def _holds(self, total: Resources, used: Resources, more: Resources) -> bool:
        return all(_has(total.get(name, 0), used.get(name, 0), amount, is_device=name in self._units) for name, amount in more.items_sorted)


def _has(total: int, used: int, amount: int, *, is_device: bool) -> bool:
    """Whether so much is left. Of devices only sums are known: what is above one is taken to need whole ones."""
    if not is_device:
        return total - used >= amount
    wanted = amount if amount < UNIT else -(-amount // UNIT) * UNIT
    return devices(total, max(0, total - used)) // wanted > 0
