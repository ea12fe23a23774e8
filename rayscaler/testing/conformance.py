"""What every executor must do, as plain async functions over a Harness: the sentences of the executor port, one case each.

    @pytest.mark.parametrize("case", conformance.CASES, ids=conformance.name)
    async def test_conforms(case, harness):
        await case(harness)

Knows the port only. A breach raises Breach with the sentence that does not hold.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Protocol

from rayscaler.errors import Conflict, InvalidRequest, NotFound, RayscalerError, Unsupported
from rayscaler.executor.base import Executor, LaunchSpec
from rayscaler.model.instance import InstanceObservation, Phase, Size
from rayscaler.model.resources import Resources

ORDER = (Phase.UNSCHEDULED, Phase.PULLING, Phase.STARTING, Phase.REGISTERING, Phase.ENDING, Phase.GONE)
"""An instance may skip phases; it never goes back."""


class Breach(Exception):
    """An executor does not keep a promise of the port."""


class Harness(Protocol):
    """What a case needs of the executor under test."""

    patience_s: float
    """How long anything may take."""

    def executor(self) -> Executor:
        """Return an executor over the same outside world as before: called again, it is one after a restart."""
        ...

    def spec(self, instance_id: str) -> LaunchSpec:
        """Return a spec that can be launched, always the same for the same id."""
        ...

    async def kill(self, instance_id: str) -> None:
        """End an instance from outside, behind the executor's back."""
        ...


Case = Callable[[Harness], Awaitable[None]]


async def launch_twice_is_one(harness: Harness) -> None:
    """Check that the same spec again is success, with the same external id, and begins nothing."""
    async with _executor(harness) as executor:
        spec = harness.spec("twice")
        first = await executor.launch(spec)
        second = await executor.launch(spec)
        _require(first == second, f"the second launch gave another external id: {first}, {second}")
        _require(await _ids(executor, spec) == ["twice"], "launching twice lists one instance")
        await _end(executor, spec, harness)


async def a_launch_is_listed_as_soon_as_it_returns(harness: Harness) -> None:
    """Check that the id that launch returns is the one that list tells."""
    async with _executor(harness) as executor:
        spec = harness.spec("listed")
        external_id = await executor.launch(spec)
        seen = await executor.list(spec.cluster)
        _require([each.external_id for each in seen] == [external_id], f"list tells {seen} after a launch of {external_id}")
        _require(seen[0].node_type == spec.node_type.name, "list tells the node type")
        await _end(executor, spec, harness)


async def another_spec_under_a_known_id_is_conflict(harness: Harness) -> None:
    """Check that another spec raises Conflict and changes nothing."""
    async with _executor(harness) as executor:
        spec = harness.spec("same")
        other = replace(spec, node_type=replace(spec.node_type, resources=spec.node_type.resources.add(Resources.of(CPU=1))))
        await executor.launch(spec)
        await _raises(executor.launch(other), Conflict, "another spec under a known id")
        _require(await _ids(executor, spec) == ["same"], "a refused launch changes nothing")
        await _end(executor, spec, harness)


async def a_conflict_is_still_one_after_a_restart(harness: Harness) -> None:
    """Check that a restarted executor knows the specs of the instances of before."""
    spec = harness.spec("before")
    async with _executor(harness) as executor:
        await executor.launch(spec)
    async with _executor(harness) as executor:
        await executor.launch(spec)
        await _raises(executor.launch(replace(spec, head_address="192.0.2.1:1")), Conflict, "another spec after a restart")
        await _end(executor, spec, harness)


async def terminate_twice_is_fine(harness: Harness) -> None:
    """Check that ending again, while it ends and after, is success."""
    async with _executor(harness) as executor:
        spec = harness.spec("ended")
        await executor.launch(spec)
        watch = executor.watch(spec.cluster)
        await executor.terminate(spec.cluster, "ended")
        await executor.terminate(spec.cluster, "ended")
        await _gone(watch, "ended", harness)
        await executor.terminate(spec.cluster, "ended")
        _require(await _ids(executor, spec) == [], "a gone instance is not listed")


async def terminate_of_an_unknown_one_is_fine(harness: Harness) -> None:
    """Check that ending an instance that never was is success."""
    async with _executor(harness) as executor:
        await executor.terminate(harness.spec("unknown").cluster, "unknown")


