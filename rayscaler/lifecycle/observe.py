"""Fold passive facts into instances: what executors and Ray's node table show. Decides nothing, ends nothing."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from rayscaler.lifecycle.table import Fact, can, move
from rayscaler.model.instance import ENDED, Instance, InstanceObservation, InstanceStatus, Phase, Reason, Trouble
from rayscaler.model.node import DRAINED, RayNode

Instances = Mapping[str, Instance]


def observation(known: Instance | None, seen: InstanceObservation, now: float) -> Instance | None:
    """Return the instance after an executor's observation; an unknown live one is adopted, an unknown gone one ignored."""
    if known is None:
        return None if seen.phase is Phase.GONE else _adopt(seen, now)
    if known.status in ENDED:
        return known
    if seen.phase is Phase.GONE:
        detail = seen.error or seen.detail or known.detail
        reason = known.reason if known.status is InstanceStatus.TERMINATING else Reason.EXITED
        return move(known, Fact.GONE, now, reason=reason, detail=detail)
    after = move(known, Fact.EXISTS, now)
    if seen.phase is not after.phase:
        after = replace(after, phase=seen.phase, phase_since=now)
    after = _with(after, external_id=seen.external_id or after.external_id, made_as=after.made_as or seen.made_as)
    if seen.replica and not after.replica:
        after = replace(after, replica=seen.replica, host=seen.host)
    if seen.membership is not None and after.membership is None:
        after = replace(after, membership=seen.membership)
    return _with_trouble(known, _with_notice(after, seen), seen, now)


def _with(instance: Instance, **news: Any) -> Instance:
    """Return an instance with news, itself where they are none: of a burst, most observations bring one or two."""
    return instance if all(getattr(instance, name) == value for name, value in news.items()) else replace(instance, **news)


def _with_notice(after: Instance, seen: InstanceObservation) -> Instance:
    """Return an instance with the end that others have announced for it, if it is not our own doing."""
    if seen.ends_at is None or after.status is InstanceStatus.TERMINATING:
        return _with(after, ends_at=None, ends_why="")
    return _with(after, ends_at=seen.ends_at, ends_why=seen.error or seen.detail)


def _with_trouble(known: Instance, after: Instance, seen: InstanceObservation, now: float) -> Instance:
    """Return a launch with what holds it up, in the executor's words. A trouble of another kind, or in another phase, begins anew."""
    if after.status is not InstanceStatus.ALLOCATED:
        return _with(after, trouble=None, stuck_since=None)
    detail = seen.error or seen.detail or after.detail
    if known.trouble is Trouble.GATED and seen.trouble is not Trouble.GATED:
        after = _with(after, phase_since=now)  # only from now on could it get on
    if seen.trouble is None:
        return _with(after, detail=detail, trouble=None, stuck_since=None)
    if seen.trouble is known.trouble and seen.phase is known.phase:
        return _with(after, detail=detail)
    return _with(after, detail=detail, trouble=seen.trouble, trouble_since=now, stuck_since=None)


def _adopt(seen: InstanceObservation, now: float) -> Instance:
    status = InstanceStatus.TERMINATING if seen.phase is Phase.ENDING else InstanceStatus.ALLOCATED
    return Instance(
        instance_id=seen.instance_id,
        node_type=seen.node_type,
        status=status,
        since=now,
        requested_at=now,
        external_id=seen.external_id,
        phase=seen.phase,
        phase_since=now,
        reason=Reason.ALLOCATED,
        detail=seen.error or seen.detail or "found at the executor",
        made_as=seen.made_as,
        replica=seen.replica,
        host=seen.host,
        membership=seen.membership,
        trouble=seen.trouble if status is InstanceStatus.ALLOCATED else None,
        trouble_since=now,
        ends_at=seen.ends_at if status is InstanceStatus.ALLOCATED else None,
        ends_why=(seen.error or seen.detail) if status is InstanceStatus.ALLOCATED and seen.ends_at is not None else "",
    )


