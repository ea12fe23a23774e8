"""Amounts of resources: integer arithmetic in units of 1/10000, as Ray counts them.

Source of the unit: Ray's kResourceUnitScaling; a node's and a task's amounts are floored to it. Integers keep sums exact.
"""

from collections.abc import Iterator, Mapping
from typing import Self

UNIT = 10_000
"""One of anything (1 CPU, 1 byte of memory) in the units counted here."""

OBJECT_STORE_BYTES = 80_000_000
"""The least object store of a node: a little above Ray's minimum (75 MiB), so that many workers share one machine."""

IMPLICIT_PREFIX = "node:__internal_implicit_resource_"
"""Every node has 1.0 of each resource of this prefix without declaring it (Ray Serve's max_replicas_per_node)."""

NODE_PREFIX = "node:"
"""Resources that a node has by being that node; no launch can bring a particular one."""


class Resources(Mapping[str, int]):
    """An immutable resource map: name to amount in 1/10000 units; amounts of 0 are left out.

    Equal maps are equal and hash alike whatever order they were made in, so a Resources is its own shape key.
    """

    __slots__ = ("_hash", "amounts", "items_sorted")

    def __init__(self, amounts: Mapping[str, int] | None = None) -> None:
        self.items_sorted: tuple[tuple[str, int], ...] = tuple(sorted((k, v) for k, v in (amounts or {}).items() if v))
        self.amounts = dict(self.items_sorted)
        self._hash = hash(self.items_sorted)

    @classmethod
    def of(cls, **amounts: float) -> Self:
        """Make from whole or decimal amounts by name, such as CPU=1, GPU=0.5."""
        return cls({name: from_float(amount) for name, amount in amounts.items()})

    def __getitem__(self, name: str) -> int:
        return self.amounts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.amounts)

    def __len__(self) -> int:
        return len(self.amounts)

    def __hash__(self) -> int:
        return self._hash

    def __reduce__(self) -> tuple[type[Self], tuple[dict[str, int]]]:
        """Pickle without the hash: another process hashes the same names otherwise."""
        return type(self), (self.amounts,)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Resources):
            return self.items_sorted == other.items_sorted
        return NotImplemented

    def __lt__(self, other: "Resources") -> bool:
        return self.items_sorted < other.items_sorted

    def __repr__(self) -> str:
        return f"Resources({self})"

    def __str__(self) -> str:
        return "{" + ", ".join(f"{name}: {to_text(name, amount)}" for name, amount in self.items_sorted) + "}"

    def add(self, other: "Resources", times: int = 1) -> "Resources":
        """Return this plus `other` taken `times` times."""
        total = dict(self.amounts)
        for name, amount in other.items_sorted:
            total[name] = total.get(name, 0) + amount * times
        return Resources(total)

    def subtract(self, other: "Resources", times: int = 1) -> "Resources":
        """Return this minus `other` taken `times` times; the caller has checked that it fits."""
        return self.add(other, -times)

    def fits(self, available: "Resources") -> bool:
        """Whether `available` holds this once; implicit per-node resources count 1.0 where not listed."""
        return self.times_in(available) > 0

    def times_in(self, available: "Resources") -> int:
        """How many times `available` holds this; an empty map fits a great many times."""
        times = MANY
        for name, amount in self.items_sorted:
            held = available.amounts.get(name)
            if held is None:
                held = UNIT if name.startswith(IMPLICIT_PREFIX) else 0
            times = min(times, held // amount)
        return times


MANY = 1 << 40
"""How often nothing fits into something: more than any count of demand."""

BYTES = frozenset({"memory", "object_store_memory"})
"""Resources counted in bytes."""

DEVICES = frozenset({"GPU", "TPU", "neuron_cores", "NPU", "HPU", "RBLN", "FURIOSA", "TTNPU", "MBLT"})
"""Resources that a raylet hands out one by one (predefined_unit_instance_resources, custom_unit_instance_resources): less than one comes
from one device, from the one that it fits closest; one or more are devices that are wholly free; 1.5 is refused. Source: Ray 2.60,
NodeResourceInstanceSet::TryAllocate. Its GCS and its own autoscaler know the sum only."""

WHOLE = BYTES | DEVICES | {"CPU"}
"""Resources of which a node has whole amounts only. CPU, GPU and bytes are whole-number flags of `ray start`; of the other accelerators a
raylet (2.60) tells whole ones apart: with TPU 1.5 it offers 1, with neuron_cores 0.5 it aborts. Tasks may ask for fractions of all."""


def from_float(amount: float) -> int:
    """Turn Ray's double (already a multiple of 1/10000 up to float error) into units."""
    return round(amount * UNIT)


def to_text(name: str, amount: int) -> str:
    """Format an amount for people: 2, 0.5, 64.0 GiB."""
    if name in BYTES:
        value = amount / UNIT
        for unit in ("B", "KiB", "MiB", "GiB"):
            if value < 1024 or unit == "GiB":
                return f"{value:.0f} {unit}" if value == int(value) else f"{value:.1f} {unit}"
            value /= 1024
    return f"{amount // UNIT}" if amount % UNIT == 0 else f"{amount / UNIT:g}"
