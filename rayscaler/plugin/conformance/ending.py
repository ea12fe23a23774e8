"""Checks of section 22: Terminate."""

import time

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.plugin.conformance.check import Check
from rayscaler.plugin.conformance.lab import Lab
from rayscaler.plugin.conformance.need import listed_as, need, well


async def ends_what_it_is_asked_for(lab: Lab) -> None:
    """Each instance_id of a call has one result, and nothing else has one."""
    spec, unknown = lab.spec(), lab.new_id()
    await lab.begin(spec)
    asked = sorted([spec.instance_id, unknown])
    told = sorted(each.instance_id for each in (await lab.terminate(*asked)).results)
    need("X16", told == asked, f"was asked for {asked}, has results of {told}")


async def ending_the_unknown_is_fine(lab: Lab) -> None:
    """Terminate of an instance that never was is success."""
    unknown = lab.new_id()
    async with well("X17"):
        answer = await lab.terminate(unknown)
    need("X17", not any(_fails(each) for each in answer.results), f"it is answered with {answer.results}")


async def ending_again_is_fine(lab: Lab) -> None:
    """Terminate of an instance that is ending, or gone, is success."""
    spec = lab.spec()
    await lab.begin(spec)
    await lab.end(spec.instance_id)
    for when in ("while it is ending", "when it is gone"):
        async with well("X17"):
            answer = await lab.terminate(spec.instance_id)
        need("X17", not any(_fails(each) for each in answer.results), f"{when} it is answered with {answer.results}")
        await lab.until_gone(spec.instance_id)


async def ends_without_another_call(lab: Lab) -> None:
    """Once Terminate has succeeded the instance is ENDING or GONE, and gone in time without another call."""
    spec = lab.spec()
    await lab.begin(spec)
    await lab.end(spec.instance_id)
    seen = (await lab.listed()).get(spec.instance_id)
    is_ending = seen is None or seen.phase in (pb.PHASE_ENDING, pb.PHASE_GONE)
    need("X18", is_ending, f"after Terminate it is listed as {_phase(seen)}")
    is_gone = await lab.until_gone(spec.instance_id)
    need("X18", is_gone, f"it is still listed {lab.patience.end_s:g} s after Terminate (--end-timeout)")


async def ending_does_not_wait(lab: Lab) -> None:
    """Terminate does not wait for the end."""
    spec = lab.spec()
    await lab.begin(spec)
    began = time.monotonic()
    async with well("X18"):
        await lab.terminate(spec.instance_id)
    took_s = time.monotonic() - began
    is_there = spec.instance_id in await lab.listed()
    need("X18", took_s < lab.patience.prompt_s or is_there, f"Terminate took {took_s:.1f} s, and the instance is gone when it answers")


async def clusters_are_apart(lab: Lab) -> None:
    """The same instance_id in two clusters is two instances, each listed in its own."""
    first = lab.spec()
    (mine,) = await lab.begin(first)
    need("X20", not await lab.listed(lab.other), "another cluster lists an instance of this one")
    (others,) = await lab.begin(first, cluster=lab.other)
    await listed_as(lab, "X20", {first.instance_id: mine})
    await listed_as(lab, "X20", {first.instance_id: others}, lab.other)


async def an_end_touches_no_other_cluster(lab: Lab) -> None:
    """Terminate in another cluster leaves an instance of this one alone, also where it has the same instance_id."""
    spec = lab.spec()
    (external_id,) = await lab.begin(spec)
    await lab.terminate(spec.instance_id, cluster=lab.other)
    seen = (await lab.listed()).get(spec.instance_id)
    need("X20", seen is not None and seen.phase != pb.PHASE_ENDING, f"Terminate in another cluster has made it {_phase(seen)}")
    await listed_as(lab, "X20", {spec.instance_id: external_id})


def _fails(result: pb.TerminateResult) -> bool:
    """Whether a result is an error; that there is no such instance is none."""
    return result.HasField("error") and result.error.reason != "NOT_FOUND"


def _phase(seen: pb.Observation | None) -> str:
    if seen is None:
        return "gone"
    return pb.Phase.Name(seen.phase) if seen.phase in pb.Phase.values() else str(seen.phase)


CHECKS = (
    Check(ends_what_it_is_asked_for, ("X16",), instances=1),
    Check(ending_the_unknown_is_fine, ("X17",)),
    Check(ending_again_is_fine, ("X17",), instances=1),
    Check(ends_without_another_call, ("X18",), instances=1),
    Check(ending_does_not_wait, ("X18",), instances=1),
    Check(clusters_are_apart, ("X20",), instances=2),
    Check(an_end_touches_no_other_cluster, ("X20",), instances=1),
)
