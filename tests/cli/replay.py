"""An independent judge of `rayscaler plan --json`: from the JSON and the two input documents alone, and how Ray hands out devices.

`check` returns every breach as a sentence; an empty list is a good plan. Amounts are exact fractions.
"""

import re
from collections import Counter, defaultdict
from fractions import Fraction

from tests.properties import devices

UNIT = 10_000
"""Ray counts in ten-thousandths."""
SUFFIXES = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
CEILING = 10_000
"""Workers of a cluster that sets no maxWorkers, as the README tells."""
REFUSALS = {"UPSCALING_SPEED", "NO_ROOM", "MAX_WORKERS", "MAX_WORKERS_OF_TYPE", "NO_TYPE_FITS", "NO_TYPE_HAS_LABELS", "ONLY_EXISTING_NODES"}
HEAD = "head"


def amounts(raw) -> dict[str, Fraction]:
    return {name: amount(value) for name, value in (raw or {}).items()}


def amount(value) -> Fraction:
    text = str(value)
    suffix = next((each for each in SUFFIXES if text.endswith(each)), "")
    return Fraction(text.removesuffix(suffix)) * SUFFIXES.get(suffix, 1)


def _wish(text: str) -> tuple[bool, list[str]]:
    """Return whether a label wish is negated, and its values."""
    inside = re.sub(r"^in\((.*)\)$", r"\1", text.removeprefix("!"))
    return text.startswith("!"), sorted({each.strip() for each in inside.split(",")})


def holds_label(labels: dict[str, str], key: str, text: str) -> bool:
    is_negated, values = _wish(text)
    return (labels.get(key) in values) is not is_negated


def labels_ok(bundle, labels: dict[str, str]) -> bool:
    wishes = bundle.get("labelSelectors") or [{}]
    return any(all(holds_label(labels, key, wish) for key, wish in each.items()) for each in wishes)


class World:
    """The two documents, read anew."""

    def __init__(self, cluster, demand, plan) -> None:
        self.plan = plan
        self.spec = cluster["spec"]
        self.types = {each["name"]: each for each in self.spec.get("nodeTypes") or []}
        self.room = {name: amounts(each.get("resources")) for name, each in self.types.items()}
        self.labels = {name: self._labels(each) for name, each in self.types.items()}
        self.demands, self.gangs = demand.get("demands") or [], demand.get("gangs") or []
        self.constraints, self.nodes = demand.get("constraints") or [], demand.get("nodes") or []
        self.gangs_at = len(self.demands)
        self.constraints_at = self.gangs_at + len(self.gangs)
        self.size = self.constraints_at + len(self.constraints)
        self.ended = Counter(each["node"] for each in plan["terminations"])
        self.existing = [
            (f"nodes[{i}] #{n + 1}", each["type"], amounts(each.get("used")))
            for i, each in enumerate(self.nodes)
            for n in range(each.get("count", 1))
        ]
        head = amounts((self.spec.get("head") or {}).get("resources"))
        if any(head.values()):
            self.room[HEAD], self.labels[HEAD] = head, {}
            self.existing.append((HEAD, HEAD, {}))

    @staticmethod
    def _labels(node_type) -> dict[str, str]:
        spot = {"ray.io/market-type": "spot"} if node_type.get("spot") else {}
        return {"ray.io/node-group": node_type["name"], **spot, **(node_type.get("labels") or {})}

    def entry(self, index: int):
        return [*self.demands, *self.gangs, *self.constraints][index]

    def bundle(self, held):
        entry = self.entry(held["demand"])
        return entry["bundles"][held.get("bundle", 0)] if self.is_gang(held["demand"]) else entry

    def is_gang(self, index: int) -> bool:
        return self.gangs_at <= index < self.constraints_at

    def refused(self, index: int) -> int:
        return sum(each["count"] for each in self.plan["infeasible"] if each["demand"] == index)


def check(cluster, demand, plan) -> list[str]:
    world = World(cluster, demand, plan)
    wrong = _indices(world)
    if wrong:
        return wrong  # the rest would look up what is not there
    return [*_nodes(world), *_limits(world), *_counts(world), *_gangs(world), *_refusals(world), *_cost(world)]