def full_list(instances: Instances, seen: Iterable[InstanceObservation], calls: frozenset[str], now: float) -> dict[str, Instance]:
    """Return instances after a complete list; what it lacks is gone, unless a launch call for it (`calls`) was under way."""
    after = dict(instances)
    present = set()
    for each in seen:
        present.add(each.instance_id)
        found = observation(after.get(each.instance_id), each, now)
        if found is not None:
            after[each.instance_id] = found
    for instance in instances.values():
        if instance.instance_id in present or instance.instance_id in calls or instance.status in ENDED:
            continue
        after[instance.instance_id] = move(
            instance,
            Fact.GONE,
            now,
            reason=instance.reason if instance.status is InstanceStatus.TERMINATING else Reason.DISAPPEARED,
            detail="the executor lists it no more",
        )
    return after


def nodes(instances: Instances, rows: Iterable[RayNode], now: float) -> dict[str, Instance]:
    """Return instances after Ray's node table: who joined, whose node is dead.

    Several rows can carry one instance_id (LF-12): a live row wins, the known one first; dead rows count only when no row of the
    instance is alive and the known node is among the dead, or was drained: an instance adopted after that would look in flight for
    ever. Absence says nothing (WC-8: a first snapshot may be empty). A drain is of one node: where another takes its place, which may
    have got work meanwhile, it is void (complaint C2).
    """
    of_instance: dict[str, list[RayNode]] = {}
    for row in rows:
        if row.instance_id in instances and not row.is_head:
            of_instance.setdefault(row.instance_id, []).append(row)
    after = dict(instances)
    for instance_id, its_rows in of_instance.items():
        if instances[instance_id].status not in ENDED:
            after[instance_id] = _with_rows(instances[instance_id], its_rows, now)
    return after


def _with_rows(instance: Instance, rows: list[RayNode], now: float) -> Instance:
    alive = sorted(row.ray_node_id for row in rows if row.is_alive)
    if alive:
        current = instance.ray_node_id if instance.ray_node_id in alive else alive[0]
        if instance.is_in_flight:
            instance = move(instance, Fact.JOINED, now, reason=Reason.JOINED, detail="Ray shows its node")
            instance = replace(instance, trouble=None, stuck_since=None)
        if instance.ray_node_id not in {"", current} and can(instance, Fact.DRAIN_VOID):
            detail = "another node of it is alive, and the drain was of the one before"
            instance = void_drain(instance, detail=detail, now=now, retry_after_s=0.0)
        if current != instance.ray_node_id or instance.node_dead_since is not None:
            instance = replace(instance, ray_node_id=current, node_dead_since=None)
        return instance
    drained = sorted(row.ray_node_id for row in rows if row.death in DRAINED)
    if instance.is_in_flight and drained:
        instance = move(instance, Fact.JOINED, now, reason=Reason.JOINED, detail="Ray shows its node, drained")
        return replace(instance, ray_node_id=drained[0], node_dead_since=now)
    if instance.ray_node_id in {row.ray_node_id for row in rows} and instance.node_dead_since is None:
        return replace(instance, node_dead_since=now)
    return instance


def head_lost(instance: Instance, now: float) -> Instance:
    """Return the instance after its head's cluster ended: whatever was known of its node is void, its drain too (design §2b.6)."""
    after = move(instance, Fact.HEAD_LOST, now, reason=Reason.HEAD_LOST, detail="waits for its node to join the new head")
    return replace(after, ray_node_id="", node_dead_since=None, drain_accepted=False, drain_not_before=0.0, growing=None)


def drain_result(instance: Instance, *, accepted: bool, detail: str, now: float, retry_after_s: float) -> Instance:
    """Return the instance after Ray's word on its drain; a refusal is normal and leads back to RUNNING."""
    if not can(instance, Fact.DRAIN_VOID):
        return instance
    if accepted:
        return replace(instance, drain_accepted=True)
    return void_drain(instance, detail=detail, now=now, retry_after_s=retry_after_s)


def void_drain(instance: Instance, *, detail: str, now: float, retry_after_s: float) -> Instance:
    """Return the instance with no drain in progress; another drain of it may be asked for after `retry_after_s`."""
    after = move(instance, Fact.DRAIN_VOID, now, reason=Reason.DRAIN_REFUSED, detail=detail)
    return replace(after, drain_accepted=False, drain_not_before=now + retry_after_s)
