"""What is done about each shape that waits, or why not: on nodes that are there, on the way, refused for now or for ever."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from rayscaler.model.demand import Bundle, Gang
from rayscaler.model.explanation import Because, DemandKind, OnTheWay, ShapeExplanation
from rayscaler.model.instance import Instance, InstanceStatus, Reason
from rayscaler.model.plan import Infeasible
from rayscaler.planner.door import is_synthetic
from rayscaler.reconciler import backlog, misfit
from rayscaler.reconciler.explain import bysum, floor
from rayscaler.reconciler.explain.scene import Scene, shape_key
from rayscaler.reconciler.state import seen_at
from rayscaler.reconciler.unfinished import instance_names

Key = tuple[DemandKind, Bundle | str]
"""Kind, and the bundle or a gang's id."""


@dataclass
class _Tally:
    """Where one shape lies in the plan, in bundles."""

    joined: int = 0
    unwritten: int = 0
    rejoining: int = 0
    flying: dict[str, int] = field(default_factory=dict)
    carriers: dict[str, Instance] = field(default_factory=dict)
    refused: list[Infeasible] = field(default_factory=list)


def shapes(scene: Scene) -> tuple[ShapeExplanation, ...]:
    """Return one reason for each: tasks first, then gangs, then what request_resources() asks for and no joined node gives."""
    tallies = _tallies(scene)
    return tuple(each for part in (_tasks, _gangs, _constraint) for each in part(scene, tallies))


def _tallies(scene: Scene) -> dict[Key, _Tally]:
    tallies: dict[Key, _Tally] = defaultdict(_Tally)
    for each in scene.plan.infeasible:
        gang_or_bundle = each.what.gang_id if isinstance(each.what, Gang) else each.what
        tallies[_key(gang_or_bundle, is_gang=isinstance(each.what, Gang), is_constraint=each.is_constraint)].refused.append(each)
    names = instance_names(scene.state.config, scene.plan, scene.memory.record.batch)
    for place in scene.plan.placements:
        tally = tallies[_key(place.gang_id or place.bundle, is_gang=bool(place.gang_id), is_constraint=place.is_constraint)]
        _count(tally, place.node, _carrier(scene, names, place.node), place.count)
    return tallies


def _key(what: Bundle | str, *, is_gang: bool, is_constraint: bool) -> Key:
    return (DemandKind.GANG if is_gang else DemandKind.CONSTRAINT if is_constraint else DemandKind.TASKS, what)


def _carrier(scene: Scene, names: Sequence[str], node: str) -> Instance | None:
    """Return the instance that `node` of a placement names; of a launch, the instance that it has become, by their `names`."""
    if node.startswith("new:"):
        node = names[int(node.removeprefix("new:"))]
    return scene.memory.instances.get(node)


def _count(tally: _Tally, node: str, carrier: Instance | None, count: int) -> None:
    if carrier is None and node.startswith("new:"):
        tally.unwritten += count
    elif carrier is None or not carrier.is_in_flight:
        tally.joined += count
    elif carrier.status is InstanceStatus.REJOINING:
        tally.rejoining += count
    else:
        tally.carriers[carrier.instance_id] = carrier
        tally.flying[carrier.node_type] = tally.flying.get(carrier.node_type, 0) + count


def _tasks(scene: Scene, tallies: dict[Key, _Tally]) -> Iterator[ShapeExplanation]:
    snapshot = scene.snapshot
    is_awaited = bool(snapshot.live_jobs or snapshot.live_detached_actors)
    counts: dict[Bundle, int] = defaultdict(int)
    for each in snapshot.demands:
        counts[each.bundle] += each.count
    for bundle, count in sorted(counts.items(), key=lambda each: str(each[0])):
        key = shape_key(DemandKind.TASKS, bundle)
        tally = tallies.get((DemandKind.TASKS, bundle)) or _Tally()
        if not is_awaited:
            because = scene.because(key, Reason.NOBODY_WAITS, "no job and no detached actor is alive to wait for it")
        elif is_synthetic(bundle):
            because = scene.because(key, Reason.GANG, "it runs inside a placement group, which is planned whole")
        else:
            because = _because(scene, (DemandKind.TASKS, bundle), tally, count)
        yield ShapeExplanation(DemandKind.TASKS, str(bundle), bundle, "", count, because, _on_the_way(scene, tally))


