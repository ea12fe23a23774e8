"""How a raylet gives devices to the bundles of a gang, as the independent judge of plans sees it: one after the other by their index, each
part from the device where it fits closest. Written apart from the planner; tries all that may come to a node.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, combinations, product

from rayscaler.model.demand import Bundle, Demand, Gang, Strategy
from rayscaler.model.resources import UNIT
from tests.properties import devices
from tests.properties.world import World, held

Free = tuple[int, ...]


def has_mixed_parts(gang: Gang) -> bool:
    """Whether it asks for parts of a device of more than one size."""
    parts = defaultdict(set)
    for each in gang.bundles:
        for name, amount in each.bundle.resources.items():
            if name in devices.DEVICES and amount < UNIT:
                parts[name].add(amount)
    return any(len(sizes) > 1 for sizes in parts.values())


def given_out(amounts: Iterable[int], free: Iterable[int]) -> Free | None:
    """Return what is free of each device after all of these, one after the other; None where one of them finds no room."""
    left = sorted(free)
    for amount in amounts:
        size, number = (amount, 1) if amount < UNIT else (UNIT, amount // UNIT)
        if amount > UNIT and amount % UNIT:
            return None
        for _ in range(number if amount else 0):
            closest = next((room for room in left if room >= size), None)
            if closest is None:
                return None
            left.remove(closest)
            left = sorted([*left, closest - size])
    return tuple(left)


def fits_in_order(gang: Gang, total: Mapping[str, int]) -> bool:
    """Whether an empty node with so much gives all of a gang its devices."""
    sequence = [each.bundle for each in gang.bundles for _ in range(each.count)]
    kinds = {name for bundle in sequence for name in bundle.resources if name in devices.DEVICES}
    return all(
        given_out([bundle.resources.get(name, 0) for bundle in sequence], [UNIT] * (total.get(name, 0) // UNIT)) is not None
        for name in kinds
    )


def is_deceived(gang: Gang, total: Mapping[str, int], is_wanted: Callable[[Bundle], bool]) -> bool:
    """Whether an empty node with so much is sent more parts of devices than they hold: as many bundles as sums allow, those with most GPUs first."""
    sequence = [each.bundle for each in gang.bundles for _ in range(each.count) if is_wanted(each.bundle)]
    others = sorted({name for bundle in sequence for name in bundle.resources} - {"GPU", "CPU", "memory", "object_store_memory"})
    kinds = ["GPU", *others, "object_store_memory", "memory", "CPU"]
    left, sent = dict(total), list[int]()
    for index in sorted(range(len(sequence)), key=lambda index: [-sequence[index].resources.get(name, 0) for name in kinds]):
        amounts = sequence[index].resources
        if all(left.get(name, 0) >= amount for name, amount in amounts.items()):
            left |= {name: left[name] - amount for name, amount in amounts.items()}
            sent.append(index)
    content = Gang(gang.gang_id, gang.strategy, tuple(Demand(sequence[index], 1) for index in sorted(sent)))
    return not fits_in_order(content, total)


def may_deceive(gang: Gang, total: Mapping[str, int]) -> bool:
    """Whether a node with so much would have room in sum for some of a gang that its devices do not hold, though nothing else is there."""
    sequence = [each.bundle for each in gang.bundles for _ in range(each.count)]
    for size in range(1, len(sequence) + 1):
        for chosen in combinations(sequence, size):
            sums = Counter[str]()
            for bundle in chosen:
                sums.update(bundle.resources)
            content = Gang(gang.gang_id, gang.strategy, tuple(Demand(bundle, 1) for bundle in chosen))
            if all(total.get(name, 0) >= amount for name, amount in sums.items()) and not fits_in_order(content, total):
                return True
    return False


def out_of_order(world: World) -> list[str]:
    """Return where a gang is put on a node on which its parts find their devices in one order, but not in all in which they may come."""
    wrong = []
    for gang in world.state.gangs:
        if gang.strategy is Strategy.STRICT_SPREAD or not has_mixed_parts(gang):
            continue
        on: dict[str, Counter[Bundle]] = defaultdict(Counter)
        for each in world.plan.placements:
            if each.gang_id == gang.gang_id and not each.is_constraint:
                on[each.node][each.bundle] += each.count
        for node, content in on.items():
            others = [
                (each.bundle, each.count)
                for each in world.plan.placements
                if each.node == node and each.gang_id != gang.gang_id and not each.is_constraint
            ]
            kinds = {name for bundle in content for name in bundle.resources if name in devices.DEVICES}
            for name in sorted(kinds):
                orders = set(_orders(gang, content, name))
                if node in world.free and not _works(orders, _starts(world, node, name, others)):
                    wrong.append(f"{gang} is on {node} with {dict(content)}, where {name} may come as {sorted(orders)[:3]}")
    return wrong


def _orders(gang: Gang, content: Mapping[Bundle, int], name: str) -> Iterator[tuple[int, ...]]:
    """Yield the orders in which amounts of a kind may come to a node: all ways to choose this content out of the gang's bundles."""
    at: dict[Bundle, list[int]] = defaultdict(list)
    for index, bundle in enumerate(each.bundle for each in gang.bundles for _ in range(each.count)):
        at[bundle].append(index)
    for chosen in product(*(combinations(at[bundle], count) for bundle, count in content.items())):
        amounts = {index: bundle.resources.get(name, 0) for bundle, indices in zip(content, chosen, strict=True) for index in indices}
        yield tuple(amounts[index] for index in sorted(amounts) if amounts[index])


def _starts(world: World, node: str, name: str, others: Sequence[tuple[Bundle, int]]) -> Iterator[tuple[Free, devices.Items]]:
    """Yield what the gang may find, with what comes after it: some of the others come before it, by any way."""
    free = devices.rooms(world.total[node].get(name, 0), held(name, world.free[node], world.total[node]))
    wanting = [(bundle.resources[name], count) for bundle, count in others if name in bundle.resources]
    for before in chain.from_iterable(combinations(range(len(wanting)), size) for size in range(len(wanting) + 1)):
        sums, rest = Counter(), Counter()
        for i, (amount, count) in enumerate(wanting):
            (sums if i in before else rest)[amount] += count
        for left in devices.remainders(devices.items(sums), free):
            yield left, devices.items(rest)


def _works(orders: Iterable[tuple[int, ...]], starts: Iterable[tuple[Free, devices.Items]]) -> bool:
    """Whether from one of these starts every order works, and leaves room for the rest after one of them."""
    orders = list(orders)
    for free, rest in starts:
        ends = [given_out(each, free) for each in orders]
        if all(end is not None for end in ends) and any(
            devices.pack(rest, tuple(sorted((x for x in end if x), reverse=True))) for end in ends
        ):
            return True
    return False
