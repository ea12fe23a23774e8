"""An independent judge of plans. It reads the state and the plan and nothing of the planner: model only, sums redone from scratch.

`check` returns every breach as a sentence; an empty list is a good plan.
"""

from collections import Counter, defaultdict
from itertools import permutations

from rayscaler.model.demand import Bundle, Gang, Strategy
from rayscaler.model.instance import IN_FLIGHT, PACED, Reason
from rayscaler.model.plan import Infeasible, Plan
from rayscaler.model.resources import Resources
from rayscaler.model.state import ClusterState
from tests.properties import wholes
from tests.properties.ends import ends
from tests.properties.giving import fits_in_order, has_mixed_parts, is_deceived, may_deceive, out_of_order
from tests.properties.growing import coming, fits_as_launched, growths, is_ungrown, types_that_grow
from tests.properties.headroom import wrongly_ready
from tests.properties.limits import launches, speed_limit, wrongly_launched
from tests.properties.pace import binds, is_set, too_fast
from tests.properties.spending import is_too_dear, overspent
from tests.properties.world import Rest, World, label_ok, lacking, most_workers


def check(state: ClusterState, plan: Plan) -> list[str]:
    world = World(state, plan)
    return [
        *_rooms(world),
        *_counts(world),
        *_gangs(world),
        *out_of_order(world),
        *wrongly_launched(world),
        *too_fast(world),
        *wholes.parts(state, plan),
        *overspent(world),
        *wrongly_ready(world),
        *ends(world),
        *_reserves(world),
        *_refusals(world),
        *growths(world),
    ]


def _rooms(world: World) -> list[str]:
    wrong = []
    going = {each.instance_id for each in (*world.plan.drains, *world.plan.terminations)}
    for layer, rooms in ((False, world.free), (True, world.total)):
        used: dict[str, list[tuple[Bundle, int]]] = defaultdict(list)
        for each in world.plan.placements:
            if each.is_constraint != layer:
                continue
            if each.node not in rooms:
                wrong.append(f"{each} is on a node that takes no work")
                continue
            if each.node in going:
                wrong.append(f"{each} is on a node that this plan ends")
            if not label_ok(each.bundle, world.labels[each.node]):
                wrong.append(f"{each} breaks labels")
            if each.count <= 0:
                wrong.append(f"{each} has no count")
            used[each.node].append((each.bundle, each.count))
        for node, content in used.items():
            short = lacking(content, rooms[node], world.total[node])
            grown = None if layer or not short else coming(world, node)
            if grown is not None and not (node.startswith("new:") and all(fits_as_launched(world, bundle) for bundle, _ in content)):
                short = lacking(content, grown, grown)
            wrong += [f"{node} has not enough {name} for {', '.join(f'{bundle} x {count}' for bundle, count in content)}" for name in short]
    return wrong


def _counts(world: World) -> list[str]:
    wrong = []
    for layer, demands in ((False, world.state.demands), (True, world.state.constraint.demands if world.state.constraint else ())):
        asked, answered = Counter(), Counter()
        for each in demands:
            if each.count > 0 and not any(name.startswith("bundle_group_") for name in each.bundle.resources):
                asked[each.bundle] += each.count
        for each in world.plan.placements:
            if each.is_constraint == layer and not each.gang_id:
                answered[each.bundle] += each.count
        for each in world.plan.infeasible:
            if isinstance(each.what, Bundle) and each.is_constraint == layer:
                answered[each.what] += each.count
        more = answered - asked
        if asked - answered or (more - (Counter() if layer else world.displaced())):
            wrong.append(f"asked {asked} but answered {answered} (constraint: {layer})")
    return wrong


