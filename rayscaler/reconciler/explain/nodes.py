"""Why each node stays, or what is being done with it: for every instance, and for Ray's nodes that are none of ours."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from rayscaler.model import replicas
from rayscaler.model.demand import Reserve
from rayscaler.model.explanation import Because, NodeExplanation
from rayscaler.model.instance import ENDED, Instance, InstanceStatus, Reason
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import NEVER, UpdatePolicy
from rayscaler.model.plan import Plan
from rayscaler.model.reasons import OUTDATED, reason_text
from rayscaler.model.resources import NODE_PREFIX, to_text
from rayscaler.model.words import counted
from rayscaler.reconciler.explain import floor
from rayscaler.reconciler.explain.scene import Key, Scene, node_key
from rayscaler.reconciler.state import idle_since

NAMED = 3
"""Things named in one sentence; the rest is a number."""

Kept = tuple[Reason, str, float | None]
"""Why an idle node stays: reason, detail, until when."""

TURN = {
    UpdatePolicy.ROLLING: "idle; the least stay until the one before is replaced",
    UpdatePolicy.RECREATE: "idle; it is drained with all others of its make",
}
"""What an idle outdated node waits for."""
UNPLANNED = frozenset({"object_store_memory"})
"""Used without anybody's asking."""


def nodes(scene: Scene) -> tuple[NodeExplanation, ...]:
    """Return one reason for each, instances by id first, then the others by Ray's."""
    rows = {(row.instance_id, row.ray_node_id): row for row in scene.snapshot.nodes if row.is_alive and not row.is_head}
    living = sorted((each for each in scene.memory.instances.values() if each.status not in ENDED), key=lambda each: each.instance_id)
    of_ours = {each.instance_id: rows.get((each.instance_id, each.ray_node_id)) for each in living}
    idle = _idle(scene, living, of_ours)
    found = [
        NodeExplanation(
            each.instance_id,
            each.ray_node_id,
            each.node_type,
            each.status,
            _instance(scene, each, of_ours[each.instance_id], idle.get(each.instance_id)),
        )
        for each in living
    ]
    return (*found, *_others(scene, {each.ray_node_id for each in living if each.ray_node_id}))


def _others(scene: Scene, ours: set[str]) -> Iterator[NodeExplanation]:
    for row in sorted(scene.snapshot.nodes, key=lambda each: each.ray_node_id):
        if row.ray_node_id in ours or not row.is_alive:
            continue
        key = node_key("", row.ray_node_id)
        if row.is_head:
            because = scene.because(key, Reason.HEAD_NODE, "its room is used before any worker is launched")
        else:
            named = f"it names instance {row.instance_id}, which is not known here" if row.instance_id else "it names no instance"
            because = scene.because(key, Reason.NOT_OURS, named)
        yield NodeExplanation("", row.ray_node_id, row.node_type, None, because)


def _instance(scene: Scene, instance: Instance, row: RayNode | None, idle: Kept | None) -> Because:
    key = node_key(instance.instance_id, "")
    no_end = scene.state.no_end
    due = scene.limits.of(instance)
    if instance.status is InstanceStatus.TERMINATING:
        return scene.because(key, instance.reason, f"being ended: {instance.detail}", since=instance.since, until=due)
    if no_end is not None and no_end is not Reason.SETTLING:
        return scene.blind(key, no_end)
    if instance.status is InstanceStatus.DRAINING:
        words = "Ray took the drain" if instance.drain_accepted else "Ray is asked to drain it"
        return scene.because(key, instance.reason, f"{words}: {instance.detail}", since=instance.since, until=due)
    if instance.ends_at is not None:
        return scene.because(key, Reason.PREEMPTED, instance.ends_why, until=instance.ends_at)
    return _in_flight(scene, instance, key, due) if instance.is_in_flight else _joined(scene, instance, row, key, idle)


