"""What ends: removed types, excess, launches not needed any more, idle nodes, and nodes that died. Drain before terminate, never kill.

What comes and goes together, the hosts of a replica, is a unit here: all of it ends, or none.
Owns drains and terminations. Knows nothing of how demand was placed, only which nodes have something on them.
"""

from collections import Counter
from collections.abc import Iterable

from rayscaler.model import replicas
from rayscaler.model.demand import Bundle
from rayscaler.model.instance import Instance, InstanceStatus, Reason
from rayscaler.model.node import DRAINED, NodeStatus, RayNode
from rayscaler.model.nodetype import UNLIMITED, UpdatePolicy
from rayscaler.model.plan import Drain, Termination
from rayscaler.model.words import counted
from rayscaler.planner import headroom, stuck
from rayscaler.planner.packing import loaded_members
from rayscaler.planner.sim import Draft
from rayscaler.planner.spare import Hosts, Place


def dead(draft: Draft) -> None:
    """End what has no living node any more: drained ones at once, others after a grace time (Ray's death news can be early)."""
    if draft.state.no_end is not None:
        return
    drained = {row.ray_node_id for row in draft.state.nodes if row.death in DRAINED}
    for instance in draft.instances:
        since = instance.node_dead_since
        if since is None:
            continue
        text = f"node {instance.ray_node_id} has ended after its drain"
        if instance.status is InstanceStatus.DRAINING:
            draft.terminations.append(Termination(instance.instance_id, Reason.DRAINED, text))
        elif instance.status is InstanceStatus.RUNNING and instance.ray_node_id in drained:  # asked for before the service's restart
            _end(draft, instance, Reason.DRAINED, text)
        elif instance.status is InstanceStatus.RUNNING and draft.state.now - since >= draft.state.node_dead_grace_s:
            text = f"node {instance.ray_node_id} has been dead for {draft.state.now - since:.0f} s"
            _end(draft, instance, Reason.NODE_DIED, text)


def ending(draft: Draft) -> None:
    """Drain what others are about to end, by then, so that nothing new lands there; a launch of that kind ends at once. Neither is capacity."""
    is_held = draft.state.no_end is not None
    for instance in _staying(draft):
        if instance.ends_at is None or instance.node_dead_since is not None:
            continue
        left_s = max(0.0, instance.ends_at - draft.state.now)
        text = f"{instance.ends_why}; ends in {left_s:.0f} s"
        row = draft.rows.get(instance.instance_id)
        draft.leave(instance)
        if is_held:
            continue
        if row is not None and row.takes_work:
            if instance.drain_not_before <= draft.state.now:
                node = instance.ray_node_id
                draft.drains.append(Drain(instance.instance_id, node, Reason.PREEMPTED, text, is_preemption=True, deadline_s=left_s))
        elif instance.is_in_flight and instance.status is not InstanceStatus.REJOINING:
            draft.terminations.append(Termination(instance.instance_id, Reason.PREEMPTED, text))


def removed_types(draft: Draft) -> None:
    """End instances of types that the definition has no more: launches at once, nodes by a drain that lets tasks finish (CD-5)."""
    if draft.state.no_end is not None:
        return
    for instance in _staying(draft):
        if instance.drain_not_before > draft.state.now and not instance.is_in_flight:
            continue
        if draft.view(instance.node_type) is None and instance.node_dead_since is None:
            text = f"the definition has no node type {instance.node_type} any more"
            end_or_drain(draft, instance, Reason.TYPE_REMOVED, text, is_idle_enough=False)


def outdated(draft: Draft) -> None:
    """Replace what was launched with another make than its type has now, as its update policy says (CD-6): launches at once.

    Rolling: nodes go as they fall idle. Work is waited for, what work could still take the node stays for it, and of what is to stay one
    at a time goes, once the one before has been replaced: so a new make that does not start costs one node, not all. Recreate: all nodes
    are drained, and each ends with its work. OnDelete: nothing is replaced.
    """
    if draft.state.no_end is not None:
        return
    config = draft.state.config
    policy = {view.name: view.node_type.update_policy for view in draft.views}
    old = [each for each in _staying(draft) if config.is_outdated(each.made_as) and each.node_dead_since is None]
    for instance in old:
        if policy[instance.node_type] is UpdatePolicy.ON_DELETE or instance.status is InstanceStatus.REJOINING:
            continue
        if instance.is_in_flight:
            _end(draft, instance, Reason.OUTDATED, f"{instance.node_type} has changed since this was launched")
        elif policy[instance.node_type] is UpdatePolicy.RECREATE and instance.drain_not_before <= draft.state.now:
            text = f"{instance.node_type} has changed since this was launched, and all of them are made anew"
            end_or_drain(draft, instance, Reason.OUTDATED, text, is_idle_enough=False)
    rolling = [each for each in old if policy[each.node_type] is UpdatePolicy.ROLLING]
    if rolling:
        _roll(draft, rolling)


