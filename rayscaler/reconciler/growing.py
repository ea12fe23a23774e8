"""Growth in place, from a plan's wish to what Ray shows: asks the executor, tells the raylet once its pod or machine really is larger, takes back.

A raylet is never told of more than both is asked for and really there. What it may have been told of is never taken back.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace

import structlog

from rayscaler.errors import NotFound, RayscalerError, Retry, Unsupported
from rayscaler.model.command import ResizeCommand
from rayscaler.model.demand import CommandResult, Outcome, Snapshot
from rayscaler.model.instance import Growing, Instance, InstanceStatus, Reason, Size
from rayscaler.model.node import RayNode
from rayscaler.model.nodetype import GROWS, NEVER
from rayscaler.model.plan import Growth
from rayscaler.model.resources import Resources
from rayscaler.model.state import Expectation
from rayscaler.reconciler.calls import Calls
from rayscaler.reconciler.memory import Memory
from rayscaler.reconciler.sizes import Ask, Telling, resize_of, timeout_s
from rayscaler.reconciler.state import sight
from rayscaler.reconciler.worth import Worth

log = structlog.get_logger(__name__)

OWN_SIZE = frozenset({"num-cpus", "memory"})
"""Start parameters by which a raylet has another size than its type's: that one is not taken for something it was told."""


def take_results(results: Iterable[CommandResult], memory: Memory, now: float) -> None:
    """Take what became of commands: a raylet that may know is asked again later, if Ray does not show it."""
    tellings = {each.command.command_id: each for each in memory.sizes.told.values()}
    for result in results:
        telling = tellings.get(result.command_id)
        if telling is None or telling.again_at is not None:
            continue
        telling.is_refused = result.outcome is Outcome.REJECTED
        telling.again_at = now + (memory.timings.drain_retry_s if result.outcome is Outcome.DONE else memory.timings.executor_retry_max_s)
        memory.worth = Worth.DECIDING
        instance = memory.instances.get(telling.instance_id)
        if result.outcome is not Outcome.DONE and instance is not None and instance.growing is not None:
            _fail(instance, f"its raylet was not told: {result.detail}", memory, now)


def begin(growths: Iterable[Growth], memory: Memory, now: float) -> None:
    """Note that instances are to grow."""
    for growth in growths:
        instance = memory.instances[growth.instance_id]
        if instance.made_as is None:
            _fail(instance, "nobody knows what it was launched with", memory, now, until=NEVER)
            continue
        _set(replace(instance, growing=Growing(growth.resources, now)), memory)
        memory.sizes.asks[instance.instance_id] = Ask(_whole(instance, growth.resources))
        until = now + timeout_s(memory.config, instance.node_type)
        memory.expectations[instance.instance_id] = Expectation(instance.instance_id, instance.node_type, until, growth.reserves)
        memory.note(Reason.GROWING.value, instance, Reason.GROWING, growth.detail, now)


def due(memory: Memory, now: float) -> tuple[str, ...]:
    """Return the instances for which the executor is to be asked for what is to be and is not."""
    return tuple(key for key, each in memory.sizes.open_asks() if now >= each.not_before)


def ask(memory: Memory, calls: Calls, now: float) -> None:
    """Ask the executor, one call at a time for each instance."""
    for instance_id in due(memory, now):
        memory.sizes.calling.add(instance_id)
        calls.resize(instance_id, memory.sizes.asks[instance_id].resources, _answered)


def _answered(instance_id: str, resources: Resources, error: RayscalerError | None, memory: Memory, now: float) -> None:
    """Take the executor's answer: what it may do later is asked again, by the deadline of the growth."""
    memory.sizes.calling.discard(instance_id)
    memory.worth = Worth.DECIDING
    wanted, instance = memory.sizes.asks.get(instance_id), memory.instances.get(instance_id)
    if wanted is None or instance is None or wanted.resources != resources:
        return
    timings = memory.timings
    if error is None:
        wanted.not_before = now + timings.executor_retry_max_s
    elif isinstance(error, NotFound):
        memory.sizes.forget(instance_id)
    elif wanted.is_back and error.retry is Retry.NEVER:
        memory.sizes.asks.pop(instance_id)  # it may still come, then, and is used
    elif wanted.is_back or error.retry is Retry.BACKOFF:
        wanted.pause_s = min(max(timings.executor_retry_s, 2 * wanted.pause_s), timings.executor_retry_max_s)
        wanted.not_before = now + wanted.pause_s
    else:
        _fail(instance, f"{error.name}: {error}", memory, now, until=NEVER if isinstance(error, Unsupported) else None)


def follow(memory: Memory, now: float) -> None:
    """Look how growths get on, before planning, so that it counts. Only with clear sight."""
    may_grow = any(each.resize for each in memory.config.node_types)
    if not (may_grow or memory.sizes.asks or memory.sizes.told) or sight(memory, now)[0] is not None:
        return
    memory.sizes.settle()
    memory.sizes.keep(memory.instances)
    rows = {row.ray_node_id: row for row in (memory.snapshot or Snapshot()).nodes}
    for instance in tuple(memory.live()):
        is_concerned = instance.growing is not None or instance.instance_id in memory.sizes.told
        if is_concerned or resize_of(memory.config, instance.node_type) is not None:
            _follow(instance, rows.get(instance.ray_node_id), memory, now)