def _in_flight(scene: Scene, instance: Instance, key: Key, due: float | None) -> Because:
    if instance.status is InstanceStatus.REJOINING:
        return scene.because(key, Reason.HEAD_LOST, instance.detail, since=instance.since, until=due)
    expectation = scene.memory.expectations.get(instance.instance_id)
    purpose = _named(expectation.reserves) if expectation is not None and expectation.reserves else reason_text(instance.reason)
    text = (
        f"{instance.phase.value}, for {purpose}"
        if expectation is not None and expectation.reserves
        else f"{instance.phase.value}: {purpose}"
    )
    since = scene.memory.unneeded_since.get(instance.instance_id)
    if instance.instance_id in scene.unneeded and since is not None:
        return scene.because(key, Reason.UNNEEDED, text, since=since, until=since + scene.state.unneeded_grace_s)
    if instance.trouble is not None:
        text = f"{text}; {instance.detail}"
    if instance.stuck_since is not None:
        return scene.because(key, Reason.STUCK, text, since=instance.stuck_since, until=due)
    return scene.because(key, Reason.LAUNCHING, text, since=instance.requested_at, until=due)


def _named(reserves: tuple[Reserve, ...]) -> str:
    more = f" and {counted(len(reserves) - NAMED, 'shape')} more" if len(reserves) > NAMED else ""
    return ", ".join(map(str, reserves[:NAMED])) + more


def _joined(scene: Scene, instance: Instance, row: RayNode | None, key: Key, idle: Kept | None) -> Because:
    if instance.node_dead_since is not None:
        ended_at = instance.node_dead_since + scene.state.node_dead_grace_s
        text = f"node {instance.ray_node_id} is dead"
        return scene.because(key, Reason.NODE_DIED, text, since=instance.node_dead_since, until=ended_at)
    if row is None:
        return scene.because(key, Reason.NOT_SHOWN, f"node {instance.ray_node_id} is in no row of the last report")
    if not row.takes_work:
        return scene.because(key, Reason.OTHERS_DRAIN, "Ray shows it as draining", until=row.draining_until)
    if scene.state.config.node_type(instance.node_type) is None:
        text = f"the definition has no node type {instance.node_type} any more"
        return scene.because(key, Reason.TYPE_REMOVED, text, until=scene.settled_at)
    size = _size(scene, instance)
    if idle is None:
        is_outdated = scene.state.config.is_outdated(instance.made_as)
        policy = scene.state.config.update_policy_of(instance.node_type)
        return scene.because(key, Reason.BUSY, "; ".join(filter(None, (OUTDATED[policy] if is_outdated else "", size, _usage(row)))))
    reason, detail, until = idle
    detail = f"{size}; {detail}" if size else detail
    since = idle_since(scene.memory, row) if reason is Reason.WAITING_IDLE else None
    return scene.because(key, reason, detail, since=since, until=until)


def _size(scene: Scene, instance: Instance) -> str:
    """Say that a node grows, or is not asked to for a while since it could not."""
    if instance.growing is not None:
        return f"grows to {instance.growing.resources}"
    if instance.ungrown_until > scene.state.now:
        left_s = instance.ungrown_until - scene.state.now
        return "could not grow, and is not asked to" + ("" if left_s == NEVER else f" for {left_s:.0f} s")
    return ""


def _usage(row: RayNode) -> str:
    used = [
        f"{name} {to_text(name, amount - row.available.get(name, 0))} of {to_text(name, amount)}"
        for name, amount in row.total.items_sorted
        if row.available.get(name, 0) < amount and not name.startswith(NODE_PREFIX) and name not in UNPLANNED
    ]
    told = [f"uses {', '.join(used)}"] if used else []
    return "; ".join([*told, *row.activity]) or "Ray does not call it idle"


