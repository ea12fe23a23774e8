"""Plugins that are right but for one thing, and who has to notice it: the conformance suite is tested by them.

Each is a small change of an honest servicer over fake machines. `caught` names every check that fails of it, and `why` says why more than
one does.
"""

# ruff: noqa: N802, RUF012, ASYNC110 - methods are named as gRPC names them; what lives of a mutant share; machines tell nobody

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
from google.protobuf.unknown_fields import UnknownFieldSet
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from rayscaler import wire
from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.clock import SystemClock
from rayscaler.errors import BookmarkExpired, InvalidRequest, Unavailable
from rayscaler.model.instance import Phase
from rayscaler.plugin.conformance.subject import How
from rayscaler.plugin.connection import Address
from rayscaler.plugin.service import ExecutorService, add_to
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines

DELAYS_S = {Phase.UNSCHEDULED: 0.0, Phase.STARTING: 0.03, Phase.REGISTERING: 0.0, Phase.ENDING: 0.1}
SLOW_S = 1.8
"""Longer than the tests' `prompt_s`."""


class Mutant(ExecutorService):
    """Honest: what mutants are made of. `life` counts its restarts."""

    delays_s: dict[Phase, float] = {}
    request_bytes = 4 << 20
    health = health_pb2.HealthCheckResponse.SERVING

    def __init__(self, machines: FakeMachines, life: int) -> None:
        self.machines = machines
        self.life = life
        super().__init__(FakeExecutor(machines), name="mutant.rayscaler.io", version="1")

    def keys(self, cluster):
        return {key for owner, key in self.machines.machines if owner == cluster}


class Edited(Mutant):
    """One that changes what it tells of instances."""

    def edit(self, seen: pb.Observation, cluster: str) -> None:
        """Change an observation."""

    async def List(self, request, context):
        page = await super().List(request, context)
        for each in page.observations:
            self.edit(each, request.cluster)
        return page

    async def Watch(self, request, context):
        async for told in super().Watch(request, context):
            if told.HasField("observation"):
                self.edit(told.observation, request.cluster)
            yield told


class ToldOtherwise(Edited):
    """One that changes external ids too, the same way everywhere."""

    def external_id(self, cluster: str, instance_id: str) -> str:
        raise NotImplementedError

    def edit(self, seen, cluster):
        seen.external_id = self.external_id(cluster, seen.instance_id)

    async def Launch(self, request, context):
        answer = await super().Launch(request, context)
        for each in answer.results:
            if each.WhichOneof("outcome") == "external_id":
                each.external_id = self.external_id(request.cluster, each.instance_id)
        return answer


# who it is


class NoVersion(Mutant):
    async def GetInfo(self, request, context):
        return pb.GetInfoResponse(name="mutant.rayscaler.io", protocol_version=1)


class HangingProbe(Mutant):
    async def Probe(self, request, context):
        await asyncio.Event().wait()


class ServesUnnamed(Mutant):
    async def HintDrain(self, request, context):
        return pb.HintDrainResponse()


class NamesUnserved(Mutant):
    async def GetCapabilities(self, request, context):
        return pb.GetCapabilitiesResponse(capabilities=[pb.CAPABILITY_SUSPEND])


class RefusesUnknownFields(Mutant):
    async def Probe(self, request, context):
        if len(UnknownFieldSet(request)):
            raise InvalidRequest("request: has a field that nobody knows")
        return await super().Probe(request, context)


class NeedsItsOwnVersion(Mutant):
    async def GetInfo(self, request, context):
        if request.protocol_version != 1:
            raise InvalidRequest("protocol_version: must be 1")
        return await super().GetInfo(request, context)


class Unwell(Mutant):
    health = health_pb2.HealthCheckResponse.NOT_SERVING


class AnotherNameEachLife(Mutant):
    async def GetInfo(self, request, context):
        return pb.GetInfoResponse(name=f"mutant-{self.life}.rayscaler.io", version="1", protocol_version=1)


# launch


class EachResultTwice(Mutant):
    async def Launch(self, request, context):
        answer = await super().Launch(request, context)
        answer.results.extend(list(answer.results))
        return answer