def _roll(draft: Draft, old: Iterable[Instance]) -> None:
    """Drain what is idle: what is above the least; of the least one unit, when nothing of the type comes or goes."""
    joined = Counter(each.node_type for each in _staying(draft) if not each.is_in_flight and each.node_dead_since is None)
    spare = _above_least(draft, joined)
    first = {name for name, count in spare.items() if count >= 0 and joined[name] == draft.live[name]}
    wanted = {shape.bundle for shape in (*draft.demands, *draft.constraint)}
    wanted |= {each.bundle for gang in draft.gangs for each in gang.bundles}
    for _, _, unit in sorted(_idle_units(draft, old), key=lambda each: each[:2]):
        name = unit[0].node_type
        if any(_is_wanted(draft.rows[each.instance_id], wanted) for each in unit):
            continue
        if spare[name] >= len(unit) or name in first:
            spare[name] -= len(unit)
            first.discard(name)
            for each in unit:
                text = f"{name} has changed since this was launched, and nothing runs on it"
                end_or_drain(draft, each, Reason.OUTDATED, text, is_idle_enough=True)


def _idle_units(draft: Draft, instances: Iterable[Instance]) -> list[tuple[float, str, tuple[Instance, ...]]]:
    """Return what could go now, all of it idle: for how long, as less than nothing, so that the longest comes first, the first name, and all."""
    found: list[tuple[float, str, tuple[Instance, ...]]] = []
    hosts: list[Instance] = []
    for each in instances:
        if each.replica:
            hosts.append(each)
        elif (idle_s := _free_s(draft, each)) is not None:
            found.append((-idle_s, each.instance_id, (each,)))
    for unit in replicas.units(hosts):
        known = [idle_s for each in unit if (idle_s := _free_s(draft, each)) is not None]
        if len(known) == len(unit):
            found.append((-min(known), unit[0].instance_id, unit))
    return found


def _free_s(draft: Draft, instance: Instance) -> float | None:
    """Return how long the instance's node has been idle, if it still takes work."""
    idle_s = _idle_s(draft, instance)
    return idle_s if idle_s is not None and draft.rows[instance.instance_id].takes_work else None


def _is_wanted(row: RayNode, wanted: Iterable[Bundle]) -> bool:
    """Whether anything that is asked for now could take the node: Ray may be about to put it there."""
    labels = dict(row.labels)
    return any(each.resources.fits(row.total) and (not each.selectors or each.label_rank(labels) is not None) for each in wanted)


def excess_of_types(draft: Draft) -> None:
    """End what is above a type's maximum."""
    for view in draft.views:
        most = view.node_type.max_workers
        excess = draft.staying[view.name] - most
        if most != UNLIMITED and excess > 0:
            text = f"{view.name} has {draft.staying[view.name]} of at most {counted(most, 'worker')}"
            _end_excess(draft, _staying(draft, view.name), excess, Reason.MAX_WORKERS_OF_TYPE, text)


def excess(draft: Draft) -> None:
    """End what is above the cluster's maximum, keeping each type's minimum."""
    most = draft.state.config.max_workers
    above = draft.staying.total() - most
    if most != UNLIMITED and above > 0:
        text = f"the cluster has {draft.staying.total()} of at most {counted(most, 'worker')}"
        _end_excess(draft, _staying(draft), above, Reason.MAX_WORKERS, text)


def _end_excess(draft: Draft, candidates: Iterable[Instance], count: int, reason: Reason, detail: str) -> None:
    """End `count`, or the unit that has the last of them: launches first, newest first; then idle nodes, the dearest, then the longest idle first; then the least long requested ones."""
    if draft.state.no_end is not None:
        return
    minimum = {view.name: view.node_type.min_workers for view in draft.views}
    in_order = sorted(replicas.units(candidates), key=lambda unit: _excess_order_of(draft, unit))
    dead = Counter(unit[0].node_type for unit in in_order for _ in unit if _is_dying(unit))
    for unit in in_order:
        if count <= 0:
            return
        if not _is_dying(unit):
            name = unit[0].node_type
            living = draft.staying[name] - dead[name]  # the dead keep no minimum
            if living - len(unit) < minimum.get(name, 0) and reason is Reason.MAX_WORKERS:
                continue
            is_idle = all(each.is_in_flight or _idle_s(draft, each) is not None for each in unit)
            for each in unit:
                end_or_drain(draft, each, reason, detail, is_idle_enough=is_idle)
        count -= len(unit)


