"""What a plan is worth, reckoned from its launches and placements alone; nothing of the planner's own figures is taken.

It asks less than the checker of tests/properties: that what is said to be placed lies on nodes with the labels and the room for it, on
whole devices where the resource is one, that groups are whole and apart where they must be, and that maxima are kept.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from rayscaler.model.demand import Bundle, Demand, Gang, Strategy
from rayscaler.model.plan import Placement, Plan
from rayscaler.model.resources import IMPLICIT_PREFIX, UNIT
from rayscaler.model.state import ClusterState
from tests.optimum.bound import bound
from tests.properties.devices import DEVICES, items, pack


@dataclass(frozen=True)
class Verdict:
    """`cost` is of the launches, `bound` what placing the same costs at least, `at_least` how many have to be left out, as far as the bound knows."""

    launches: Mapping[str, int]
    cost: float
    bound: float
    unplaced: int
    at_least: int
    breaches: tuple[str, ...] = ()

    @property
    def ratio(self) -> float | None:
        """The cost beside the bound, None where nothing has to be launched."""
        return self.cost / self.bound if self.bound > 0 else None


def judge(state: ClusterState, plan: Plan) -> Verdict:
    """Judge a plan."""
    launches = Counter(each.node_type for each in plan.launches)
    placed: Counter[Bundle] = Counter()
    for each in plan.placements:
        placed[each.bundle] += each.count
    breaches = (*_rooms(state, plan), *_maxima(state, launches), *_gangs(state.gangs, plan.placements))
    return verdict(state, launches, placed, breaches)


def verdict(state: ClusterState, launches: Mapping[str, int], placed: Mapping[Bundle, int], breaches: Iterable[str] = ()) -> Verdict:
    """Return what launches are worth that are said to place so many of each bundle."""
    wanted: Counter[Bundle] = Counter()
    for each in (*state.demands, *(bundle for gang in state.gangs for bundle in gang.bundles)):
        wanted[each.bundle] += each.count
    more = [f"{bundle} is placed more often than it is wanted" for bundle, count in placed.items() if count > wanted[bundle]]
    unplaced = sum((wanted - Counter(placed)).values())
    nodes = [each for each in state.nodes if each.takes_work]
    least = bound(state.config, [Demand(*each) for each in placed.items()], nodes)
    at_least = bound(state.config, [Demand(*each) for each in wanted.items()], nodes).unplaced if unplaced else 0
    costs = {each.name: each.cost or 0.0 for each in state.config.node_types}
    cost = sum(costs[name] * count for name, count in launches.items())
    return Verdict(dict(sorted(launches.items())), round(cost, 4), least.cost, unplaced, at_least, (*breaches, *more))


def _rooms(state: ClusterState, plan: Plan) -> list[str]:
    wrong = []
    types = {each.name: each for each in state.config.node_types}
    there = {each.instance_id or f"ray:{each.ray_node_id}": each for each in state.nodes if each.takes_work}
    held: dict[str, Counter[Bundle]] = defaultdict(Counter)
    for each in plan.placements:
        held[each.node][each.bundle] += each.count
    for node, content in held.items():
        if node.startswith("new:"):
            made = types[plan.launches[int(node.removeprefix("new:"))].node_type]
            labels, room, devices = made.node_labels(), made.resources, DEVICES
        elif node in there:
            labels, room, devices = dict(there[node].labels), there[node].available, frozenset()
        else:
            wrong.append(f"{node} is no node that takes work")
            continue
        wrong += [f"{bundle} breaks labels on {node}" for bundle in content if bundle.label_rank(labels) is None]
        wrong += [f"{node} does not hold its {name}" for name in _short(content, room, devices)]
    return wrong


def _short(content: Mapping[Bundle, int], room: Mapping[str, int], devices: frozenset[str]) -> list[str]:
    """Return the resources of which `room` has too little for the content."""
    wanted: dict[str, Counter[int]] = defaultdict(Counter)
    for bundle, count in content.items():
        for name, amount in bundle.resources.items_sorted:
            wanted[name][amount] += count
    short = []
    for name, amounts in wanted.items():
        there = room.get(name, UNIT if name.startswith(IMPLICIT_PREFIX) else 0)
        fits = pack(items(amounts), (UNIT,) * (there // UNIT)) if name in devices else _sum(amounts) <= there
        if not fits:
            short.append(name)
    return short


def _sum(amounts: Mapping[int, int]) -> int:
    return sum(amount * count for amount, count in amounts.items())


def _maxima(state: ClusterState, launches: Mapping[str, int]) -> list[str]:
    there = Counter(each.node_type for each in state.instances)
    most = {each.name: each.max_workers for each in state.config.node_types}
    wrong = [f"more than {most[name]} of {name}" for name, count in launches.items() if 0 <= most[name] < there[name] + count]
    total = len(state.instances) + sum(launches.values())
    return [*wrong, *([f"{total} workers"] if 0 <= state.config.max_workers < total else [])]


def _gangs(gangs: Iterable[Gang], placements: Iterable[Placement]) -> list[str]:
    wrong = []
    lies: dict[str, Counter[str]] = defaultdict(Counter)
    for each in placements:
        if each.gang_id:
            lies[each.gang_id][each.node] += each.count
    for gang in gangs:
        nodes = lies[gang.gang_id]
        if sum(nodes.values()) not in (0, gang.size):
            wrong.append(f"group {gang.gang_id} is placed in part")
        if gang.strategy is Strategy.STRICT_SPREAD and any(count > 1 for count in nodes.values()):
            wrong.append(f"group {gang.gang_id} is not apart")
        if gang.strategy is Strategy.STRICT_PACK and len(nodes) > 1:
            wrong.append(f"group {gang.gang_id} is not on one node")
    return wrong