class LaunchesTwice(Mutant):
    """Not idempotent: a spec that is known is begun once more."""

    async def Launch(self, request, context):
        for each in request.specs:
            if each.instance_id in self.keys(request.cluster):
                copy = pb.LaunchSpec()
                copy.CopyFrom(each)
                copy.instance_id += "-again"
                await super().Launch(pb.LaunchRequest(cluster=request.cluster, specs=[copy]), context)
        return await super().Launch(request, context)

    async def Terminate(self, request, context):
        twins = [f"{each}-again" for each in request.instance_ids if f"{each}-again" in self.keys(request.cluster)]
        if twins:
            await super().Terminate(pb.TerminateRequest(cluster=request.cluster, instance_ids=twins), context)
        return await super().Terminate(request, context)


class Racing(Mutant):
    """Idempotent, but not where two calls come at the same time."""

    _under_way = 0

    async def Launch(self, request, context):
        is_second = self._under_way > 0 and not {each.instance_id for each in request.specs} <= self.keys(request.cluster)
        self._under_way += 1
        try:
            await asyncio.sleep(0.01)  # what it does before it notes anything down
            answer = await super().Launch(request, context)
        finally:
            self._under_way -= 1
        for each in answer.results if is_second else ():
            each.external_id += "-other"
        return answer


class RefusesMixedCalls(Mutant):
    """Refuses what is known where something new stands beside it."""

    async def Launch(self, request, context):
        before = self.keys(request.cluster)
        answer = await super().Launch(request, context)
        ids = {each.instance_id for each in request.specs}
        if (ids - before) & self.keys(request.cluster):
            for each in answer.results:
                if each.instance_id in before:
                    each.error.reason = "CONFLICT"
        return answer


class TakesAnySpec(Mutant):
    """Never says CONFLICT."""

    async def Launch(self, request, context):
        answer = await super().Launch(request, context)
        for each in answer.results:
            if each.error.reason == "CONFLICT":
                each.external_id = f"fake-{each.instance_id}"
        return answer


class ForgetsSpecs(TakesAnySpec):
    """Knows after a restart which instances there are, and not what they were launched with."""

    async def Launch(self, request, context):
        return await (super().Launch(request, context) if self.life else ExecutorService.Launch(self, request, context))


class ComparesTooMuch(Mutant):
    """Takes the command for a part of the spec."""

    commands: dict[str, bytes] = {}

    async def Launch(self, request, context):
        answer = await super().Launch(request, context)
        for spec, result in zip(request.specs, sorted(answer.results, key=lambda each: each.instance_id), strict=False):
            command = spec.ray_start.SerializeToString(deterministic=True)
            if len(request.specs) == 1 and self.commands.setdefault(spec.instance_id, command) != command and not result.HasField("error"):
                result.error.reason = "CONFLICT"
        return answer


class LosesInstances(Mutant):
    """Knows nothing of its earlier lives."""

    def __init__(self, machines, life):
        super().__init__(machines, life)
        for each in machines.machines.values():
            each.task.cancel()
        machines.machines.clear()


class NotesTooLate(Mutant):
    """Notes an instance only after it has begun it: a crash between, and the next life begins it once more."""

    noted: dict[int, set[str]] = {}
    twins: dict[int, set[str]] = {}

    def __init__(self, machines, life):
        super().__init__(machines, life)
        self.begun_now: set[str] = set()
        self.notes, self.twice = self.noted.setdefault(id(machines), set()), self.twins.setdefault(id(machines), set())

    async def Launch(self, request, context):
        ids = {each.instance_id for each in request.specs}
        self.twice |= (ids & self.keys(request.cluster)) - self.notes - self.begun_now
        self.begun_now |= ids
        answer = await super().Launch(request, context)
        await asyncio.sleep(0.1)  # until it has written
        self.notes |= ids
        return answer

    async def List(self, request, context):
        page = await super().List(request, context)
        page.observations.extend([each for each in page.observations if each.instance_id in self.twice])
        return page