def _indices(world: World) -> list[str]:
    wrong = []
    for entry in world.plan["placements"]:
        if entry["nodes"] < 1 or entry["type"] not in world.room:
            wrong.append(f"{entry} is of no node")
        for held in entry["holds"]:
            if not 0 <= held["demand"] < world.size or held["count"] < 1:
                wrong.append(f"{held} is of nothing in the file")
            elif "bundle" in held and not (
                world.is_gang(held["demand"]) and 0 <= held["bundle"] < len(world.entry(held["demand"])["bundles"])
            ):
                wrong.append(f"{held} is of no bundle")
    wrong += [f"{each} is of nothing" for each in world.plan["infeasible"] if not 0 <= each["demand"] < world.size or each["count"] < 1]
    known = {name for name, _, _ in world.existing} - {HEAD}
    wrong += [f"{node} ends {n} times" for node, n in world.ended.items() if n != 1 or node not in known]
    return wrong


def _needs(world: World, entry) -> tuple[Counter, Counter]:
    """Return what one node's load takes of its free amounts, and of its totals."""
    free, total = Counter(), Counter()
    for held in entry["holds"]:
        side = total if held["demand"] >= world.constraints_at else free
        for name, each in amounts(world.bundle(held)["resources"]).items():
            side[name] += each * held["count"]
    return free, total


def _fits(needs: Counter, room: dict[str, Fraction], used: dict[str, Fraction]) -> bool:
    return all(need <= room.get(name, 0) - used.get(name, 0) for name, need in needs.items() if need)


def _devices(world: World, entry) -> dict[str, devices.Items]:
    """Return what a node's load wants of each kind of device, the constraint apart."""
    held = [(_units(world.bundle(each)["resources"]), each["count"]) for each in entry["holds"] if each["demand"] < world.constraints_at]
    return {name: devices.items(wanted) for name, wanted in devices.wanted_of(held).items()}


def _units(raw) -> dict[str, int]:
    return {name: int(each * UNIT) for name, each in amounts(raw).items()}


def _rooms(room: dict[str, Fraction], name: str) -> devices.Rooms:
    whole = int(room.get(name, 0) * UNIT)
    return devices.rooms(whole, whole)


def _has_devices(world: World, name: str, placed: dict[str, devices.Items], demand) -> bool:
    """Whether a new node of a type has devices left for a demand more, whichever of them its load has come from."""
    room = world.room[name]
    wanted = devices.wanted_of([(_units(demand["resources"]), 1)])
    return all(
        all(devices.pack(devices.items(each), left) for left in devices.remainders(placed.get(kind, ()), _rooms(room, kind)))
        for kind, each in wanted.items()
    )


def _nodes(world: World) -> list[str]:
    wrong, launched = [], Counter()
    loads: dict[str, list] = defaultdict(list)
    for entry in world.plan["placements"]:
        name = entry["type"]
        free, total = _needs(world, entry)
        if entry["existing"]:
            loads[name] += [(free, total)] * entry["nodes"]
        else:
            launched[name] += entry["nodes"]
            if not _fits(free, world.room[name], {}) or not _fits(total, world.room[name], {}):
                wrong.append(f"{entry} is more than a node holds")
            wrong += [
                f"{entry} wants more of {kind} than one node's devices give"
                for kind, wanted in _devices(world, entry).items()
                if not devices.pack(wanted, _rooms(world.room[name], kind))
            ]
        wrong += [f"{held} breaks labels on {name}" for held in entry["holds"] if not labels_ok(world.bundle(held), world.labels[name])]
    if {name: n for name, n in launched.items() if n} != world.plan["launches"]:
        wrong.append(f"{dict(launched)} nodes are new, {world.plan['launches']} are launched")
    for name in {*loads, *(each[1] for each in world.existing)}:
        there = [each for each in world.existing if each[1] == name]
        if len(there) != len(loads[name]):
            wrong.append(f"{len(there)} of {name} are there, {len(loads[name])} are told of")
        elif not _matched(world, loads[name], there):
            wrong.append(f"what is said to lie on {name} does not fit on the nodes that are there and stay")
    return wrong


def _matched(world: World, loads, there) -> bool:
    """Whether each load can have a node of its own (Kuhn's way): the plan does not say which of equal ones it is."""
    taken: dict[int, int] = {}

    def able(load, node) -> bool:
        (free, total), (name, node_type, used) = load, node
        if name in world.ended:
            return not free and not total
        return _fits(free, world.room[node_type], used) and _fits(total, world.room[node_type], {})

    def seat(i: int, seen: set[int]) -> bool:
        for j, node in enumerate(there):
            if j not in seen and able(loads[i], node):
                seen.add(j)
                if j not in taken or seat(taken[j], seen):
                    taken[j] = i
                    return True
        return False

    return all(seat(i, set()) for i in range(len(loads)))


