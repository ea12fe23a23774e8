"""Checks over the lives of a plugin: how it starts, how it ends, and what it knows afterwards."""

import asyncio

import grpc
import grpc.aio

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.plugin.conformance.check import Breach, Check, Skipped, Want
from rayscaler.plugin.conformance.identity import asked
from rayscaler.plugin.conformance.lab import Lab, Refused
from rayscaler.plugin.conformance.limits import secret
from rayscaler.plugin.conformance.need import listed_as, need, reason_of, told_as_launched
from rayscaler.plugin.conformance.subject import Command, How
from rayscaler.plugin.conformance.told import HOSTS

KILL_AFTER_S = (0.0, 0.005, 0.05)
"""After the beginning of a Launch."""


async def greets_its_host(lab: Lab) -> None:
    """Its first output says where it listens, as go-plugin does: in the directory it was given or at loopback, without a certificate."""
    await lab.subject.channel()


async def serves_nobody_without_its_cookie(lab: Lab) -> None:
    """Started by hand, without the magic cookie, it does not serve as if a host had started it."""
    out = await _command(lab).without_cookie(lab.patience.introduce_s)
    need("X45", not out.startswith("1|"), f"without the cookie it says where it listens: {out[:100]!r}")


async def ends_when_it_is_told_to(lab: Lab) -> None:
    """GRPCController.Shutdown ends it within 5 s."""
    took_s = await lab.subject.restart(How.SHUTDOWN)
    need("X47", took_s <= lab.patience.stop_s, f"Shutdown took {took_s:.1f} s")


async def ends_with_sigterm(lab: Lab) -> None:
    """SIGTERM ends it within 5 s."""
    took_s = await lab.subject.restart(How.TERM)
    need("X47", took_s <= lab.patience.stop_s, f"the end after SIGTERM took {took_s:.1f} s")


async def instances_live_on(lab: Lab) -> None:
    """Its instances live over its end, and its next life, under the same name, lists them."""
    spec = lab.spec()
    name = (await lab.call("GetInfo", asked())).name
    (external_id,) = await lab.begin(spec)
    await lab.subject.restart(How.SHUTDOWN)
    again = (await lab.call("GetInfo", asked())).name
    need("X1", again == name, f"was {name}, and is {again} in its next life")
    await listed_as(lab, "X47", {spec.instance_id: external_id})


async def knows_its_specs_after_a_crash(lab: Lab) -> None:
    """After SIGKILL the same spec is still the same instance, and another one a conflict."""
    spec, other = lab.spec(), pb.LaunchSpec()
    (external_id,) = await lab.begin(spec)
    await lab.subject.restart(How.KILL)
    await listed_as(lab, "X21", {spec.instance_id: external_id})
    (again,) = await lab.begin(spec)
    need("X8", again == external_id, f"the external_id was {external_id!r}, and is {again!r} after a crash")
    other.CopyFrom(spec)
    other.head_address = "192.0.2.77:6399"
    reason = reason_of((await lab.launch(lab.request(other))).get(spec.instance_id))
    need("X8", reason == "CONFLICT", f"after a crash another spec is answered with {reason or 'success'}")


async def knows_its_replicas_after_a_crash(lab: Lab) -> None:
    """After SIGKILL hosts are told with their replica as before."""
    specs = lab.hosts(HOSTS)
    await lab.begin(*specs)
    await lab.subject.restart(How.KILL)
    told_as_launched(specs, (await lab.listed()).values(), "List, after a crash,")


async def an_end_goes_on_after_a_crash(lab: Lab) -> None:
    """An end that was begun before a crash goes on after it without another call."""
    spec = lab.spec()
    await lab.begin(spec)
    await lab.end(spec.instance_id)
    await lab.subject.restart(How.KILL)
    seen = (await lab.listed()).get(spec.instance_id)
    is_ending = seen is None or seen.phase in (pb.PHASE_ENDING, pb.PHASE_GONE)
    need("X18", is_ending, "after a crash an instance whose end had begun is listed as if it had not")
    need("X18", await lab.until_gone(spec.instance_id), "after a crash the end of an instance does not go on")