class OneExternalId(ToldOtherwise):
    def external_id(self, cluster, instance_id):
        return "vm"


class ExternalIdsOfALife(ToldOtherwise):
    def external_id(self, cluster, instance_id):
        return f"vm-{instance_id}-{self.life}"


class AnyName(Mutant):
    """Answers success for an instance_id that none can have."""

    async def Launch(self, request, context):
        answer = await super().Launch(request, context)
        for each in answer.results:
            if each.error.reason == "INVALID_REQUEST":
                each.external_id = "vm-bad"
        return answer


class OneBadSpoilsAll(Mutant):
    async def Launch(self, request, context):
        answer = await super().Launch(request, context)
        if any(each.error.reason == "INVALID_REQUEST" for each in answer.results):
            raise InvalidRequest("specs: one is bad")
        return answer


class LeavesWhatFailed(Mutant):
    """A spec that it refuses is listed all the same."""

    bad: list[pb.Observation] = []

    async def Launch(self, request, context):
        answer = await super().Launch(request, context)
        for spec in request.specs:
            if "/" in spec.instance_id:
                self.bad = [pb.Observation(instance_id="half", node_type=spec.node_type.name, external_id="x", phase=pb.PHASE_UNSCHEDULED)]
        return answer

    async def List(self, request, context):
        page = await super().List(request, context)
        if page.observations:
            page.observations.extend(self.bad)
        return page

    async def Terminate(self, request, context):
        self.bad = []
        return await super().Terminate(request, context)


class TakesEmptyCalls(Mutant):
    async def Launch(self, request, context):
        return await super().Launch(request, context) if request.specs else pb.LaunchResponse()


class ListsLate(Mutant):
    """An instance is listed only a while after Launch has answered."""

    born: dict[str, float] = {}

    async def Launch(self, request, context):
        for each in request.specs:
            self.born.setdefault(each.instance_id, asyncio.get_running_loop().time())
        return await super().Launch(request, context)

    async def List(self, request, context):
        page = await super().List(request, context)
        now = asyncio.get_running_loop().time()
        kept = [each for each in page.observations if now - self.born.get(each.instance_id, 0.0) > 0.5]
        del page.observations[:]
        page.observations.extend(kept)
        return page


class LaunchWaits(Mutant):
    """Answers only when the instance runs."""

    delays_s = {Phase.STARTING: SLOW_S}

    async def Launch(self, request, context):
        answer = await super().Launch(request, context)
        while any(self._is_young(request.cluster, each.instance_id) for each in request.specs):
            await asyncio.sleep(0.02)  # machines tell a caller nothing
        return answer

    def _is_young(self, cluster, instance_id):
        machine = self.machines.machines.get((cluster, instance_id))
        return machine is not None and machine.phase in (Phase.UNSCHEDULED, Phase.STARTING)


# terminate


class UnknownEndFails(Mutant):
    async def Terminate(self, request, context):
        known = self.keys(request.cluster)
        answer = await super().Terminate(request, context)
        for each in answer.results:
            if each.instance_id not in known:
                each.error.reason = "INVALID_REQUEST"
        return answer


class NoEndResults(Mutant):
    async def Terminate(self, request, context):
        await super().Terminate(request, context)
        return pb.TerminateResponse()


class EndsAtTheSecondCall(Mutant):
    """Says yes and does nothing until it is asked again."""

    asked: set[str] = set()

    async def Terminate(self, request, context):
        if set(request.instance_ids) <= self.asked:
            return await super().Terminate(request, context)
        self.asked = self.asked | set(request.instance_ids)
        return pb.TerminateResponse(results=[pb.TerminateResult(instance_id=each) for each in request.instance_ids])


class TerminateWaits(Mutant):
    """Answers only when the instance is gone."""

    delays_s = {Phase.ENDING: SLOW_S}

    async def Terminate(self, request, context):
        answer = await super().Terminate(request, context)
        while set(request.instance_ids) & self.keys(request.cluster):
            await asyncio.sleep(0.02)  # machines tell a caller nothing
        return answer