def _idle(scene: Scene, living: list[Instance], rows: Mapping[str, RayNode | None]) -> dict[str, Kept]:
    """Return why each idle node stays, judged as `planner/shrink.py` will: the longest idle go first, what is needed and the least stay."""
    uses = _uses(scene.plan)
    found: dict[str, Kept] = {}
    free: dict[str, list[tuple[float, str]]] = defaultdict(list)
    for each in living:
        row = rows[each.instance_id]
        if (
            each.status is not InstanceStatus.RUNNING
            or each.node_dead_since is not None
            or row is None
            or row.status is not NodeStatus.IDLE
        ):
            continue
        idle_until = idle_since(scene.memory, row) + scene.state.config.idle_timeout_of(each.node_type)
        policy = scene.state.config.update_policy_of(each.node_type)
        is_replaced = scene.state.config.is_outdated(each.made_as) and policy is not UpdatePolicy.ON_DELETE
        if each.instance_id in uses:
            found[each.instance_id] = _needed(scene, uses[each.instance_id])
        elif each.drain_not_before > scene.state.now and (is_replaced or each.drain_not_before > idle_until):
            found[each.instance_id] = (Reason.DRAIN_REFUSED, each.detail, each.drain_not_before)
        elif is_replaced:
            until = scene.settled_at if scene.state.no_end is Reason.SETTLING else None
            found[each.instance_id] = (Reason.OUTDATED, TURN[policy], until)
        else:
            free[each.node_type].append((idle_until, each.instance_id))
    _keep_replicas(living, free, found)
    staying = Counter(each.node_type for each in living if each.status is InstanceStatus.RUNNING)
    for node_type, waiting in free.items():
        found.update(_of_type(scene, node_type, sorted(waiting), staying[node_type]))
    return found


def _keep_replicas(living: list[Instance], free: dict[str, list[tuple[float, str]]], found: dict[str, Kept]) -> None:
    """Move hosts that stay only since others of their replica do from those that are free to what is found."""
    names = {instance_id for waiting in free.values() for _, instance_id in waiting}
    for unit in replicas.units(living):
        kept = {each.instance_id for each in unit if each.instance_id in names}
        if kept and len(kept) < len(unit):
            text = f"idle; others of replica {unit[0].replica} are not, and its {len(unit)} hosts go together"
            found.update(dict.fromkeys(kept, (Reason.REPLICA, text, None)))
            free[unit[0].node_type] = [each for each in free[unit[0].node_type] if each[1] not in kept]


def _needed(scene: Scene, use: Reason) -> Kept:
    if use is not Reason.CONSTRAINT:
        return use, "idle, and the plan has it for what waits", None
    words, until = floor.keeper(scene)
    return use, f"idle, and the floor needs it: {words}", until


def _of_type(scene: Scene, name: str, waiting: list[tuple[float, str]], staying: int) -> Iterator[tuple[str, Kept]]:
    node_type = scene.state.config.node_type(name)
    least = node_type.min_workers if node_type is not None else 0
    held = dict(scene.state.held).get(name, 0)
    timeout_s = scene.state.config.idle_timeout_of(name)
    headroom = node_type.headroom if node_type is not None else 0
    for position, (until, instance_id) in enumerate(waiting):
        if position >= staying - least:
            yield instance_id, (Reason.MIN_WORKERS, f"idle; {name} has a minimum of {counted(least, 'worker')}", None)
        elif position >= staying - held and scene.memory.hold is not None:
            text = f"idle; {name} had {held} when the head was lost"
            yield instance_id, (Reason.HELD, text, scene.memory.hold.since + scene.state.config.hold_of(name))
        elif position >= len(waiting) - headroom:
            yield instance_id, (Reason.HEADROOM, f"idle; {name} is to have {headroom} ready", None)
        elif scene.state.no_end is Reason.SETTLING and until <= scene.settled_at:
            yield instance_id, (Reason.SETTLING, f"idle for its timeout of {timeout_s:g} s", scene.settled_at)
        else:
            yield instance_id, (Reason.WAITING_IDLE, f"idle, and nothing needs it; the timeout is {timeout_s:g} s", until)


def _uses(plan: Plan) -> dict[str, Reason]:
    """Return what is put on each node that is there: work before a floor."""
    uses: dict[str, Reason] = {}
    for each in plan.placements:
        reason = Reason.CONSTRAINT if each.is_constraint else Reason.GANG if each.gang_id else Reason.DEMAND
        if reason is not Reason.CONSTRAINT or each.node not in uses:
            uses[each.node] = reason
    return uses