async def a_crash_in_a_launch_loses_nothing(lab: Lab) -> None:
    """Killed in the middle of a Launch, it knows what it has begun: the same call again is one instance."""
    for after_s in KILL_AFTER_S:
        spec = lab.spec()
        await lab.subject.channel()
        calling = asyncio.create_task(lab.launch(lab.request(spec)), name="a launch that a crash ends")
        await asyncio.sleep(after_s)  # the moment of the crash
        await lab.subject.restart(How.KILL)
        answer = (await asyncio.gather(calling, return_exceptions=True))[0]
        if isinstance(answer, BaseException) and not isinstance(answer, Refused | Breach | asyncio.CancelledError):
            raise answer  # with the channel the call is cut off too
        before = await lab.listed()
        (external_id,) = await lab.begin(spec)
        known = before.get(spec.instance_id)
        need("X11", known is None or known.external_id == external_id, "an instance begun before a crash has another external_id after it")
        there = [each.instance_id for page in await lab.pages() for each in page.observations if each.instance_id == spec.instance_id]
        need("X11", there == [spec.instance_id], f"launched again after a crash, {spec.instance_id} is listed {len(there)} times")
        await lab.clear()


async def an_old_bookmark_is_refused_or_kept(lab: Lab) -> None:
    """A bookmark of an earlier life is refused, or Watch goes on from it with nothing lost."""
    spec = lab.spec()
    async with lab.watch() as watch:
        bookmark = watch.bookmark
    if not bookmark:
        raise Skipped("no bookmark was told")
    await lab.begin(spec)
    await lab.end(spec.instance_id)
    await lab.until_gone(spec.instance_id)
    await lab.subject.restart(How.KILL)
    async with lab.watch(bookmark) as watch:
        seen = await watch.phase(spec.instance_id, pb.PHASE_GONE, lab.patience.change_s)
        is_refused = isinstance(watch.error, Refused) and watch.error.code is grpc.StatusCode.OUT_OF_RANGE
        need(
            "X31",
            is_refused or seen is not None,
            f"a bookmark of an earlier life is taken, and what came after it is not told; {watch.error or ''}",
        )


async def prints_no_secrets(lab: Lab) -> None:
    """No value of a sensitive field stands in what it prints."""
    spec = lab.spec()
    spec.node_type.env["CONFORMANCE"] = spec.ray_start.env["CONFORMANCE"] = secret(lab)
    await lab.begin(spec)
    await lab.end(spec.instance_id)
    await lab.until_gone(spec.instance_id)
    need("X38", secret(lab).encode() not in _command(lab).printed.text, "a value of an environment stands in its output")


def _command(lab: Lab) -> Command:
    if not isinstance(lab.subject, Command):
        raise Skipped(Want.STARTED)
    return lab.subject


GREETING = Check(greets_its_host, ("X44", "X46", "X49"), want=Want.STARTED)
"""The first of all."""
CHECKS = (
    Check(serves_nobody_without_its_cookie, ("X45",), want=Want.STARTED),
    Check(prints_no_secrets, ("X38",), instances=1, want=Want.STARTED),
    Check(ends_when_it_is_told_to, ("X47",), want=Want.STARTED),
    Check(ends_with_sigterm, ("X47",), want=Want.STARTED),
    Check(instances_live_on, ("X1", "X47"), instances=1, want=Want.RESTART),
    Check(knows_its_specs_after_a_crash, ("X8", "X21"), instances=1, want=Want.RESTART),
    Check(knows_its_replicas_after_a_crash, ("X8", "X55"), instances=HOSTS, want=Want.RESTART),
    Check(an_end_goes_on_after_a_crash, ("X18",), instances=1, want=Want.RESTART),
    Check(a_crash_in_a_launch_loses_nothing, ("X8", "X11"), instances=1, want=Want.RESTART),
    Check(an_old_bookmark_is_refused_or_kept, ("X31",), instances=1, want=Want.RESTART),
)