class ListsOthers(Mutant):
    async def List(self, request, context):
        page = await super().List(request, context)
        others = {cluster for cluster, _ in self.machines.machines} - {request.cluster}
        for cluster in others if not request.page_token else ():
            page.observations.extend((await super().List(pb.ListRequest(cluster=cluster), context)).observations)
        return page


class EndsOthers(Mutant):
    async def Terminate(self, request, context):
        for cluster, key in list(self.machines.machines):
            if key in request.instance_ids:
                self.machines.end(cluster, key)
        return await super().Terminate(request, context)


class ForgetsEnds(Edited):
    """An end that was begun before a restart is not gone on with."""

    delays_s = {Phase.ENDING: 0.5}  # so that the restart comes before it is over

    def __init__(self, machines, life):
        super().__init__(machines, life)
        for machine in list(machines.machines.values()):
            if machine.phase is Phase.ENDING:
                machine.task.cancel()
                machine.phase = Phase.REGISTERING


# list


class Invents(Mutant):
    async def List(self, request, context):
        page = await super().List(request, context)
        if request.cluster.endswith("-never"):
            page.observations.add(instance_id="nobodys", node_type="small", external_id="vm-x", phase=pb.PHASE_REGISTERING)
        return page


class ListsAPart(Mutant):
    async def List(self, request, context):
        page = await super().List(request, context)
        if len(page.observations) > 2:
            del page.observations[-1]
        return page


class IgnoresPageSize(Mutant):
    async def List(self, request, context):
        request.page_size = 0
        return await super().List(request, context)


class TwiceOnPages(Mutant):
    """The last instance of a page stands on the next one too."""

    async def List(self, request, context):
        page = await super().List(request, context)
        if request.page_token and page.observations and request.page_size == 2:
            before = await super().List(pb.ListRequest(cluster=request.cluster, page_size=1), context)
            page.observations.extend(before.observations)
        return page


class TakesAnyPageToken(Mutant):
    async def List(self, request, context):
        try:
            return await super().List(request, context)
        except BookmarkExpired:
            request.page_token = ""
            return await super().List(request, context)


class BookmarkOfEachPage(Mutant):
    async def List(self, request, context):
        page = await super().List(request, context)
        page.bookmark = page.bookmark + ("" if not request.page_token else "-2")
        return page


class ListsTheGone(Mutant):
    """Tells of an instance once more when it is gone."""

    ghosts: dict[str, pb.Observation] = {}

    async def Terminate(self, request, context):
        page = await super().List(pb.ListRequest(cluster=request.cluster), context)
        for each in page.observations:
            if each.instance_id in request.instance_ids:
                each.phase = pb.PHASE_GONE
                self.ghosts = {**self.ghosts, each.instance_id: each}
        return await super().Terminate(request, context)

    async def List(self, request, context):
        page = await super().List(request, context)
        there = self.keys(request.cluster)
        for key in [key for key in self.ghosts if key not in there]:
            page.observations.append(self.ghosts.pop(key))
        return page


# watch


class LateAtFirst(Mutant):
    async def Watch(self, request, context):
        told = super().Watch(request, context)
        first = await anext(told)
        await asyncio.sleep(1.8)  # later than 1 s
        yield first
        async for each in told:
            yield each


class NoFirstBookmark(Mutant):
    async def Watch(self, request, context):
        is_first = True
        async for each in super().Watch(request, context):
            if is_first:
                each.bookmark = ""
            is_first = False
            yield each


class Changed(Mutant):
    """One that leaves something out of a watch."""

    def tells(self, seen: pb.Observation) -> bool:
        raise NotImplementedError

    async def Watch(self, request, context):
        async for each in super().Watch(request, context):
            if not each.HasField("observation") or self.tells(each.observation):
                yield each


class TellsNoPhase(Changed):
    def tells(self, seen):
        return seen.phase not in (pb.PHASE_STARTING, pb.PHASE_REGISTERING)


class TellsNoEnd(Changed):
    def tells(self, seen):
        return seen.phase != pb.PHASE_GONE