async def list_after_a_restart_tells_the_same(harness: Harness) -> None:
    """Check that what was begun before a restart is told after it, and can be ended."""
    first, second = harness.spec("one"), harness.spec("two")
    async with _executor(harness) as executor:
        watch = executor.watch(first.cluster)
        await executor.launch(first)
        await executor.launch(second)
        await _reach(watch, "one", Phase.REGISTERING, harness)
        before = await executor.list(first.cluster)
    async with _executor(harness) as executor:
        after = await executor.list(first.cluster)
        _require(_facts(after) == _facts(before), f"before the restart: {_facts(before)}, after: {_facts(after)}")
        made = {each.instance_id: each.made_as for each in after}
        _require(
            all((found := made[spec.instance_id]) is None or found.is_made_like(spec.node_type) for spec in (first, second)),
            "what an instance was launched with, if it is told, is what it was launched with",
        )
        await _end(executor, first, harness)
        await _end(executor, second, harness)


async def hosts_of_a_replica_are_told_as_such(harness: Harness) -> None:
    """Check that replica and host are part of a spec, and are told by watch and list, also after a restart."""
    alone = harness.spec("alone")
    node_type = replace(alone.node_type, hosts_per_replica=2)
    hosts = [replace(harness.spec(f"host-{host}"), node_type=node_type, replica="replica", host=host) for host in range(2)]
    async with _executor(harness) as executor:
        watch = executor.watch(alone.cluster)
        for each in hosts:
            await executor.launch(each)
            seen = await _reach(watch, each.instance_id, Phase.REGISTERING, harness)
            _require((seen.replica, seen.host) == (each.replica, each.host), f"watch tells {seen} of {each}")
        await executor.launch(alone)
        await _raises(executor.launch(replace(hosts[0], host=1)), Conflict, "another host under a known id")
    async with _executor(harness) as executor:
        told = {each.instance_id: (each.replica, each.host) for each in await executor.list(alone.cluster)}
        _require(told == {"host-0": ("replica", 0), "host-1": ("replica", 1), "alone": ("", 0)}, f"after a restart it tells {told}")
        for each in (*hosts, alone):
            await _end(executor, each, harness)


async def watch_sees_what_list_sees(harness: Harness) -> None:
    """Check that each change of phase is told, in order, and the last one told is the one listed."""
    async with _executor(harness) as executor:
        spec = harness.spec("watched")
        watch = executor.watch(spec.cluster)
        await executor.launch(spec)
        phases = [seen.phase async for seen in _until(watch, "watched", Phase.REGISTERING, harness)]
        _require(phases == sorted(phases, key=ORDER.index), f"phases went back: {phases}")
        listed = await executor.list(spec.cluster)
        _require([each.phase for each in listed] == [phases[-1]], f"watched {phases[-1]}, listed {listed}")
        await executor.terminate(spec.cluster, "watched")
        phases = [seen.phase async for seen in _until(watch, "watched", Phase.GONE, harness)]
        _require(phases == sorted(phases, key=ORDER.index), f"phases went back: {phases}")
        _require(Phase.ENDING in phases, "the end is told when it begins")


async def every_watcher_sees_everything(harness: Harness) -> None:
    """Check that watchers do not take observations from each other."""
    async with _executor(harness) as executor:
        spec = harness.spec("shared")
        watches = [executor.watch(spec.cluster), executor.watch(spec.cluster)]
        await executor.launch(spec)
        await executor.terminate(spec.cluster, "shared")
        for watch in watches:
            await _gone(watch, "shared", harness)


async def a_death_from_outside_is_told(harness: Harness) -> None:
    """Check that an instance that dies by itself is GONE, with an error that says how, and listed no more."""
    async with _executor(harness) as executor:
        spec = harness.spec("killed")
        watch = executor.watch(spec.cluster)
        await executor.launch(spec)
        await _reach(watch, "killed", Phase.REGISTERING, harness)
        await harness.kill("killed")
        gone = await _gone(watch, "killed", harness)
        _require(bool(gone.error), "a death that nobody asked for has an error")
        _require(await _ids(executor, spec) == [], "a dead instance is not listed")