def _is_dying(unit: Iterable[Instance]) -> bool:
    """Whether it goes by itself: a replica with one dead host is about to be broken."""
    return any(each.node_dead_since is not None for each in unit)


def _excess_order_of(draft: Draft, unit: Iterable[Instance]) -> tuple[int, int, float, str]:
    return (min if _is_dying(unit) else max)(_excess_order(draft, each) for each in unit)


def _excess_order(draft: Draft, instance: Instance) -> tuple[int, int, float, str]:
    if instance.node_dead_since is not None:
        return (-1, 0, 0.0, instance.instance_id)  # goes by itself
    if instance.is_in_flight:
        return (0, 0, -instance.requested_at, instance.instance_id)
    idle_s = _idle_s(draft, instance)
    if idle_s is not None:
        return (1, -draft.price(instance.node_type), -idle_s, instance.instance_id)
    return (2, 0, -instance.requested_at, instance.instance_id)


def _idle_s(draft: Draft, instance: Instance) -> float | None:
    """Return how long the instance's node has been idle; None if it is not, or Ray refused its drain just now."""
    row = draft.rows.get(instance.instance_id)
    if row is None or row.status is not NodeStatus.IDLE or instance.drain_not_before > draft.state.now:
        return None
    return row.idle_s


def unneeded(draft: Draft) -> None:
    """Name launches that nothing needs; end those that nothing has needed for the grace time (SP-9). Blind: name none.

    As many that get on as there are nodes at work are kept, the oldest: over a day (tests/simulation/test_day.py) calling those off too saves
    1.6 % of the cost, and work waits longer, some of it for launches of the same type soon after. A worker that is rejoining is no launch: it has its own deadline, and once it is back its idle timeout.
    """
    if draft.state.no_end is not None:
        return
    since = dict(draft.state.unneeded_since)
    spare = _above_headroom(draft, _above_least(draft, draft.staying))
    needed = loaded_members(draft.runs, draft.floor) | _still_promised(draft) | stuck.kept(draft)
    launched = [each for each in _staying(draft) if each.is_launching]
    mates = [each for each in _staying(draft) if each.replica and not each.is_launching] if launched else []
    flying = [
        unit for unit in replicas.units([*launched, *mates]) if all(each.is_launching and each.instance_id not in needed for each in unit)
    ]
    coming = sorted(
        (unit for unit in flying if all(each.trouble is None and each.stuck_since is None for each in unit)),
        key=lambda unit: (unit[0].requested_at, unit[0].instance_id),
    )
    at_work, kept = _at_work(draft), set[str]()
    for unit in coming:
        if len(kept) < at_work:
            kept.update(each.instance_id for each in unit)
    for unit in sorted(flying, key=lambda unit: (-unit[0].requested_at, unit[0].instance_id)):
        if unit[0].instance_id in kept or spare[unit[0].node_type] < len(unit):
            continue
        spare[unit[0].node_type] -= len(unit)
        draft.unneeded.extend(each.instance_id for each in unit)
        waited = draft.state.now - max(since.get(each.instance_id, draft.state.now) for each in unit)
        if all(each.instance_id in since for each in unit) and waited >= draft.state.unneeded_grace_s:
            for each in unit:
                _end(draft, each, Reason.UNNEEDED, f"nothing has needed this launch for {waited:.0f} s")


def _at_work(draft: Draft) -> int:
    """Return how many nodes work: where some do, new work is likely to take a launch before another could come."""
    return sum(row.status is NodeStatus.RUNNING for row in draft.rows.values())


def _still_promised(draft: Draft) -> set[str]:
    """Return launches that cannot be judged now: room that work has just taken still counts as free, so their own demand may lie there."""
    if not draft.state.is_landing:
        return set()
    return {each.instance_id for each in draft.state.expectations if any(reserve.bundle in draft.shapes for reserve in each.reserves)}


def idle(draft: Draft) -> None:
    """Drain nodes that are idle for their timeout and that neither demand, constraint, minimum nor hold needs, longest idle first."""
    if draft.state.no_end is not None:
        return
    used = loaded_members(draft.runs, draft.floor)
    joined = Counter(each.node_type for each in _staying(draft) if not each.is_in_flight)
    spare = _above_headroom(draft, _above_least(draft, joined))
    for negative_idle_s, _, unit in sorted(_idle_units(draft, _staying(draft)), key=lambda each: each[:2]):
        name = unit[0].node_type
        timeout_s = draft.state.config.idle_timeout_of(name)
        if -negative_idle_s < timeout_s or spare[name] < len(unit) or not used.isdisjoint(each.instance_id for each in unit):
            continue
        spare[name] -= len(unit)
        text = f"idle for {-negative_idle_s:.0f} s, the timeout is {timeout_s:g} s, and nothing needs it"
        for each in unit:
            end_or_drain(draft, each, Reason.IDLE, text, is_idle_enough=True)