def _limits(world: World) -> list[str]:
    wrong, there = [], Counter(node_type for _, node_type, _ in world.existing if node_type != HEAD)
    launches = world.plan["launches"]
    for name, count in launches.items():
        limit = world.types[name].get("maxWorkers")
        if limit is not None and there[name] + count > limit:
            wrong.append(f"{there[name] + count} of {name}, there may be {limit}")
    most = world.spec.get("maxWorkers", CEILING)
    if launches and there.total() + sum(launches.values()) > most:
        wrong.append(f"{there.total() + sum(launches.values())} workers, there may be {most}")
    for name, each in world.types.items():
        if not world.existing and launches.get(name, 0) < each.get("minWorkers", 0):
            wrong.append(f"{name} has not its minimum")
    return wrong


def _counts(world: World) -> list[str]:
    placed = Counter()
    for entry in world.plan["placements"]:
        for held in entry["holds"]:
            placed[held["demand"]] += held["count"] * entry["nodes"]
    return [
        f"entry {index}: {placed[index]} placed and {world.refused(index)} refused of {world.entry(index).get('count', 1)}"
        for index in range(world.size)
        if not world.is_gang(index) and placed[index] + world.refused(index) != world.entry(index).get("count", 1)
    ]


def _gangs(world: World) -> list[str]:
    return [each for index in range(world.gangs_at, world.constraints_at) for each in _gang(world, index)]


def _gang(world: World, index: int) -> list[str]:
    gang = world.entry(index)
    whole = gang.get("count", 1) - world.refused(index)
    strategy, shapes = gang.get("strategy", "PACK"), Counter()
    for each in gang["bundles"]:
        shapes[_shape(each)] += each.get("count", 1)
    got, wrong = Counter(), []
    for entry in world.plan["placements"]:
        here = Counter()
        for held in entry["holds"]:
            if held["demand"] == index:
                here[_shape(world.bundle(held))] += held["count"]
        for shape, count in here.items():
            got[shape] += count * entry["nodes"]
        if strategy == "STRICT_SPREAD" and here.total() > whole:
            wrong.append(f"entry {index}: {here.total()} bundles of {whole} STRICT_SPREAD gangs are on one node")
        parts = {Fraction(here[shape], count) for shape, count in shapes.items()}
        if strategy == "STRICT_PACK" and (len(parts) > 1 or any(each.denominator > 1 for each in parts)):
            wrong.append(f"entry {index}: a STRICT_PACK gang is on more than one node")
    if got != Counter({shape: count * whole for shape, count in shapes.items() if whole}):
        wrong.append(f"entry {index}: {whole} gangs are placed, but not each of their bundles")
    return wrong


def _shape(bundle) -> str:
    """Return what tells bundles apart, however they are written."""
    wishes = bundle.get("labelSelectors") or [{}]
    alternatives = [sorted((key, *_wish(text)) for key, text in each.items()) for each in wishes] if wishes[0] else []
    return str((sorted((name, each) for name, each in amounts(bundle["resources"]).items() if each), alternatives))


def _refusals(world: World) -> list[str]:
    wrong = []
    for each in world.plan["infeasible"]:
        if each["reason"] not in REFUSALS or not each["detail"]:
            wrong.append(f"{each} gives no reason")
        elif each["demand"] < world.gangs_at and "upscalingSpeed" not in world.spec:
            wrong += _left_out(world, world.entry(each["demand"]))
    return wrong


def _left_out(world: World, demand) -> list[str]:
    """Say where a refused demand would have had room."""
    need = Counter(amounts(demand["resources"]))
    wrong = []
    for entry in world.plan["placements"]:
        free, _ = _needs(world, entry)
        has_room = labels_ok(demand, world.labels[entry["type"]]) and _fits(free + need, world.room[entry["type"]], {})
        if not entry["existing"] and has_room and _has_devices(world, entry["type"], _devices(world, entry), demand):
            wrong.append(f"{demand} is refused, though a new {entry['type']} has room for it")
    there = Counter(node_type for _, node_type, _ in world.existing if node_type != HEAD)
    there.update(world.plan["launches"])
    if there.total() < world.spec.get("maxWorkers", CEILING):
        for name, each in world.types.items():
            if (
                there[name] < each.get("maxWorkers", CEILING)
                and labels_ok(demand, world.labels[name])
                and _fits(need, world.room[name], {})
                and _has_devices(world, name, {}, demand)
            ):
                wrong.append(f"{demand} is refused, though one more {name} could hold it")
    return wrong


def _cost(world: World) -> list[str]:
    costs = [(world.types[name].get("cost"), count) for name, count in world.plan["launches"].items()]
    whole = None if any(cost is None for cost, _ in costs) else float(sum(Fraction(str(cost)) * count for cost, count in costs))
    return [] if whole == world.plan["cost"] else [f"the cost is {whole}, not {world.plan['cost']}"]