class IgnoresBookmarks(Mutant):
    async def Watch(self, request, context):
        request.bookmark = ""
        async for each in super().Watch(request, context):
            yield each


class TakesAnyBookmark(Mutant):
    async def Watch(self, request, context):
        with contextlib.suppress(BookmarkExpired):
            async for each in super().Watch(request, context):
                yield each
        request.bookmark = ""
        async for each in super().Watch(request, context):
            yield each


class Mute(Changed):
    """Says nothing where nothing changes."""

    async def Watch(self, request, context):
        count = itertools.count()
        async for each in ExecutorService.Watch(self, request, context):
            if each.HasField("observation") or not next(count):
                yield each


class EndsQuietly(Mutant):
    """A watch ends, with no error, when an instance is gone."""

    async def Watch(self, request, context):
        async for each in super().Watch(request, context):
            yield each
            if each.observation.phase == pb.PHASE_GONE:
                return


class TellsOneWatch(Mutant):
    """Only the watch that was opened last is told anything."""

    last = 0

    async def Watch(self, request, context):
        self.last += 1
        mine = self.last
        async for each in super().Watch(request, context):
            if mine == self.last or not each.HasField("observation"):
                yield each


class DiesInSilence(Edited):
    def edit(self, seen, cluster):
        seen.error = ""


# limits, and what is told


class TellsSecrets(Mutant):
    """Tells in an error what the spec was."""

    async def Launch(self, request, context):
        answer = await super().Launch(request, context)
        for each in answer.results:
            if each.HasField("error"):
                each.error.message = str(request.specs)[:4000]
        return answer


class ShowsSecrets(Edited):
    """Tells in `detail` what an instance was made of."""

    def edit(self, seen, cluster):
        seen.detail = str(seen.made_as)


class SmallRequests(Mutant):
    request_bytes = 1 << 20


class SmallBatches(Mutant):
    async def Terminate(self, request, context):
        if len(request.instance_ids) > 100:
            raise InvalidRequest("instance_ids: 100 at most")
        return await super().Terminate(request, context)


class HugeAnswers(Mutant):
    async def Terminate(self, request, context):
        answer = await super().Terminate(request, context)
        if len(request.instance_ids) == 1000:
            answer.results[0].error.message = "x" * (33 << 20)
        return answer


class OneCallAtATime(Mutant):
    is_busy = False

    async def List(self, request, context):
        if self.is_busy:
            raise Unavailable("one at a time")
        self.is_busy = True
        await asyncio.sleep(0.01)  # what it does meanwhile
        try:
            return await super().List(request, context)
        finally:
            self.is_busy = False


class FewThreads(Mutant):
    """Each watch holds one of ten threads."""

    watches = 0

    async def Watch(self, request, context):
        self.watches += 1
        try:
            async for each in super().Watch(request, context):
                yield each
        finally:
            self.watches -= 1

    async def List(self, request, context):
        while self.watches >= 10:
            await asyncio.sleep(0.02)  # until a thread is free
        return await super().List(request, context)


class NoExternalIdInWatches(Mutant):
    async def Watch(self, request, context):
        async for each in super().Watch(request, context):
            if each.observation.phase == pb.PHASE_ENDING:
                each.observation.external_id = ""
            yield each


class MadeAsSomethingElse(Edited):
    def edit(self, seen, cluster):
        seen.made_as.resources["CPU"] = 20_000


class GoesBack(Mutant):
    async def Watch(self, request, context):
        async for each in super().Watch(request, context):
            yield each
            if each.observation.phase == pb.PHASE_REGISTERING:
                each.observation.phase = pb.PHASE_STARTING
                yield each


class ChangesExternalIds(Edited):
    def edit(self, seen, cluster):
        if seen.phase == pb.PHASE_ENDING:
            seen.external_id += "-ending"


class ForgesLines(ToldOtherwise):
    def external_id(self, cluster, instance_id):
        return f"vm-{instance_id}\n[error] forged"


@dataclass(frozen=True)
class Row:
    """A mutant and every check that has to fail of it; `why` where that is more than one."""

    mutant: type[Mutant]
    caught: frozenset[str]
    why: str = ""


