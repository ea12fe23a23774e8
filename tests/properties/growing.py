"""The judge's part on nodes that grow in place: who may, how far, exactly by what is lacking, and before anything is launched."""

from collections import Counter, defaultdict

from rayscaler.model.demand import Bundle, Gang
from rayscaler.model.instance import IN_FLIGHT, InstanceStatus, Reason
from rayscaler.model.nodetype import NodeType
from rayscaler.model.plan import Growth
from rayscaler.model.resources import UNIT, Resources
from tests.properties.world import GROWS, Rest, World, fits, label_ok, lacking


def growths(world: World) -> list[str]:
    wrong = []
    placed: dict[str, Counter] = defaultdict(Counter)
    for each in world.plan.placements:
        if not each.is_constraint:
            placed[each.node][each.bundle, each.gang_id] += each.count
    for each in world.plan.growths:
        wrong += [f"{each.instance_id} grows {found}" for found in _breaches(world, each, placed[each.instance_id])]
    names = [each.instance_id for each in world.plan.growths]
    if len(set(names)) != len(names):
        wrong.append(f"{names} grow, some twice")
    return [*wrong, *_launched_first(world)]


def _breaches(world: World, growth: Growth, placed: Counter) -> list[str]:
    wrong, name = [], growth.instance_id
    spare = may_grow(world, name)
    if not spare or world.state.no_launch is not None:
        return ["though it may not"]
    row, kind = world.row_of(name), world.types[world.instances[name].node_type]
    if growth.ray_node_id != row.ray_node_id:
        wrong.append("by another node's name")
    if {each.instance_id for each in (*world.plan.drains, *world.plan.terminations)} & {name}:
        wrong.append("and is ended")
    sums: Counter[str] = Counter()
    for (bundle, _), count in placed.items():
        sums.update({each: amount * count for each, amount in bundle.resources.items()})
    exact = {**kind.resources}
    for each in (name for name in GROWS if name in kind.resize.resources):
        lacks = max(0, sums[each] - row.available.get(each, 0))
        total = row.total.get(each, 0)
        exact[each] = total if not lacks else -(-(total + lacks) // UNIT) * UNIT
        if exact[each] > total + spare.get(each, 0):
            wrong.append(f"to {exact[each]} {each}, which is beyond {kind.resize}")
    if growth.resources != Resources(exact):
        wrong.append(f"to {growth.resources}, and needs {Resources(exact)}")
    if all(exact.get(each, 0) == row.total.get(each, 0) for each in GROWS if each in exact):
        wrong.append("by nothing")
    reserved: Counter = Counter()
    for each in growth.reserves:
        reserved[each.bundle, each.gang_id] += each.count
    if reserved != placed:
        wrong.append(f"for {growth.reserves}, and gets {placed}")
    return wrong


def may_grow(world: World, name: str) -> dict[str, int]:
    """Return by how much a worker may grow now, {} if it may not."""
    instance, state = world.instances.get(name), world.state
    if instance is None or name not in world.free or instance.status is not InstanceStatus.RUNNING or instance.node_dead_since is not None:
        return {}
    kind, row = world.types.get(instance.node_type), world.row_of(name)
    if kind is None or kind.resize is None or world.is_outdated(instance) or instance.growing or instance.ungrown_until > state.now:
        return {}
    if instance.stuck_since is not None or any(row.total.get(each, 0) < kind.resources.get(each, 0) for each in GROWS):
        return {}
    found = {each: kind.resize.resources.get(each, 0) - row.total.get(each, 0) for each in GROWS}
    return {each: amount for each, amount in found.items() if amount > 0}


def grown_of_type(world: World, name: str) -> dict[str, int] | None:
    """Return what a node of a type brings once it has grown as far as it may; None where it keeps its size."""
    kind, brings = world.types[name], world.brings(name)
    if kind.resize is None or any(brings.get(each, 0) < kind.resources.get(each, 0) for each in GROWS):
        return None
    return {**brings, **{each: max(brings.get(each, 0), kind.resize.resources.get(each, 0)) for each in GROWS}}


def coming(world: World, node: str) -> dict[str, int] | None:
    """Return what a launch brings once it has grown, where that is what it was launched for."""
    if node.startswith("new:"):
        return grown_of_type(world, world.plan.launches[int(node.removeprefix("new:"))].node_type)
    instance = world.instances.get(node)
    if instance is None or instance.status not in IN_FLIGHT or world.is_outdated(instance):
        return None
    reserves = [
        each for known in world.state.expectations if known.instance_id == node for each in known.reserves if not each.is_constraint
    ]
    is_more = bool(lacking([(each.bundle, each.count) for each in reserves], world.total[node], world.total[node]))
    return grown_of_type(world, instance.node_type) if is_more else None


def fits_as_launched(world: World, bundle: Bundle) -> bool:
    return any(_holds(world.brings(name), each, bundle) for name, each in world.types.items())


def types_that_grow(world: World, group: tuple[Bundle, ...]) -> list[str]:
    """Return the types whose nodes would hold all of these once they have grown."""
    known = [(name, kind, grown_of_type(world, name)) for name, kind in world.types.items()]
    return [
        name
        for name, kind, grown in known
        if grown and not lacking([(each, 1) for each in group], grown, grown) and all(label_ok(each, kind.node_labels()) for each in group)
    ]


def is_ungrown(world: World, what: Bundle | Gang, types: list[str]) -> bool:
    """Whether nothing is launched to grow for this: never for a gang (or the constraint), nor for a while after a node of the type could not."""
    late = {each.node_type for each in world.instances.values() if each.ungrown_until > world.state.now}
    return isinstance(what, Gang) or late.issuperset(types)


def _holds(brings: dict[str, int], kind: NodeType, bundle: Bundle) -> bool:
    return fits(bundle, brings, brings) and label_ok(bundle, kind.node_labels())


def _launched_first(world: World) -> list[str]:
    """Nothing is launched for, or refused, that a node could take by growing; but one with what it does not ask for is left to others.

    What lies on hosts that come only since a replica is whole, whose reason is the demand too, needs nothing more.
    """
    plan = world.plan
    if world.state.no_launch is not None or (plan.mix is not None and plan.mix.steps):
        return []
    alone = [each for each in plan.launches if each.reason is Reason.DEMAND and world.types[each.node_type].hosts_per_replica == 1]
    launched = {each.bundle for launch in alone for each in launch.reserves if not each.gang_id}
    refused = {each.what for each in plan.infeasible if isinstance(each.what, Bundle) and not each.is_constraint}
    wrong = []
    for name in world.instances:
        spare = may_grow(world, name)
        if not spare or {each.instance_id for each in (*plan.drains, *plan.terminations)} & {name}:
            continue
        before = {each.instance_id: each.resources for each in plan.growths}.get(name, world.row_of(name).total)
        left = {each: spare.get(each, 0) - before.get(each, 0) + world.row_of(name).total.get(each, 0) for each in GROWS}
        free = {**world.free[name], **{each: world.free[name].get(each, 0) + left[each] for each in GROWS}}
        rest = Rest(free, world.total[name])
        rest.placed = [(each.bundle, each.count) for each in plan.placements if each.node == name and not each.is_constraint]
        able = [each for each in {*launched, *refused} if label_ok(each, world.labels[name]) and rest.holds([each])]
        wrong += [
            f"{each} waits or is launched for, though {name} may grow for it"
            for each in able
            if not (_has_more(world, name, each) and (each not in refused or world.state.config.upscaling_speed is not None))
        ]
    return wrong


def _has_more(world: World, name: str, bundle: Bundle) -> bool:
    return bool(set(world.types[world.instances[name].node_type].resources) - {"CPU", "memory", "object_store_memory", *bundle.resources})