def _gangs(world: World) -> list[str]:
    wrong = []
    refused = Counter(each.what.gang_id for each in world.plan.infeasible if isinstance(each.what, Gang))
    held_back = {each.what.gang_id for each in world.plan.infeasible if isinstance(each.what, Gang) and each.reason in PACED}
    for gang in world.state.gangs:
        placed = [each for each in world.plan.placements if each.gang_id == gang.gang_id]
        if gang.size == 0:
            wrong += [f"empty gang {gang.gang_id} was answered"] if placed or refused[gang.gang_id] else []
            continue
        want, got = Counter(), Counter()
        for each in gang.bundles:
            want[each.bundle] += each.count
        for each in placed:
            got[each.bundle] += each.count
        if gang.gang_id in held_back:  # it comes in portions
            is_so = refused[gang.gang_id] == 1 and got <= want and got != want
        else:
            is_so = refused[gang.gang_id] + (1 if placed else 0) == 1 and (not placed or want == got)
        if not is_so:
            wrong.append(f"gang {gang.gang_id}: wanted {want}, got {got}, refused {refused[gang.gang_id]} times")
        nodes = [each.node for each in placed for _ in range(each.count)]
        if gang.locality and nodes and not any(set(nodes) <= inside for inside in _places(world, gang)):
            wrong.append(f"gang {gang.gang_id} shall lie within one {gang.locality}, and is on {nodes}")
        launches = [launch for launch in world.plan.launches if launch.reason is Reason.GANG and launch.gangs == (gang.gang_id,)]
        launches = [each for each in launches if world.types[each.node_type].hosts_per_replica == 1]  # else launched for another, maybe
        wrong += [f"{launch} is sent more than it holds" for launch in launches if _deceives(world, gang, launch.node_type)]
        if gang.strategy is Strategy.STRICT_PACK and len(set(nodes)) > 1:
            wrong.append(f"gang {gang.gang_id} is packed on {set(nodes)}")
        if gang.strategy is Strategy.STRICT_SPREAD:
            if len(set(nodes)) != len(nodes):
                wrong.append(f"gang {gang.gang_id} is spread on {nodes}")
            if any(gang.label in world.dynamic[node] for node in nodes):
                wrong.append(f"gang {gang.gang_id} has a node that carries it already")
    return wrong


def _reserves(world: World) -> list[str]:
    wrong = []
    placed: dict[str, Counter] = defaultdict(Counter)
    for each in world.plan.placements:
        placed[each.node][each.bundle, each.gang_id, each.is_constraint] += each.count
    for index, launch in enumerate(world.plan.launches):
        reserved: Counter = Counter()
        for each in launch.reserves:
            reserved[each.bundle, each.gang_id, each.is_constraint] += each.count
        if reserved != placed[f"new:{index}"]:
            wrong.append(f"launch {index} reserves {reserved}, gets {placed[f'new:{index}']}")
        if set(launch.gangs) != {each.gang_id for each in launch.reserves if each.gang_id}:
            wrong.append(f"launch {index} names other gangs than it reserves for")
        if launch.reason not in (Reason.MIN_WORKERS, Reason.HELD, Reason.HEADROOM, Reason.REPLICA) and not reserved:
            wrong.append(f"launch {index} is for nothing")
    return wrong


def _refusals(world: World) -> list[str]:
    wrong = []
    for each in world.plan.infeasible:
        if not each.detail:
            wrong.append(f"{each} says nothing")
        if each.is_never:
            wrong += _false_never(world, each)
        elif each.reason is not world.state.no_launch:
            wrong += _false_wait(world, each)
        if isinstance(each.what, Bundle) and not each.is_constraint:
            wrong += _left_out(world, each.what)
        if isinstance(each.what, Gang) and each.reason not in PACED:  # the next plan gives it what has room by then
            wrong += _left_out_gang(world, each.what)
    return wrong


def _wholes(what: Bundle | Gang) -> list[tuple[Bundle, ...]]:
    """Return the groups of bundles that each need one node."""
    if isinstance(what, Bundle):
        return [(what,)]
    bundles = tuple(each.bundle for each in what.bundles for _ in range(each.count))
    return [bundles] if what.strategy is Strategy.STRICT_PACK else [(bundle,) for bundle in dict.fromkeys(bundles)]


def _places(world: World, gang: Gang) -> list[set[str]]:
    """Return the nodes and types within each value of a gang's label."""
    found: dict[str, set[str]] = defaultdict(set)
    everything = [*world.labels.items(), *((name, each.node_labels()) for name, each in world.types.items())]
    for name, labels in everything:
        value = labels.get(gang.locality.label)
        if value and label_ok(Bundle(Resources({}), (gang.locality.selector,)), labels):
            found[value].add(name)
    return list(found.values())


def _holds(group: tuple[Bundle, ...], total: dict[str, int], labels: dict[str, str]) -> bool:
    return not lacking([(bundle, 1) for bundle in group], total, total) and all(label_ok(bundle, labels) for bundle in group)


def _homes(world: World, group: tuple[Bundle, ...]) -> tuple[list[str], list[str]]:
    """Return the types and the joined nodes that could hold a group when empty."""
    types = [name for name, each in world.types.items() if _holds(group, world.brings(name), each.node_labels())]
    going = {each.instance_id for each in (*world.plan.drains, *world.plan.terminations)} | wholes.parted(world.state, world.plan)
    joined = [name for name in world.total if not name.startswith("new:") and name not in going and not _flies(world, name)]
    return types or types_that_grow(world, group), [name for name in joined if _holds(group, world.grown_total(name), world.labels[name])]


def _flies(world: World, name: str) -> bool:
    return name in world.instances and world.instances[name].status in IN_FLIGHT


