"""Checks of section 24: Watch."""

import grpc

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.plugin.conformance.check import Check, Skipped, Want
from rayscaler.plugin.conformance.lab import Lab, Refused
from rayscaler.plugin.conformance.need import need
from rayscaler.plugin.conformance.reading import Reading

SLACK_S = 0.5
"""How much later than the plugin sent it a message may be here."""
WATCHERS = 3


async def a_watch_begins_at_once(lab: Lab) -> None:
    """The first message comes within 1 s and carries a bookmark."""
    async with lab.watch() as watch:
        within_s = lab.patience.first_s + SLACK_S
        is_early = bool(watch.times) and watch.times[0] - watch.began <= within_s
        need("X28", is_early, f"nothing was said within {lab.patience.first_s:g} s; {watch.error or ''}")
        need("X28", bool(watch.messages[0].bookmark), "the first message has no bookmark")


async def a_watch_tells_what_list_tells(lab: Lab) -> None:
    """Each phase, trouble and end that List tells was told by Watch, or is within 5 s."""
    spec = lab.spec()
    within_s = lab.patience.change_s + SLACK_S
    async with lab.watch() as watch:
        await lab.begin(spec)
        async for _ in lab.moments(lab.patience.settle_s):
            await _told_too(lab, watch, spec.instance_id, within_s)
            if pb.PHASE_REGISTERING in watch.phases(spec.instance_id):
                break
        await lab.end(spec.instance_id)
        await _told_too(lab, watch, spec.instance_id, within_s)


async def _told_too(lab: Lab, watch: Reading, instance_id: str, within_s: float) -> None:
    seen = (await lab.listed()).get(instance_id)
    if seen is None:
        return
    told = await watch.phase(instance_id, seen.phase, within_s)
    need(
        "X29",
        told is not None,
        f"List tells {pb.Phase.Name(seen.phase)}, Watch told nothing as late within {within_s:g} s; {watch.error or ''}",
    )


async def the_end_is_told(lab: Lab) -> None:
    """Watch tells GONE within 5 s of its being so."""
    spec = lab.spec()
    async with lab.watch() as watch:
        await lab.begin(spec)
        await lab.end(spec.instance_id)
        if not await lab.until_gone(spec.instance_id):
            raise Skipped(f"the instance was not gone within {lab.patience.end_s:g} s")
        within_s = lab.patience.change_s + SLACK_S
        told = await watch.phase(spec.instance_id, pb.PHASE_GONE, within_s)
        need(
            "X29",
            told is not None,
            f"it is listed no more, and Watch has not told that it is gone within {within_s:g} s; {watch.error or ''}",
        )


async def a_watch_goes_on_from_a_bookmark(lab: Lab) -> None:
    """From a bookmark a watch tells all that came after it, and nothing between is lost."""
    spec = lab.spec()
    async with lab.watch() as first:
        bookmark = first.bookmark
    if not bookmark:
        raise Skipped("no bookmark was told")
    await lab.begin(spec)
    await lab.end(spec.instance_id)
    await lab.until_gone(spec.instance_id)
    async with lab.watch(bookmark) as second:
        told = await second.phase(spec.instance_id, pb.PHASE_GONE, lab.patience.change_s + SLACK_S)
        if isinstance(second.error, Refused) and second.error.code is grpc.StatusCode.OUT_OF_RANGE:
            raise Skipped("a bookmark of the same minute is refused as expired, which it should not be")
        need("X30", told is not None, f"from the bookmark before, the end of an instance is not told; {second.error or ''}")
        need("X30", len(set(second.phases(spec.instance_id))) > 1, "from the bookmark before, nothing but the end of an instance is told")


async def an_unknown_bookmark_is_refused(lab: Lab) -> None:
    """A bookmark that the plugin does not know is refused with OUT_OF_RANGE."""
    async with lab.watch("nobodys-bookmark") as watch:
        await watch.found(lambda _: False, lab.patience.first_s)
        need("X31", watch.has_ended, "a bookmark of nobody's is not refused")
        need("X31", watch.error is not None, "a bookmark of nobody's is answered with an end without an error")
        code = watch.error.code if isinstance(watch.error, Refused) else None
        need("X31", code is grpc.StatusCode.OUT_OF_RANGE, f"a bookmark of nobody's: {watch.error}, not OUT_OF_RANGE")


async def an_idle_watch_says_something(lab: Lab) -> None:
    """There is a message at least every 10 s, also where nothing happens."""
    async with lab.watch(cluster=lab.other) as watch:
        before = len(watch.messages)
        within_s = lab.patience.beat_s + SLACK_S
        told = await watch.found(lambda _: True, within_s, before)
        need("X32", told is not None, f"nothing was said for {within_s:g} s; {watch.error or ''}")


async def a_watch_does_not_end(lab: Lab) -> None:
    """A watch goes on, also when there is no instance any more; if it breaks off it says why."""
    spec = lab.spec()
    async with lab.watch() as watch:
        await lab.begin(spec)
        await lab.end(spec.instance_id)
        await lab.until_gone(spec.instance_id)
        await watch.found(lambda _: watch.has_ended, lab.patience.first_s, len(watch.messages))
        need("X34", not watch.has_ended or watch.error is not None, "it ended without an error")


async def every_watch_tells_everything(lab: Lab) -> None:
    """Watches of the same cluster do not take changes from each other."""
    spec = lab.spec()
    async with lab.watch() as first, lab.watch() as second, lab.watch() as third:
        await lab.begin(spec)
        await lab.end(spec.instance_id)
        await lab.until_gone(spec.instance_id)
        told = []
        for watch in (first, second, third):
            await watch.phase(spec.instance_id, pb.PHASE_GONE, lab.patience.change_s + SLACK_S)
            told.append(set(watch.phases(spec.instance_id)))
        need("X33", all(each == told[0] for each in told), f"{WATCHERS} watches have told the phases {[sorted(each) for each in told]}")


async def a_death_is_told(lab: Lab) -> None:
    """An instance that ends without Terminate is told as GONE with an error, and listed no more."""
    spec = lab.spec()
    if lab.kill is None:
        raise Skipped("there is no --kill")
    async with lab.watch() as watch:
        (external_id,) = await lab.begin(spec)
        await watch.phase(spec.instance_id, pb.PHASE_REGISTERING, lab.patience.settle_s)
        await lab.kill(lab.cluster, spec.instance_id, external_id)
        told = await watch.phase(spec.instance_id, pb.PHASE_GONE, lab.patience.died_s)
        need("X35", told is not None, f"it was killed, and not told as gone within {lab.patience.died_s:g} s; {watch.error or ''}")
        need("X35", told is not None and bool(told.error), "it was killed, and told as gone without an error")
        need("X35", spec.instance_id not in await lab.listed(), "it was killed, and is still listed")


CHECKS = (
    Check(a_watch_begins_at_once, ("X28",)),
    Check(a_watch_tells_what_list_tells, ("X29",), instances=1),
    Check(the_end_is_told, ("X11", "X29"), instances=1),
    Check(a_watch_goes_on_from_a_bookmark, ("X30",), instances=1),
    Check(an_unknown_bookmark_is_refused, ("X31",)),
    Check(an_idle_watch_says_something, ("X32",)),
    Check(a_watch_does_not_end, ("X34",), instances=1),
    Check(every_watch_tells_everything, ("X33",), instances=1),
    Check(a_death_is_told, ("X35",), instances=1, want=Want.KILL),
)
