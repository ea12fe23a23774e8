"""Random small clusters with what is asked of them, and how their plans are to be carried out: who holds what, where, and in which order.

Pure; runs nothing.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from rayscaler.model.demand import Bundle, Demand, Gang, LabelCondition, LabelSelector, Operator, Strategy
from rayscaler.model.nodetype import UNLIMITED, ClusterConfig, NodeType
from rayscaler.model.plan import Plan
from rayscaler.model.resources import UNIT, Resources
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan
from rayscaler.reconciler.improve import pays
from tests.properties.devices import DEVICES

GIGABYTE = 10**9
STEPS = 50
FRACTIONS = (2_500, 3_000, 4_000, 5_000, 6_000, 7_000)
ACTORS = 3
"""Each has a process of its own, which takes a second to start: what else runs alone is held as a group of one bundle."""
TRIES = 500
"""Orders that are tried; all of what a small case puts on one node would do."""


@dataclass(frozen=True)
class Held:
    """Bundles that are held at once, each on a launch by its index; those of a gang have its strategy."""

    bundles: tuple[tuple[Bundle, int], ...]
    strategy: Strategy | None = None

    @property
    def devices(self) -> list[tuple[int, str, int]]:
        """What it takes of devices: launch, kind and amount of each."""
        return [(node, kind, bundle.resources[kind]) for bundle, node in self.bundles for kind in bundle.resources if kind in DEVICES]

    @property
    def rank(self) -> tuple[int, int]:
        """Sorts what takes large parts of devices first."""
        amounts = [amount for _, _, amount in self.devices]
        return -max(amounts, default=0), -sum(amounts)

    def __str__(self) -> str:
        where = ", ".join(f"{bundle} on {node}" for bundle, node in self.bundles)
        return f"{self.strategy or 'single'}: {where}"


@dataclass(frozen=True)
class Case:
    """A state without any node, and its plan of so many steps; `number` is unique among the cases of a head."""

    number: int
    state: ClusterState
    steps: int
    plan: Plan

    @property
    def name(self) -> str:
        """The name of its cluster."""
        return self.state.config.name

    @cached_property
    def nodes(self) -> list[NodeType]:
        """The types of the planned nodes, as the plan's launches have them."""
        types = {each.name: each for each in self.state.config.node_types}
        return [types[each.node_type] for each in self.plan.launches]

    @cached_property
    def held(self) -> list[Held]:
        """All that the plan says is held."""
        gangs: dict[str, list[tuple[Bundle, int]]] = {each.gang_id: [] for each in self.state.gangs}
        singles = []
        for each in self.plan.placements:
            on = (each.bundle, int(each.node.removeprefix("new:")))
            if each.gang_id:
                gangs[each.gang_id] += [on] * each.count
            else:
                singles += [Held((on,))] * each.count
        whole = [_as_asked(gangs[each.gang_id], each) for each in self.state.gangs if gangs[each.gang_id]]
        return sorted([*whole, *singles], key=lambda each: each.rank)

    @property
    def is_for_service(self) -> bool:
        """Whether a service launches all of it in one step: launches for gangs wait for no cheaper mix, and a mix that is near enough is not improved."""
        return not self.steps or (not self.state.gangs and pays(plan(self.state), self.state.config))

    @property
    def is_improved(self) -> bool:
        """Whether other nodes are launched than by the first plan."""
        first = plan(self.state)
        return Counter(each.node_type for each in first.launches) != Counter(each.node_type for each in self.plan.launches)

    @property
    def has_fractions(self) -> bool:
        """Whether parts of GPUs are held."""
        return any(kind == "GPU" and amount % UNIT for each in self.held for _, kind, amount in each.devices)

    @property
    def has_gangs(self) -> bool:
        """Whether gangs are held."""
        return any(each.strategy for each in self.held)

    def rest(self) -> list[Resources]:
        """Return what each node has left once everything is held."""
        left = [each.resources for each in self.nodes]
        for bundle, node in (on for each in self.held for on in each.bundles):
            left[node] = left[node].subtract(bundle.resources)
        return left

    def __str__(self) -> str:
        config = self.state.config
        types = "; ".join(
            f"{each.name} {each.resources} {dict(each.labels) or ''} cost {each.cost} max {each.max_workers}" for each in config.node_types
        )
        return (
            f"case {self.number}, {self.steps} steps, max {config.max_workers}\n  types: {types}\n"
            f"  demands: {'; '.join(map(str, (*self.state.demands, *self.state.gangs)))}\n"
            f"  launches: {', '.join(each.name for each in self.nodes)}\n  held: {'; '.join(map(str, self.held))}\n"
            f"  left out: {'; '.join(f'{each.what} x {each.count}: {each.detail}' for each in self.plan.infeasible)}"
        )


def cases(dice: random.Random, count: int) -> Iterator[Case]:
    """Yield cases that launch something: every other one holds parts of GPUs, every third one gangs, half of them are improved plans."""
    for number in range(count):
        has_fractions, has_gangs = number % 2 == 0, number % 3 == 0
        while True:
            state = _state(dice, number, "GPU" if has_fractions else dice.choice(["", "GPU", "NPU"]), has_gangs=has_gangs)
            steps = STEPS if number % 4 < 2 else 0
            made = Case(number, state, steps, plan(state, steps))
            if made.nodes and made.has_fractions >= has_fractions and made.has_gangs == has_gangs:
                yield made
                break