def _is_defined_so(world: World, group: tuple[Bundle, ...]) -> bool:
    """Whether a node of some type would hold a group if it brought what the definition says."""
    return any(_holds(group, dict(each.resources), each.node_labels()) for each in world.types.values())


def _homes_by_place(world: World, what: Bundle | Gang) -> list[list[tuple[list[str], list[str]]]]:
    """Return the homes of each group of bundles, once for each value within which all of them may lie."""
    homes = [_homes(world, group) for group in _wholes(what)]
    if isinstance(what, Bundle) or what.locality is None:
        return [homes]
    return [
        [([n for n in types if n in inside], [n for n in nodes if n in inside]) for types, nodes in homes]
        for inside in _places(world, what)
    ]


def _false_never(world: World, each: Infeasible) -> list[str]:
    homes = _homes_by_place(world, each.what)
    is_free = isinstance(each.what, Bundle) or each.what.locality is None
    if is_free and all(any(home) or _is_defined_so(world, group) for home, group in zip(homes[0], _wholes(each.what), strict=True)):
        return [f"{each.what} is refused for ever ({each.reason}), but could be had"]
    if not is_free and any(all(any(home) for home in found) for found in homes):
        return [f"{each.what} is refused for ever ({each.reason}), but could be had within one value"]
    return []


def _false_wait(world: World, each: Infeasible) -> list[str]:
    if each.reason is Reason.BUNDLE_ORDER:
        return _false_order(world, each.what)
    wrong = [_false_wait_at(world, each, homes) for homes in _homes_by_place(world, each.what)]
    return [] if [] in wrong else next(iter(wrong), [f"{each.what} waits ({each.reason}), but nothing has its label"])


def _false_wait_at(world: World, each: Infeasible, homes: list[tuple[list[str], list[str]]]) -> list[str]:
    if each.reason is Reason.NODES_SMALLER:
        told = [_is_defined_so(world, group) and not types for group, (types, _) in zip(_wholes(each.what), homes, strict=True)]
        return [] if any(told) else [f"{each.what} waits for larger nodes, but {homes} hold it"]
    if not all(any(home) for home in homes):
        return [f"{each.what} waits ({each.reason}), but can never be had"]
    if each.reason is Reason.PACKED_BY_SUM:
        names = {name for types, _ in homes for name in types}
        is_deceived = any(_deceives(world, each.what, name) for name in names) or _may_be_deceived(world, each.what)
        return [] if is_deceived else [f"{each.what} would be sent to {names}, or what is there, as devices hold it"]
    if each.reason is Reason.NO_ROOM:
        groups = _wholes(each.what)
        kept = [
            not _as_launched(world, group) and (each.is_constraint or is_ungrown(world, each.what, types))
            for group, (types, _) in zip(groups, homes, strict=True)
        ]
        able = [[] if is_kept else _in_order(world, each.what, types) for is_kept, (types, _) in zip(kept, homes, strict=True)]
        return [] if [] in able else [f"{each.what} waits for room, but could be launched for"]
    more = each.what.size if isinstance(each.what, Gang) else 0
    types = {name for found, _ in homes for name in found}
    return [] if any(_binds(world, each.reason, name, more) for name in types) else [f"{each.what}: {each.reason} does not bind"]


def _as_launched(world: World, group: tuple[Bundle, ...]) -> bool:
    return any(_holds(group, world.brings(name), each.node_labels()) for name, each in world.types.items())


def _deceives(world: World, what: object, name: str) -> bool:
    """Whether Ray would send an empty node of a type more of a gang than its devices hold, though each part alone may lie there."""
    if not isinstance(what, Gang) or what.strategy is not Strategy.PACK:
        return False
    labels = world.types[name].node_labels()
    return is_deceived(what, world.brings(name), lambda bundle: label_ok(bundle, labels))


def _may_be_deceived(world: World, what: object) -> bool:
    """Whether Ray packs a gang, and a node, there or of a type, has room in sum for a part of it that its devices do not hold."""
    is_packed = isinstance(what, Gang) and what.strategy in (Strategy.PACK, Strategy.STRICT_PACK)
    return is_packed and any(may_deceive(what, total) for total in (*world.total.values(), *map(world.brings, world.types)))


def _in_order(world: World, what: object, names: list[str]) -> list[str]:
    """Return the node types among `names` that hold what waits also in the order in which Ray gives out parts of devices."""
    if not isinstance(what, Gang) or what.strategy is not Strategy.STRICT_PACK or not has_mixed_parts(what):
        return names
    return [name for name in names if fits_in_order(what, world.brings(name))]


