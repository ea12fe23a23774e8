"""From the draft to the Plan: launches with what they are for, and where everything lies. Decides nothing."""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain

from rayscaler.model.demand import Bundle, Reserve
from rayscaler.model.instance import Reason
from rayscaler.model.nodetype import GROWS
from rayscaler.model.plan import Growth, Infeasible, Launch, Placed, Placements, Plan
from rayscaler.model.resources import UNIT, Resources
from rayscaler.model.words import counted
from rayscaler.planner.sim import Draft, Load, NodeRun, Shape

NAMED = 4
"""Things named in one sentence; the rest is a number."""


def plan_of(draft: Draft) -> Plan:
    """Return the plan that the draft has become."""
    return Plan(
        launches=_launches(draft),
        growths=tuple(_growths(draft)),
        drains=tuple(draft.drains),
        terminations=tuple(draft.terminations),
        infeasible=tuple(_asked(draft)),
        placements=Placements((*_placed(draft.floor, is_constraint=True), *_placed(draft.runs, is_constraint=False))),
        unneeded=tuple(sorted(draft.unneeded)),
        mix=draft.mix,
    )


def _asked(draft: Draft) -> Iterator[Infeasible]:
    """Yield what is refused of that which somebody waits for: work that still runs on a node about to end waits for nothing yet."""
    displaced = dict(draft.displaced)
    for each in draft.infeasible:
        running = displaced.get(each.what, 0) if isinstance(each.what, Bundle) and not each.is_constraint else 0
        if running and isinstance(each.what, Bundle):
            displaced[each.what] = max(0, running - each.count)
        if each.count > running:
            yield replace(each, count=each.count - running) if running else each


def _placed(runs: Sequence[NodeRun], *, is_constraint: bool) -> list[Placed]:
    return [Placed(load.shape.bundle, load.each, run.members, load.gang_id, is_constraint) for run in runs for load in run.load]


def _launches(draft: Draft) -> tuple[Launch, ...]:
    """Return the launches by their index; nodes that are equal in both views share one Launch, so this goes with the runs."""
    starts, loads = [0], [tuple[Load, ...]()]
    launched = [(run.members, run.load) for run in draft.floor if isinstance(run.members, range)]
    for members, load in sorted(launched, key=lambda each: each[0].start):
        starts += [members.start, members.stop]
        loads += [load, ()]
    launches: dict[int, list[Launch]] = {}
    for run in draft.runs:
        if isinstance(run.members, range):
            for part, floor in _parted(run.members, starts, loads):
                node_type, reason = draft.launching[part.start]
                launches[part.start] = [_launch(draft, node_type, reason, run.load, floor)] * len(part)
    return tuple(chain.from_iterable(launches[first] for first in sorted(launches)))


def _growths(draft: Draft) -> Iterator[Growth]:
    """Yield what grows, by name."""
    loads = {member: run.load for run in draft.runs for member in run.members if member in draft.grown} if draft.grown else {}
    known = {each.instance_id: each for each in draft.instances if each.instance_id in draft.grown}
    for name, grown in sorted(draft.grown.items()):
        total, view = draft.rows[name].total, draft.view(known[name].node_type)
        may = view.node_type.resize.resources if view and view.node_type.resize else Resources()
        before = {kind: total[kind] for kind in GROWS if kind in total and kind in may}
        after = {**before, **{draft.names[index]: before.get(draft.names[index], 0) + amount for index, amount in grown.items()}}
        brings = view.node_type.resources.amounts if view else {}
        reserves = tuple(Reserve(each.shape.bundle, each.each, each.gang_id) for each in _merged(draft, loads[name]))
        text = f"{name} grows from {Resources(before)} to {Resources(after)}, and then holds {_named(reserves)}"
        yield Growth(name, draft.rows[name].ray_node_id, Resources({**brings, **after}), text, reserves)


def _parted(members: range, starts: Sequence[int], loads: Sequence[tuple[Load, ...]]) -> Iterator[tuple[range, tuple[Load, ...]]]:
    """Yield the parts of a run's launches that are equal on the floor too, with what lies there; `loads` hold from `starts` on."""
    at = members.start
    while at < members.stop:
        position = bisect_right(starts, at)
        stop = min([members.stop, *starts[position : position + 1]])
        yield range(at, stop), loads[position - 1]
        at = stop


def _launch(draft: Draft, node_type: str, reason: Reason, load: Sequence[Load], floor: Sequence[Load]) -> Launch:
    reserves = [Reserve(each.shape.bundle, each.each, each.gang_id) for each in _merged(draft, load)]
    reserves += [Reserve(each.shape.bundle, each.each, is_constraint=True) for each in _merged(draft, floor)]
    gangs = tuple(dict.fromkeys(each.gang_id for each in reserves if each.gang_id))
    if reason is Reason.REPLICA and reserves:  # it would have been launched for this otherwise
        is_floor = all(each.is_constraint for each in reserves)
        reason = Reason.CONSTRAINT if is_floor else Reason.GANG if gangs else Reason.DEMAND
    if reason is Reason.DEMAND and all(each.bundle in draft.displaced for each in reserves):
        reason = Reason.REPLACES
    return Launch(node_type, reason, _detail(draft, node_type, reason, reserves), tuple(reserves), gangs)


def _merged(draft: Draft, load: Sequence[Load]) -> list[Load]:
    """Return the load with equal ones together, but parts of devices in the order in which they came: it decides which device each is of."""
    found: list[Load] = []
    positions: dict[Load, int] = {}
    for each in load:
        key = each._replace(each=0)
        position = positions.get(key, len(found))
        if position < len(found) and not (_has_parts(draft, each.shape) and position < len(found) - 1):
            found[position] = key._replace(each=found[position].each + each.each)
        else:
            positions[key] = len(found)
            found.append(each)
    return found


def _has_parts(draft: Draft, shape: Shape) -> bool:
    """Whether the shape needs a part of a device."""
    return any(amount < UNIT and index in draft.device_kinds for index, amount in shape.needs)


def _detail(draft: Draft, node_type: str, reason: Reason, reserves: Sequence[Reserve]) -> str:
    if reason in (Reason.MIN_WORKERS, Reason.HEADROOM, Reason.REPLICA):
        return _kept(draft, node_type, reason)
    if reason is Reason.REPLACES:
        return f"{node_type} for the work of a node that is about to end: {_named(reserves)}"
    if reason is Reason.HELD:
        return f"{node_type} had {draft.least[node_type]} when the head was lost, and they are kept for its idle timeout"
    if reason is Reason.CONSTRAINT:
        return f"{node_type} for request_resources: {_named([each for each in reserves if each.is_constraint])}"
    if reason is Reason.GANG:
        gang = next((each.gang_id for each in reserves if each.gang_id), "")
        return f"{node_type} for gang {gang}: {_named([each for each in reserves if each.gang_id == gang])}"
    return f"{node_type} for {_named(reserves)}"


def _kept(draft: Draft, node_type: str, reason: Reason) -> str:
    found = draft.view(node_type)
    if reason is Reason.HEADROOM:
        return f"{node_type} is to have {found.node_type.headroom if found else 0} ready"
    if reason is Reason.REPLICA:
        return f"{node_type} for the rest of a replica of {counted(found.node_type.hosts_per_replica if found else 1, 'host')}"
    return f"{node_type} has a minimum of {counted(found.node_type.min_workers if found else 0, 'worker')}"


def _named(reserves: Sequence[Reserve]) -> str:
    more = f" and {counted(len(reserves) - NAMED, 'shape')} more" if len(reserves) > NAMED else ""
    return ", ".join(map(str, reserves[:NAMED])) + more