def in_order(case: Case) -> list[Held]:
    """Return all that is held in an order in which Ray finds a device for each part: the large ones first if that will do, or if none does."""
    dice, order = random.Random(case.number), case.held
    for _ in range(TRIES):
        if _has_devices(order, case.nodes):
            return order
        order = dice.sample(order, len(order))
    return case.held


def _has_devices(order: Sequence[Held], nodes: Sequence[NodeType]) -> bool:
    """Whether each finds its devices when they come in this order and a raylet gives out as it does: of a part, the device where it fits closest."""
    free = {(i, kind): [UNIT] * (each.resources.get(kind, 0) // UNIT) for i, each in enumerate(nodes) for kind in DEVICES}
    for node, kind, amount in (taken for each in order for taken in each.devices):
        devices = free[node, kind]
        fitting = sorted(each for each in devices if each >= min(amount, UNIT))
        number = max(1, amount // UNIT)
        if len(fitting) < number:
            return False
        for each in fitting[:number]:
            devices.remove(each)
            devices.append(each - min(amount, UNIT))
    return True


def actors_of(order: Sequence[Held]) -> set[int]:
    """Return which of these are to be actors: of what runs alone, what takes devices before what takes none."""
    alone = [i for i, each in enumerate(order) if each.strategy is None]
    return set(sorted(alone, key=lambda i: (not order[i].devices, i))[:ACTORS])


def labels_of(bundle: Bundle, node_type: NodeType) -> dict[str, str]:
    """Return the labels that a bundle asks for, as Ray's drivers write them: those of its first wish that the type meets."""
    rank = bundle.label_rank(node_type.node_labels())
    if rank is None:
        raise ValueError(f"{bundle} is put on {node_type.name}, which has other labels")
    wishes = bundle.selectors[rank].conditions if bundle.selectors else ()
    return {each.key: f"{each.operator.value}({','.join(each.values)})" for each in wishes}


def as_ray_reads(resources: Mapping[str, int]) -> dict[str, float]:
    """Return amounts as Ray's drivers write them."""
    return {name: units / UNIT if units % UNIT else units // UNIT for name, units in resources.items()}


def _as_asked(bundles: Sequence[tuple[Bundle, int]], gang: Gang) -> Held:
    """Return a gang with its bundles in the order in which they are asked for: a raylet gives them their devices in that order.

    Two of 0.7 and two of 0.25 GPUs have room on two GPUs so, but not the other way round.
    """
    left = list(bundles)
    asked = []
    for wanted in (each.bundle for each in gang.bundles for _ in range(each.count)):
        on = next(each for each in left if each[0] == wanted)
        left.remove(on)
        asked.append(on)
    return Held(tuple(asked), gang.strategy)


def _state(dice: random.Random, number: int, device: str, *, has_gangs: bool) -> ClusterState:
    names = ("ant", "bee", "cow", "dog")[: dice.randint(2, 4)]
    has_costs = dice.random() < 0.8
    types = tuple(_type(dice, f"{name}-{number}", device, has_costs=has_costs) for name in names)
    shapes = [_bundle(dice, device) for _ in range(dice.randint(2, 4))]
    gangs = (
        Gang(
            f"g{i}",
            dice.choice(list(Strategy)),
            tuple(Demand(each, dice.randint(1, 2)) for each in dice.choices(shapes, k=dice.randint(1, 3))),
        )
        for i in range(dice.randint(1, 2) if has_gangs else 0)
    )
    return ClusterState(
        now=1000.0,
        config=ClusterConfig(f"c{number}", types, max_workers=dice.choice([1, 2, 3, 4, 4])),
        demands=tuple(Demand(each, dice.randint(1, 4)) for each in shapes[: dice.randint(1, 3)]),
        gangs=tuple(gangs),
    )


def _type(dice: random.Random, name: str, device: str, *, has_costs: bool) -> NodeType:
    cores, devices = dice.choice([2, 4, 8, 16]), dice.choice([0, 1, 2, 4]) if device else 0
    amounts = {
        "CPU": cores * UNIT,
        "memory": cores * dice.choice([1, 2]) * GIGABYTE * UNIT,
        "disk": dice.choice([0, 0, 5_000, 15_000, 3 * UNIT]),
    }
    return NodeType(
        name,
        Resources({**amounts, device: devices * UNIT}),
        dice.choice([(), (("zone", "a"),), (("zone", "b"),)]),
        max_workers=dice.choice([UNLIMITED, UNLIMITED, 1, 2]),
        cost=round((cores + 8 * devices) * dice.uniform(0.7, 1.4) / 4, 2) if has_costs else None,
    )


def _bundle(dice: random.Random, device: str) -> Bundle:
    wanted = {"CPU": dice.choice([5_000, UNIT, UNIT, 2 * UNIT, 3 * UNIT])}
    if dice.random() < 0.4:
        wanted["memory"] = dice.choice([1, 2, 3]) * GIGABYTE * UNIT
    if dice.random() < 0.2:
        wanted["disk"] = dice.choice([2_500, 5_000, UNIT])
    if device and dice.random() < 0.8:
        wanted[device] = dice.choice([*FRACTIONS, *FRACTIONS, UNIT, 2 * UNIT])
    zone = LabelSelector((LabelCondition("zone", dice.choice(list(Operator)), (dice.choice("ab"),)),))
    return Bundle(Resources(wanted), (zone,) if dice.random() < 0.2 else ())