def row(mutant: type[Mutant], *caught: str, why: str = "") -> Row:
    return Row(mutant, frozenset(caught), why)


ROWS: tuple[Row, ...] = (
    row(NoVersion, "tells-who-it-is"),
    row(HangingProbe, "introduces-itself-in-time", "ignores-unknown-fields", why="both call Probe"),
    row(ServesUnnamed, "serves-no-more-than-it-names"),
    row(NamesUnserved, "serves-what-it-names"),
    row(RefusesUnknownFields, "ignores-unknown-fields"),
    row(NeedsItsOwnVersion, "takes-callers-of-any-version"),
    row(Unwell, "says-that-it-is-well"),
    row(AnotherNameEachLife, "instances-live-on"),
    row(EachResultTwice, "launches-what-it-is-asked-for"),
    row(
        LaunchesTwice,
        "launching-again-is-one",
        "launching-at-the-same-time-is-one",
        "another-spec-is-a-conflict",
        "a-bad-spec-is-refused-by-itself",
        why="all launch a known one again, and list",
    ),
    row(NotesTooLate, "a-crash-in-a-launch-loses-nothing"),
    row(Racing, "launching-at-the-same-time-is-one"),
    row(RefusesMixedCalls, "launching-again-with-another-is-fine"),
    row(TakesAnySpec, "another-spec-is-a-conflict", "knows-its-specs-after-a-crash", why="the second asks the same after a crash"),
    row(ForgetsSpecs, "knows-its-specs-after-a-crash"),
    row(ComparesTooMuch, "knows-what-is-no-part-of-a-spec"),
    row(LosesInstances, "instances-live-on", "knows-its-specs-after-a-crash", why="both list after a restart"),
    row(OneExternalId, "external-ids-differ"),
    row(ExternalIdsOfALife, "instances-live-on", "knows-its-specs-after-a-crash", why="both compare external ids of two lives"),
    row(AnyName, "a-bad-spec-is-refused-by-itself"),
    row(OneBadSpoilsAll, "a-bad-spec-is-refused-by-itself"),
    row(LeavesWhatFailed, "a-bad-spec-is-refused-by-itself"),
    row(TakesEmptyCalls, "a-bad-call-is-refused-whole"),
    row(
        ListsLate,
        "is-listed-when-launch-answers",
        "launching-again-is-one",
        "launching-at-the-same-time-is-one",
        "another-spec-is-a-conflict",
        "a-bad-spec-is-refused-by-itself",
        "clusters-are-apart",
        "an-end-touches-no-other-cluster",
        "lists-all",
        "pages-are-whole",
        "instances-live-on",
        "knows-its-specs-after-a-crash",
        "a-crash-in-a-launch-loses-nothing",
        why="all list right after a launch",
    ),
    row(
        LaunchWaits,
        "launching-does-not-wait",
        "answers-a-caller-in-a-hurry",
        why="a Launch that waits has no answer for a caller in a hurry",
    ),
    row(UnknownEndFails, "ending-the-unknown-is-fine", "ending-again-is-fine", why="what is gone is unknown to it"),
    row(NoEndResults, "ends-what-it-is-asked-for", "takes-a-full-batch", why="both count results"),
    row(
        EndsAtTheSecondCall,
        "ends-without-another-call",
        "a-watch-tells-what-pages-lack",
        "a-watch-goes-on-from-a-bookmark",
        "an-end-goes-on-after-a-crash",
        why="all wait for an end",
    ),
    row(TerminateWaits, "ending-does-not-wait"),
    row(ListsOthers, "clusters-are-apart"),
    row(EndsOthers, "an-end-touches-no-other-cluster"),
    row(ForgetsEnds, "an-end-goes-on-after-a-crash"),
    row(Invents, "lists-nothing-that-was-not-launched"),
    row(ListsAPart, "lists-all", "pages-are-whole", why="both list three"),
    row(IgnoresPageSize, "pages-are-whole"),
    row(TwiceOnPages, "pages-are-whole"),
    row(TakesAnyPageToken, "an-unknown-page-is-refused"),
    row(BookmarkOfEachPage, "pages-have-one-bookmark"),
    row(ListsTheGone, "the-gone-are-not-listed"),
    row(LateAtFirst, "a-watch-begins-at-once"),
    row(NoFirstBookmark, "a-watch-begins-at-once"),
    row(TellsNoPhase, "a-watch-tells-what-list-tells"),
    row(TellsNoEnd, "the-end-is-told", "a-watch-goes-on-from-a-bookmark", "a-death-is-told", why="all wait for GONE"),
    row(
        IgnoresBookmarks,
        "a-watch-goes-on-from-a-bookmark",
        "a-watch-tells-what-pages-lack",
        "an-unknown-bookmark-is-refused",
        "an-old-bookmark-is-refused-or-kept",
        why="all begin at a bookmark",
    ),
    row(
        TakesAnyBookmark,
        "an-unknown-bookmark-is-refused",
        "an-old-bookmark-is-refused-or-kept",
        why="the second asks with one of an earlier life",
    ),
    row(Mute, "an-idle-watch-says-something"),
    row(EndsQuietly, "a-watch-does-not-end"),
    row(TellsOneWatch, "every-watch-tells-everything"),
    row(DiesInSilence, "a-death-is-told"),
    row(TellsSecrets, "keeps-secrets"),
    row(ShowsSecrets, "keeps-secrets", "names-are-bounded", why="the second reads again what the first was told"),
    row(SmallRequests, "takes-a-request-of-4-mib"),
    row(SmallBatches, "takes-a-full-batch"),
    row(HugeAnswers, "takes-a-full-batch"),
    row(OneCallAtATime, "takes-calls-at-the-same-time"),
    row(FewThreads, "watches-hold-up-nobody"),
    row(NoExternalIdInWatches, "observations-are-whole"),
    row(MadeAsSomethingElse, "observations-are-whole"),
    row(GoesBack, "phases-do-not-go-back"),
    row(ChangesExternalIds, "external-ids-never-change"),
    row(ForgesLines, "names-are-bounded"),
)