async def another_size_is_told_as_asked_for_and_once_it_is_there(harness: Harness) -> None:
    """Check that a resize, done twice, is told with what is brought meanwhile, also after a restart; an executor that cannot says so."""
    spec = harness.spec("grows")
    most = spec.node_type.resources.add(Resources.of(CPU=2))
    async with _executor(harness) as executor:
        watch = executor.watch(spec.cluster)
        await executor.launch(spec)
        await _reach(watch, "grows", Phase.REGISTERING, harness)
        try:
            await executor.resize(spec.cluster, "grows", most)
        except Unsupported:
            await _end(executor, spec, harness)
            return
        await executor.resize(spec.cluster, "grows", most)
        await _raises(executor.resize(spec.cluster, "unknown", most), NotFound, "the resize of an unknown instance")
        is_told = False  # what was told before may still be on its way
        async with asyncio.timeout(harness.patience_s):
            while (size := (await anext(watch)).size) is None or size.actual != most:
                is_asked = size is not None and size.asked == most
                _require(is_asked or not is_told, f"after a resize to {most} it tells {size}")
                is_told = is_asked
    async with _executor(harness) as executor:
        told = [each.size for each in await executor.list(spec.cluster)]
        _require(told == [Size(most, most)], f"after a restart it tells {told}")
        await _end(executor, spec, harness)


async def clusters_are_apart(harness: Harness) -> None:
    """Check that one cluster's instances are neither listed nor ended under another's name."""
    async with _executor(harness) as executor:
        spec = harness.spec("mine")
        await executor.launch(spec)
        other = f"{spec.cluster}-other"
        _require(await executor.list(other) == [], "another cluster lists nothing of this one")
        await executor.terminate(other, "mine")
        _require(await _ids(executor, spec) == ["mine"], "another cluster's terminate ends nothing of this one")
        await _end(executor, spec, harness)


async def an_impossible_name_is_an_invalid_request(harness: Harness) -> None:
    """Check that a refusal is an error of our tree, with nothing begun."""
    async with _executor(harness) as executor:
        spec = harness.spec("../escape")
        await _raises(executor.launch(spec), InvalidRequest, "an instance_id that is no name")
        _require(await _ids(executor, spec) == [], "a refused launch begins nothing")


CASES: tuple[Case, ...] = (
    launch_twice_is_one,
    a_launch_is_listed_as_soon_as_it_returns,
    another_spec_under_a_known_id_is_conflict,
    a_conflict_is_still_one_after_a_restart,
    terminate_twice_is_fine,
    terminate_of_an_unknown_one_is_fine,
    list_after_a_restart_tells_the_same,
    hosts_of_a_replica_are_told_as_such,
    watch_sees_what_list_sees,
    every_watcher_sees_everything,
    a_death_from_outside_is_told,
    another_size_is_told_as_asked_for_and_once_it_is_there,
    clusters_are_apart,
    an_impossible_name_is_an_invalid_request,
)


def name(case: Case) -> str:
    """Name a case for a test report."""
    return getattr(case, "__name__", str(case)).replace("_", " ")


@asynccontextmanager
async def _executor(harness: Harness) -> AsyncIterator[Executor]:
    executor = harness.executor()
    try:
        yield executor
    finally:
        await executor.close()


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise Breach(sentence)


async def _raises(call: Awaitable[object], kind: type[RayscalerError], what: str) -> None:
    try:
        await call
    except kind:
        return
    raise Breach(f"{what} raises {kind.__name__}, but it was success")


async def _ids(executor: Executor, spec: LaunchSpec) -> list[str]:
    return sorted(each.instance_id for each in await executor.list(spec.cluster))


def _facts(seen: list[InstanceObservation]) -> list[tuple[str, str, str]]:
    """Return what a restart may not change; phases go on meanwhile."""
    return sorted((each.instance_id, each.node_type, each.external_id) for each in seen)


async def _until(
    watch: AsyncIterator[InstanceObservation], instance_id: str, phase: Phase, harness: Harness
) -> AsyncIterator[InstanceObservation]:
    """Yield the observations of an instance up to the phase."""
    async with asyncio.timeout(harness.patience_s):
        while True:
            seen = await anext(watch)
            if seen.instance_id == instance_id:
                yield seen
                if seen.phase is phase:
                    return
                if seen.phase is Phase.GONE:
                    raise Breach(f"{instance_id} is gone before it was {phase}: {seen.detail}: {seen.error}")


async def _reach(watch: AsyncIterator[InstanceObservation], instance_id: str, phase: Phase, harness: Harness) -> InstanceObservation:
    return [seen async for seen in _until(watch, instance_id, phase, harness)][-1]


async def _gone(watch: AsyncIterator[InstanceObservation], instance_id: str, harness: Harness) -> InstanceObservation:
    return await _reach(watch, instance_id, Phase.GONE, harness)


async def _end(executor: Executor, spec: LaunchSpec, harness: Harness) -> None:
    watch = executor.watch(spec.cluster)
    await executor.terminate(spec.cluster, spec.instance_id)
    await _gone(watch, spec.instance_id, harness)
