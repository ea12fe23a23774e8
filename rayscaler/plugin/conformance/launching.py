"""Checks of section 21: Launch."""

import asyncio
import time
from collections.abc import Callable

import grpc

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.plugin.conformance.check import Breach, Check
from rayscaler.plugin.conformance.identity import UNKNOWN
from rayscaler.plugin.conformance.lab import Lab, Refused
from rayscaler.plugin.conformance.need import listed_as, need, reason_of, refused_with

AT_ONCE = 5
"""Calls for one instance at the same time."""


async def launches_what_it_is_asked_for(lab: Lab) -> None:
    """Each spec of a call has one result, and nothing else has one."""
    specs = [lab.spec(), lab.spec()]
    await lab.launch(lab.request(*specs))
    asked = sorted(each.instance_id for each in specs)
    need("X5", lab.last_results == asked, f"was asked for {asked}, has results of {lab.last_results}")


async def launching_again_is_one(lab: Lab) -> None:
    """The same spec again is success with the same external_id, and begins nothing."""
    spec = lab.spec()
    (first,) = await lab.begin(spec)
    (second,) = await lab.begin(spec)
    need("X6", first == second, f"the external_id was {first!r}, and {second!r} when launched again")
    need("X6", list(await lab.listed()) == [spec.instance_id], "launched twice, listed is something else than the one")


async def launching_at_the_same_time_is_one(lab: Lab) -> None:
    """The same spec in several calls at the same time is one instance."""
    spec = lab.spec()
    found = await asyncio.gather(*(lab.begin(spec) for _ in range(AT_ONCE)))
    ids = {each for (each,) in found}
    need("X6", len(ids) == 1, f"{AT_ONCE} calls at the same time have external ids {sorted(ids)}")
    need("X6", list(await lab.listed()) == [spec.instance_id], "launched at the same time, listed is something else than the one")


async def launching_again_with_another_is_fine(lab: Lab) -> None:
    """A call with a spec that is known and one that is not launches the second, and leaves the first as it is."""
    known, new = lab.spec(), lab.spec()
    (first,) = await lab.begin(known)
    again, _ = await lab.begin(known, new)
    need("X6", again == first, f"the external_id was {first!r}, and {again!r} when launched again beside another")


async def another_spec_is_a_conflict(lab: Lab) -> None:
    """Another spec under a known instance_id is refused with CONFLICT, and nothing is changed."""
    spec = lab.spec()
    (external_id,) = await lab.begin(spec)
    for what, change in OTHERS.items():
        other = pb.LaunchSpec()
        other.CopyFrom(spec)
        change(other)
        reason = reason_of((await lab.launch(lab.request(other))).get(spec.instance_id))
        need("X7", reason == "CONFLICT", f"with {what} it is answered with {reason or 'success'}")
    await listed_as(lab, "X7", {spec.instance_id: external_id})
    again = reason_of((await lab.launch(lab.request(spec))).get(spec.instance_id))
    need("X7", not again, f"after a refused launch the spec it was launched with is answered with {again}")


def _other_head(spec: pb.LaunchSpec) -> None:
    spec.head_address = "192.0.2.77:6399"


def _in_a_replica(spec: pb.LaunchSpec) -> None:
    spec.replica_id, spec.replica_size = f"{spec.instance_id}-r", 1


OTHERS: dict[str, Callable[[pb.LaunchSpec], object]] = {
    "other resources": lambda spec: spec.node_type.resources.update({"CPU": spec.node_type.resources.get("CPU", 0) + 10_000}),
    "another label": lambda spec: spec.node_type.labels.update({"conformance": "other"}),
    "another environment": lambda spec: spec.node_type.env.update({"CONFORMANCE": "other"}),
    "another start parameter": lambda spec: spec.node_type.start_params.update({"conformance": "other"}),
    "another head": _other_head,
    "a replica": _in_a_replica,
}
"""What makes a spec another one."""


async def knows_what_is_no_part_of_a_spec(lab: Lab) -> None:
    """Another ray_start, another supervisor and fields that the plugin does not know make no other spec."""
    spec = lab.spec()
    (external_id,) = await lab.begin(spec)
    spelled, newer = pb.LaunchSpec(), pb.LaunchSpec()
    spelled.CopyFrom(spec)
    spelled.ray_start.argv.append("--verbose")
    spelled.ray_start.env["RAY_CONFORMANCE"] = "1"
    newer.CopyFrom(spec)
    newer.MergeFromString(UNKNOWN)
    newer.node_type.MergeFromString(UNKNOWN)
    bare = lab.request(spec)
    bare.supervisor = ""
    for what, request in (
        ("another ray_start", lab.request(spelled)),
        ("no supervisor", bare),
        ("fields it does not know", lab.request(newer)),
    ):
        result = (await lab.launch(request)).get(spec.instance_id)
        need("X7", not reason_of(result), f"with {what} it is answered with {reason_of(result)}")
        need("X7", result is not None and result.external_id == external_id, f"with {what} it has another external_id")


async def external_ids_differ(lab: Lab) -> None:
    """Each instance has an external_id of its own."""
    first, second = await lab.begin(lab.spec(), lab.spec())
    need("X9", bool(first) and bool(second), "an external_id is empty")
    need("X9", first != second, f"two instances have the external_id {first!r}")


