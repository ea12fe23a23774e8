"""Launches whose outcome nobody knows yet: named in the record before they are sent, sent again by whoever reads it next (design §2b.1).

A create that was sent before a crash may land at any moment after it, also after the next life's first list. Sent again under the same
name it can only be the same instance: either is told that it exists. So no launch is lost, and none is doubled.

An index is open while its instance is REQUESTED: nobody has said that it exists, was refused, or is to end. An end is sent only after a
write of the record, which then names its index no more; so what was ended never comes back. What ended by itself within a second of
its launch may: it is then one instance, and ended if nothing needs it.

Where a gang scheduler schedules, nothing is sent again: nobody knows of which group it was, and alone it would be bound in part. What it was for
is planned anew, and what lands after all is adopted with its group, and ended if nothing needs it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace

import structlog

from rayscaler.errors import Unavailable
from rayscaler.executor.base import LaunchSpec
from rayscaler.model.instance import Instance, InstanceStatus, Reason
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.model.plan import Plan
from rayscaler.model.replicas import Place, hosts_of, place_of, places
from rayscaler.model.state import Expectation
from rayscaler.reconciler import begun
from rayscaler.reconciler.calls import Calls
from rayscaler.reconciler.memory import Memory
from rayscaler.reconciler.state import deadlines
from rayscaler.store.base import OpenBatch

log = structlog.get_logger(__name__)

MOST_OPEN = 256
"""Batches open at once: an executor that has not answered so many will not answer the next one, and the record stays small."""


def instance_names(config: ClusterConfig, plan: Plan, batch: int) -> list[str]:
    """Return the instance ids of a plan's launches."""
    found = zip(places(plan.launches, config), plan.launches, strict=True)
    return [host_of(config, launch.node_type, batch, place)[0] for place, launch in found]


def host_of(config: ClusterConfig, node_type: str, batch: int, place: Place) -> tuple[str, str, int]:
    """Return instance id, replica and host of a launch in the cluster's `batch`-th plan with launches: the same for whoever asks again."""
    begin = f"{config.name}-{node_type}-{batch}"
    return f"{begin}-{place.number}", "" if place.replica is None else f"{begin}-r{place.replica}", place.host


def opened(memory: Memory, plan: Plan, batch: int) -> tuple[OpenBatch, ...]:
    """Return what the record must name as open before the plan is carried out; raises Unavailable when that would be too many batches."""
    ends = {each.instance_id for each in plan.terminations}
    indices: dict[tuple[int, str], list[int]] = defaultdict(list)
    for instance in memory.instances.values():
        if instance.status is InstanceStatus.REQUESTED and instance.instance_id not in ends:
            _, of_batch, its_index = instance.instance_id.rsplit("-", 2)
            indices[int(of_batch), instance.node_type].append(int(its_index))
    for place, launch in zip(places(plan.launches, memory.config), plan.launches, strict=True):
        indices[batch, launch.node_type].append(place.number)
    ranges: dict[int, list[tuple[str, int, int]]] = defaultdict(list)
    for (its_batch, node_type), found in sorted(indices.items()):
        ranges[its_batch] += [(node_type, first, count) for first, count in _runs(sorted(found))]
    if plan.launches and len(ranges) > MOST_OPEN:
        raise Unavailable(f"{MOST_OPEN} batches of launches wait for the executor's answer; no more are sent until one has it")
    return tuple(OpenBatch(each, tuple(ranges[each])) for each in sorted(ranges))


def finish(memory: Memory, calls: Calls, head_address: str, now: float) -> None:
    """Send again every open launch of an earlier life that the first complete list lacks. One whose node type is gone is let go."""
    if not memory.is_listed or memory.unfinished is None:
        return
    left, memory.unfinished = memory.unfinished, None
    # Somebody may have deleted the record: no name that is in use is given again.
    memory.record = replace(memory.record, batch=max([memory.record.batch, *map(_batch_of, memory.instances)]))
    for node_type_name, batch, index in () if memory.config.gang_scheduling else _each(left):
        place = place_of(index, hosts_of(memory.config, node_type_name))
        instance_id, replica, host = host_of(memory.config, node_type_name, batch, place)
        if instance_id in memory.instances:
            continue
        node_type = memory.config.node_type(node_type_name)
        if node_type is None:
            log.warning("launch.let_go", cluster=memory.config.name, instance_id=instance_id, why="its node type is gone")
            continue
        log.info("launch.again", cluster=memory.config.name, instance_id=instance_id)
        instance = Instance(
            instance_id=instance_id,
            node_type=node_type_name,
            status=InstanceStatus.REQUESTED,
            since=now,
            requested_at=now,
            phase_since=now,
            reason=Reason.DEMAND,
            detail="asked for in an earlier life of the service, which did not learn what became of it",
            replica=replica,
            host=host,
        )
        memory.request(instance, Expectation(instance_id, node_type_name, now + deadlines(memory).unscheduled_s))
        calls.launch(LaunchSpec(memory.config.name, instance_id, node_type, head_address, replica, host), is_again=True)
        memory.record = replace(memory.record, begun=begun.after(memory.record.begun, memory.config, [node_type_name], now))


def _batch_of(instance_id: str) -> int:
    parts = instance_id.rsplit("-", 2)
    return int(parts[1]) if len(parts) == 3 and parts[1].isdecimal() else 0


def _each(batches: Iterable[OpenBatch]) -> Iterator[tuple[str, int, int]]:
    for batch in batches:
        for node_type, first, count in batch.ranges:
            for index in range(first, first + count):
                yield node_type, batch.batch, index


def _runs(indices: list[int]) -> Iterator[tuple[int, int]]:
    """Yield first and count of each run of neighbours."""
    begin = 0
    for at in range(1, len(indices) + 1):
        if at == len(indices) or indices[at] != indices[at - 1] + 1:
            yield indices[begin], at - begin
            begin = at