def consolidate(draft: Draft) -> None:
    """Drain idle nodes, dearest first, whose work of the last idle timeout would have fit on others beside theirs (opt-in).

    Ray alone decides where work goes, so an idle moment is all that can be waited for. Nothing goes while anything waits or is on its way:
    what was in use is not all there is then. A replica of several hosts does not go: its work would have to fit elsewhere all at once.
    """
    if not draft.state.config.consolidation or draft.state.no_end is not None or _is_wanting(draft):
        return
    places = _places(draft)
    needed = loaded_members(draft.floor)
    spare = _above_headroom(draft, _above_least(draft, Counter(each.node_type for each in _staying(draft))))
    idle_s = {place.name: found for each, place in places if place.name not in needed and (found := _idle_s(draft, each)) is not None}
    fixed = {each.instance_id for each, _ in places if each.replica}
    busy = [place for _, place in places if place.name not in idle_s]
    idle = sorted(
        (pair for pair in places if pair[1].name in idle_s),
        key=lambda each: (-draft.price(each[0].node_type), -idle_s[each[1].name], each[1].name),
    )
    hosts = Hosts([*busy, *(place for _, place in reversed(idle))], draft.device_names)
    for instance, place in idle:
        host = hosts.take(place) if spare[instance.node_type] > 0 and place.name not in fixed else None
        if host is not None:
            spare[instance.node_type] -= 1
            text = f"for an idle timeout at least {place.used} was in use on it at most, which {host} has room for beside its own"
            end_or_drain(draft, instance, Reason.CONSOLIDATED, text, is_idle_enough=True)


def _is_wanting(draft: Draft) -> bool:
    """Whether anything waits that could be had, or is on its way."""
    is_placed = any(run.load for run in draft.runs)
    is_flying = bool(draft.launching) or any(each.is_in_flight for each in _staying(draft))
    return is_placed or is_flying or any(not each.is_never for each in draft.infeasible)


def _places(draft: Draft) -> list[tuple[Instance, Place]]:
    """Return the nodes of which it is known what was in use, by name."""
    busiest = dict(draft.state.busiest)
    found: list[tuple[Instance, Place]] = []
    for each in sorted(_staying(draft), key=lambda each: each.instance_id):
        row, view = draft.rows.get(each.instance_id), draft.view(each.node_type)
        if row is None or view is None or not row.takes_work or each.node_dead_since is not None:
            continue
        if row.ray_node_id in busiest:
            labels = frozenset(view.node_type.labels)
            found.append((each, Place(each.instance_id, row.total, busiest[row.ray_node_id], labels)))
    return found


def _above_least(draft: Draft, counts: Counter[str]) -> Counter[str]:
    return Counter({name: count - draft.least.get(name, 0) for name, count in counts.items()})


def _above_headroom(draft: Draft, spare: Counter[str]) -> Counter[str]:
    """Return `spare` without what is to stay ready; launches that are named as unneeded are on their way out."""
    wanted = {view.name: view.node_type for view in draft.views if view.node_type.headroom}
    named = Counter(each.node_type for each in _staying(draft) if each.instance_id in draft.unneeded) if wanted else Counter[str]()
    left = {name: headroom.ready(draft, each) - named[name] - each.headroom for name, each in wanted.items()}
    return Counter({name: min(count, left.get(name, count)) for name, count in spare.items()})


def _staying(draft: Draft, node_type: str | None = None) -> list[Instance]:
    return [each for each in draft.instances if each.instance_id not in draft.leaving and node_type in (None, each.node_type)]


def end_or_drain(draft: Draft, instance: Instance, reason: Reason, detail: str, *, is_idle_enough: bool) -> None:
    """End a launch, drain a node: an idle one so that Ray may refuse, a busy one so that its tasks finish (no deadline, no kill)."""
    if instance.is_in_flight:
        _end(draft, instance, reason, detail)
        return
    draft.leave(instance)
    draft.drains.append(Drain(instance.instance_id, instance.ray_node_id, reason, detail, is_preemption=not is_idle_enough))


def _end(draft: Draft, instance: Instance, reason: Reason, detail: str) -> None:
    draft.leave(instance)
    draft.terminations.append(Termination(instance.instance_id, reason, detail))