class Served:
    """A mutant at a unix socket, which can be started again over the same machines: the subject of a run."""

    can_restart = True
    is_started = False

    def __init__(self, kind: type[Mutant], socket: Path) -> None:
        self.kind = kind
        self.address = f"unix://{socket}"
        self.peer = kind.__name__
        self.machines = FakeMachines(SystemClock(), delays_s={**DELAYS_S, **kind.delays_s})
        self._connection = Address(self.address, max_message_bytes=32 << 20)
        self._lives = itertools.count()

    async def start(self) -> None:
        self._is_stopped = False
        self._service = self.kind(self.machines, next(self._lives))
        self._server = grpc.aio.server(
            interceptors=[wire.ErrorInterceptor()],
            options=[("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", self.kind.request_bytes)],
        )
        add_to(self._server, self._service)
        servicer = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(servicer, self._server)
        await servicer.set("plugin", self.kind.health)
        self._server.add_insecure_port(self.address.replace("unix://", "unix:"))
        await self._server.start()

    async def stop(self) -> None:
        """Stop, once: gRPC's server does not bear two who stop it at the same time."""
        if self._is_stopped:
            return
        self._is_stopped = True
        await self._server.stop(0)
        await self._service.close()

    async def channel(self) -> grpc.aio.Channel:
        return await self._connection.channel()

    async def restart(self, how: How) -> float:
        await self.stop()
        await self.start()
        await self._connection.close()
        self._connection = Address(self.address, max_message_bytes=32 << 20)
        return 0.0

    async def close(self) -> None:
        await self._connection.close()

    async def kill(self, cluster: str, instance_id: str, external_id: str) -> None:
        self.machines.lose(instance_id)


@contextlib.asynccontextmanager
async def served(kind: type[Mutant], socket: Path) -> AsyncIterator[Served]:
    """Serve a mutant."""
    made = Served(kind, socket)
    await made.start()
    try:
        yield made
    finally:
        await made.close()
        await made.stop()
        await made.machines.close()