async def a_bad_spec_is_refused_by_itself(lab: Lab) -> None:
    """A spec with an instance_id that none can have is refused with INVALID_REQUEST and leaves nothing; the others of the call are launched."""
    good = lab.spec()
    for bad in ("", f"{lab.token}/up", f".{lab.token}", f"{lab.token} b", f"{lab.token}-{'x' * 128}"):
        results = await lab.launch(lab.request(good, lab.spec(bad or "-")) if bad else _unnamed(lab, good))
        reason = reason_of(results.get(bad))
        need("X13", reason == "INVALID_REQUEST", f"the instance_id {bad[:40]!r} is answered with {reason or 'success'}")
        need("X10", not reason_of(results.get(good.instance_id)), f"beside it a good spec is answered with {results.get(good.instance_id)}")
    wrong, *_ = lab.hosts(1)
    wrong.replica_host = 1
    reason = reason_of((await lab.launch(lab.request(wrong))).get(wrong.instance_id))
    need("X55", reason == "INVALID_REQUEST", f"host 1 of a replica of one is answered with {reason or 'success'}")
    there = list(await lab.listed())
    need("X10", there == [good.instance_id], f"after specs that were refused List tells {there}")


def _unnamed(lab: Lab, good: pb.LaunchSpec) -> pb.LaunchRequest:
    """Return a request with a spec that has no instance_id."""
    nameless = lab.spec("-")
    nameless.instance_id = ""
    return lab.request(good, nameless)


async def a_bad_call_is_refused_whole(lab: Lab) -> None:
    """A call without specs, without a cluster, or with one instance_id twice is INVALID_ARGUMENT, and begins nothing."""
    spec = lab.spec()
    for what, request in (
        ("a Launch without specs", lab.request()),
        ("a Launch without a cluster", lab.request(spec, cluster="")),
        ("a Launch of one instance_id twice", lab.request(spec, spec)),
    ):
        async with refused_with("X13", grpc.StatusCode.INVALID_ARGUMENT, what):
            await lab.launch(request)
    need("X13", not await lab.listed(), "a call that was refused whole has begun something")


async def no_call_goes_without_a_cluster(lab: Lab) -> None:
    """Terminate, List and Watch without a cluster are INVALID_ARGUMENT too."""
    async with refused_with("X13", grpc.StatusCode.INVALID_ARGUMENT, "a Terminate without a cluster"):
        await lab.terminate(lab.new_id(), cluster="")
    async with refused_with("X13", grpc.StatusCode.INVALID_ARGUMENT, "a List without a cluster"):
        await lab.page(cluster="")
    async with refused_with("X13", grpc.StatusCode.INVALID_ARGUMENT, "a Watch without a cluster"), lab.watch(cluster="") as watch:
        await watch.found(lambda _: watch.has_ended, lab.patience.first_s)
        if watch.error is not None:
            raise watch.error


async def is_listed_when_launch_answers(lab: Lab) -> None:
    """From the answer on, List tells the instance, with the node type and the external_id that Launch told."""
    spec = lab.spec()
    (external_id,) = await lab.begin(spec)
    await listed_as(lab, "X11", {spec.instance_id: external_id})


async def launching_does_not_wait(lab: Lab) -> None:
    """Launch does not wait for an instance to run."""
    spec = lab.spec()
    began = time.monotonic()
    try:
        await lab.begin(spec)
    except Refused as refused:
        raise Breach("X12", str(refused)) from refused
    took_s = time.monotonic() - began
    seen = (await lab.listed()).get(spec.instance_id)
    is_up = seen is not None and seen.phase >= pb.PHASE_REGISTERING
    need("X12", took_s < lab.patience.prompt_s or not is_up, f"Launch took {took_s:.1f} s, and the instance runs when it answers")


async def answers_a_caller_in_a_hurry(lab: Lab) -> None:
    """A call with a short deadline is answered before it: what could not be begun is BUSY, with nothing begun."""
    spec = lab.spec()
    within_s = lab.patience.prompt_s
    try:
        results = await lab.launch(lab.request(spec), within_s)
    except Refused as refused:
        raise Breach("X12", f"with {within_s:g} s for the call: {refused}") from refused
    if reason_of(results.get(spec.instance_id)) == "BUSY":
        need("X12", spec.instance_id not in await lab.listed(), "was answered BUSY, and is listed")


CHECKS = (
    Check(launches_what_it_is_asked_for, ("X5",), instances=2),
    Check(launching_again_is_one, ("X6",), instances=1),
    Check(launching_at_the_same_time_is_one, ("X6", "X42"), instances=1),
    Check(launching_again_with_another_is_fine, ("X6",), instances=2),
    Check(another_spec_is_a_conflict, ("X7",), instances=1),
    Check(knows_what_is_no_part_of_a_spec, ("X4", "X7"), instances=1),
    Check(external_ids_differ, ("X9",), instances=2),
    Check(a_bad_spec_is_refused_by_itself, ("X10", "X13", "X55"), instances=2),
    Check(a_bad_call_is_refused_whole, ("X13",), instances=1),
    Check(no_call_goes_without_a_cluster, ("X13",)),
    Check(is_listed_when_launch_answers, ("X11",), instances=1),
    Check(launching_does_not_wait, ("X12",), instances=1),
    Check(answers_a_caller_in_a_hurry, ("X12",), instances=1),
)