def _follow(instance: Instance, row: RayNode | None, memory: Memory, now: float) -> None:
    sizes = memory.sizes
    if instance.status is not InstanceStatus.RUNNING or instance.made_as is None or row is None or not row.takes_work:
        sizes.forget(instance.instance_id)
        if instance.growing is not None:
            _set(replace(instance, growing=None), memory)
            memory.expectations.pop(instance.instance_id, None)
        return
    size = sizes.seen.get(instance.instance_id)
    if instance.growing is None and size is not None and now >= instance.ungrown_until and _lacks(row, size.asked, instance):
        # Begun in an earlier life of the service, or Ray was started again in what had grown.
        instance = _set(replace(instance, growing=Growing(size.asked, now)), memory)
        sizes.asks[instance.instance_id] = Ask(_whole(instance, size.asked))
    instance = _get_on(instance, row, memory, now)
    if size is not None:
        _tell(instance, row, size, memory, now)


def _get_on(instance: Instance, row: RayNode, memory: Memory, now: float) -> Instance:
    """Return the instance as it is once it has grown, or will not."""
    growing = instance.growing
    if growing is None:
        return instance
    size = memory.sizes.seen.get(instance.instance_id)
    if not _lacks(row, growing.resources, instance):
        memory.sizes.forget(instance.instance_id)
        expectation = memory.expectations.get(instance.instance_id)
        if expectation is not None:  # what it grew for is shown as demand for a while after it has landed there
            memory.expectations[instance.instance_id] = replace(expectation, until=now + memory.timings.usage_lag_s)
        memory.note(Reason.GROWN.value, instance, Reason.GROWN, f"it brings {_only(row.total)} now", now)
        return _set(replace(instance, growing=None), memory)
    if size is not None and size.refusal and size.asked == _whole(instance, growing.resources):
        return _fail(instance, size.refusal, memory, now)
    within_s = timeout_s(memory.config, instance.node_type)
    if now >= growing.since + within_s:
        return _fail(instance, f"it did not grow within {within_s:g} s", memory, now)
    return instance


def _fail(instance: Instance, why: str, memory: Memory, now: float, *, until: float | None = None) -> Instance:
    """Let an instance be as it is for a while: take back what was asked for, but for what its raylet may have been told of."""
    sizes, instance_id = memory.sizes, instance.instance_id
    telling = sizes.told.get(instance_id)
    row = next((each for each in (memory.snapshot or Snapshot()).nodes if each.ray_node_id == instance.ray_node_id), None)
    sizes.asks.pop(instance_id, None)
    memory.expectations.pop(instance_id, None)
    if row is not None and (telling is None or telling.is_refused):
        sizes.asks[instance_id] = Ask(_whole(instance, row.total), is_back=True)
    until = now + memory.timings.ungrown_s if until is None else until
    for other in [each for each in memory.live() if each.node_type == instance.node_type and each.growing is None]:
        _set(replace(other, ungrown_until=max(other.ungrown_until, min(until, now + memory.timings.others_ungrown_s))), memory)
    memory.note(Reason.NOT_GROWN.value, instance, Reason.NOT_GROWN, why, now)
    log.warning("growth.failed", cluster=memory.config.name, instance_id=instance_id, why=why)
    return _set(replace(instance, growing=None, ungrown_until=until), memory)


def _tell(instance: Instance, row: RayNode, size: Size, memory: Memory, now: float) -> None:
    """Have the raylet told what it brings, where Ray shows something else."""
    told, ask_for = memory.sizes.told, memory.sizes.asks.get(instance.instance_id)
    bounds = [size.asked, size.actual, *([ask_for.resources] if ask_for is not None and ask_for.is_back else ())]
    target = _target(instance, row, {name: min(each.get(name, 0) for each in bounds) for name in GROWS})
    before = told.get(instance.instance_id)
    if not target:
        told.pop(instance.instance_id, None)
    elif before is None or before.command.resources != target or before.command.ray_node_id != row.ray_node_id:
        told[instance.instance_id] = Telling(instance.instance_id, _command(row, target, now))
    elif before.again_at is not None and now >= before.again_at:
        before.command, before.again_at = _command(row, target, now), None


def _target(instance: Instance, row: RayNode, brings: Mapping[str, int]) -> Resources:
    """Return what a raylet is to be told: nothing while it has all that it brings. What never grew is left as it was started."""
    made = _made(instance)
    is_own_size = instance.made_as is not None and OWN_SIZE.intersection(dict(instance.made_as.start_params))
    grown = {
        name: max(brings[name], made.get(name, 0))
        for name in GROWS
        if brings[name] > made.get(name, 0) or (row.total.get(name, 0) > made.get(name, 0) > 0 and not is_own_size)
    }
    return Resources(grown) if any(row.total.get(name, 0) != amount for name, amount in grown.items()) else Resources()


def _command(row: RayNode, target: Resources, now: float) -> ResizeCommand:
    return ResizeCommand(f"resize-{row.ray_node_id}-{int(now * 1000)}", row.ray_node_id, target)


def _lacks(row: RayNode, resources: Resources, instance: Instance) -> bool:
    """Whether a node has less of what was to grow."""
    made = _made(instance)
    return any(resources.get(name, 0) > max(made.get(name, 0), row.total.get(name, 0)) for name in GROWS)


def _whole(instance: Instance, resources: Resources) -> Resources:
    """Return all that an instance is to bring: what it was launched with, but for what is to be more."""
    made = _made(instance)
    return Resources({**made.amounts, **{name: max(made.get(name, 0), resources.get(name, 0)) for name in GROWS if name in made}})


def _made(instance: Instance) -> Resources:
    return Resources() if instance.made_as is None else instance.made_as.resources


def _only(total: Resources) -> Resources:
    return Resources({name: total.get(name, 0) for name in GROWS})


def _set(instance: Instance, memory: Memory) -> Instance:
    memory.instances[instance.instance_id] = instance
    memory.worth = Worth.DECIDING
    return instance