def _gangs(scene: Scene, tallies: dict[Key, _Tally]) -> Iterator[ShapeExplanation]:
    for gang_id, gang in sorted({each.gang_id: each for each in scene.snapshot.gangs}.items()):
        key = shape_key(DemandKind.GANG, gang_id)
        tally = tallies.get((DemandKind.GANG, gang_id)) or _Tally()
        if gang.is_orphaned:
            because = scene.because(key, Reason.NOBODY_WAITS, "the job that made this placement group has ended")
        else:
            because = _because(scene, (DemandKind.GANG, gang_id), tally, gang.size)
        yield ShapeExplanation(DemandKind.GANG, str(gang), None, gang_id, 1, because, _on_the_way(scene, tally))


def _constraint(scene: Scene, tallies: dict[Key, _Tally]) -> Iterator[ShapeExplanation]:
    counts: dict[Bundle, int] = defaultdict(int)
    for each in scene.state.constraint.demands if scene.state.constraint else ():
        counts[each.bundle] += each.count
    if scene.memory.floor_owners.is_over:
        for each in scene.memory.floor.demands if scene.memory.floor else ():
            because = scene.because(shape_key(DemandKind.CONSTRAINT, each.bundle), Reason.NOBODY_WAITS, floor.over(scene))
            yield ShapeExplanation(DemandKind.CONSTRAINT, str(each.bundle), each.bundle, "", each.count, because)
    for bundle, count in sorted(counts.items(), key=lambda each: str(each[0])):
        tally = tallies.get((DemandKind.CONSTRAINT, bundle)) or _Tally()
        if tally.joined < count:
            because = _because(scene, (DemandKind.CONSTRAINT, bundle), tally, count)
            yield ShapeExplanation(DemandKind.CONSTRAINT, str(bundle), bundle, "", count, because, _on_the_way(scene, tally))


def _because(scene: Scene, key: Key, tally: _Tally, count: int) -> Because:
    """Return the reason that weighs most; the detail says how many stand how."""
    name = shape_key(*key)
    if scene.state.no_launch is not None:
        return scene.blind(name, scene.state.no_launch)
    parts = list(_parts(scene, key, tally, count)) or [(Reason.PLACED, "", None)]
    reason, _, until = parts[0]
    return scene.because(name, reason, "; ".join(text for _, text, _ in parts if text), until=until)


def _parts(scene: Scene, key: Key, tally: _Tally, count: int) -> Iterator[tuple[Reason, str, float | None]]:
    """Yield (reason, detail, until) of each part of a shape's count, what cannot be helped first."""
    refused = sorted(tally.refused, key=lambda each: not each.is_never)
    yield from ((each.reason, each.detail, each.until) for each in refused)
    if tally.unwritten:
        yield Reason.RECORD_UNWRITTEN, f"{tally.unwritten} are to be launched for", scene.retry_at
    if tally.flying:
        on_the_way = _on_the_way(scene, tally)
        named = ", ".join(f"{each.count} on {each.nodes} {each.node_type}" for each in on_the_way)
        yield Reason.LAUNCHING, f"on their way: {named}", max((each.until for each in on_the_way if each.until is not None), default=None)
    if tally.rejoining:
        yield Reason.HEAD_LOST, f"{tally.rejoining} on workers that are rejoining", None
    rest = count - tally.joined - tally.unwritten - tally.rejoining - sum(tally.flying.values())
    if rest > 0 and not refused and key[0] is DemandKind.TASKS and isinstance(key[1], Bundle):
        yield Reason.COUNT_UNSURE, f"{rest} have only just come on top", _believed_at(scene, key[1])
    if tally.joined:
        yield Reason.PLACED, "; ".join(filter(None, [f"{tally.joined} on nodes that are there", _why_not_begun(scene, key)])), None


def _why_not_begun(scene: Scene, key: Key) -> str:
    """Return what keeps Ray from beginning what has had room for longer than Ray takes; empty where nothing is known."""
    kind, what = key
    before = scene.before.get(shape_key(*key))
    is_late = before is not None and before.reason is Reason.PLACED and scene.state.now - before.since >= misfit.LEARNED_S
    if not is_late or kind is not DemandKind.TASKS or not isinstance(what, Bundle):
        return ""
    return bysum.hint(what, scene.snapshot.nodes, scene.state.config.device_names)


def _believed_at(scene: Scene, bundle: Bundle) -> float | None:
    memory = scene.memory
    history = {bundle: memory.counts.get(bundle, ())}
    return backlog.next_expiry(history, seen_at(memory, scene.state.now), memory.timings.backlog_lag_s)


def _on_the_way(scene: Scene, tally: _Tally) -> tuple[OnTheWay, ...]:
    found = []
    for node_type, count in sorted(tally.flying.items()):
        carriers = [each for each in tally.carriers.values() if each.node_type == node_type]
        untils = [until for each in carriers if (until := scene.limits.of(each)) is not None]
        found.append(OnTheWay(node_type, len(carriers), count, max(untils, default=None)))
    return tuple(found)