def _false_order(world: World, gang: Gang) -> list[str]:
    """The order may be in the way only of what could lie on one node, and on none as Ray gives it out."""
    together = _homes(world, tuple(each.bundle for each in gang.bundles for _ in range(each.count)))
    if gang.strategy not in (Strategy.PACK, Strategy.STRICT_PACK) or not any(together):
        return [f"{gang} waits for its order, but no node would hold all of it"]
    found = [name for name in together[0] if fits_in_order(gang, world.brings(name))]
    found += [name for name in together[1] if fits_in_order(gang, world.total[name])]
    if gang.locality:
        found = [name for name in found if any(name in inside for inside in _places(world, gang))]
    return [f"{gang} waits for its order, but an empty node of {found} holds it so"] if found else []


def _binds(world: World, reason: Reason, name: str, more: int) -> bool:
    more += world.types[name].hosts_per_replica
    if reason in PACED:
        return binds(world, reason, name)
    if reason is not Reason.BACKED_OFF and any(binds(world, each, kind) for each in PACED for kind in world.types):
        return is_set(world, reason, name)  # what is planned and held back, such as a minimum, has its place already
    if reason is Reason.MAX_WORKERS:
        return most_workers(world.state.config) < len(world.instances) + len(world.plan.launches) + more
    if reason is Reason.MAX_WORKERS_OF_TYPE:
        return 0 <= world.types[name].max_workers < world.live[name] + world.launched[name] + more
    if reason is Reason.SPEND_LIMIT:
        return is_too_dear(world, name, more)
    if reason is Reason.BACKED_OFF:
        return any(each.node_type == name for each in world.state.backoffs)
    if reason is Reason.UPSCALING_SPEED:
        return world.state.config.upscaling_speed is not None and launches(world, name) >= speed_limit(world, name)
    return False


def _rest(world: World) -> dict[str, Rest]:
    """Return what the plan leaves free on nodes that stay."""
    going = {each.instance_id for each in (*world.plan.drains, *world.plan.terminations)} | wholes.parted(world.state, world.plan)
    rest = {name: Rest(free, world.total[name]) for name, free in world.free.items() if name not in going and _stays(world, name)}
    for each in world.plan.placements:
        if not each.is_constraint and each.node in rest:
            rest[each.node].placed.append((each.bundle, each.count))
    return rest


def _stays(world: World, name: str) -> bool:
    return name not in world.instances or world.instances[name].node_dead_since is None


def _left_out(world: World, bundle: Bundle) -> list[str]:
    found = [name for name, rest in _rest(world).items() if _holds_more(world, name, rest, [bundle])]
    return [f"{bundle} is left out though {found} have room"] if found else []


def _left_out_gang(world: World, gang: Gang) -> list[str]:
    """A strict gang that the free rest alone could hold must not be refused; tried by brute force on small cases."""
    rest = _rest(world)
    bundles = [each.bundle for each in gang.bundles for _ in range(each.count)]
    if any(each.what is gang and each.reason is Reason.PACKED_BY_SUM for each in world.plan.infeasible):
        return []  # it has room there, but Ray sends it elsewhere: properties/test_sending_laws
    if gang.locality:
        inside = _places(world, gang)
        return next(
            (wrong for names in inside if (wrong := _left_out_of(world, gang, {n: e for n, e in rest.items() if n in names}, bundles))), []
        )
    return _left_out_of(world, gang, rest, bundles)


def _left_out_of(world: World, gang: Gang, rest: dict[str, Rest], bundles: list[Bundle]) -> list[str]:
    if gang.strategy is Strategy.STRICT_PACK:
        found = [name for name, each in rest.items() if _holds_more(world, name, each, bundles) and _has_order(world, name, each, gang)]
        return [f"gang {gang.gang_id} is refused though {found} have room"] if found else []
    if gang.strategy is not Strategy.STRICT_SPREAD or len(bundles) > 4:
        return []
    nodes = [name for name in rest if gang.label not in world.dynamic[name]][:7]
    for chosen in permutations(nodes, len(bundles)):
        if all(_holds_more(world, name, rest[name], [bundle]) for bundle, name in zip(bundles, chosen, strict=True)):
            return [f"gang {gang.gang_id} is refused though {chosen} have room"]
    return []


def _has_order(world: World, name: str, rest: Rest, gang: Gang) -> bool:
    """Whether devices surely suffice in the gang's order: where parts of them differ, only an empty node can tell."""
    is_empty = not rest.placed and world.free[name] == world.total[name]
    return not has_mixed_parts(gang) or (is_empty and fits_in_order(gang, world.total[name]))


def _holds_more(world: World, name: str, rest: Rest, bundles: list[Bundle]) -> bool:
    return all(label_ok(bundle, world.labels[name]) for bundle in bundles) and rest.holds(bundles)
