"""Plugins that launch otherwise than they should."""

# ruff: noqa: N802, RUF012, ASYNC110 - methods are named as gRPC names them; what lives of a mutant share; machines tell nobody

import asyncio

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.errors import InvalidRequest
from rayscaler.model.instance import Phase
from rayscaler.plugin.service import ExecutorService
from tests.plugin.mutants.honest import SLOW_S, Edited, Mutant, Row, ToldOtherwise, row


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


class TellsNoReplica(Edited):
    def edit(self, seen, cluster):
        seen.ClearField("replica_id")
        seen.ClearField("replica_host")


class CountsHostsFromZeroAgain(Edited):
    """Knows after a restart which replica a host is of, and not which host it is."""

    def edit(self, seen, cluster):
        if self.life:
            seen.ClearField("replica_host")


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


ROWS: tuple[Row, ...] = (
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
    row(
        TellsNoReplica,
        "hosts-are-told-with-their-replica",
        "knows-its-replicas-after-a-crash",
        why="both compare what is told with what was launched",
    ),
    row(CountsHostsFromZeroAgain, "knows-its-replicas-after-a-crash"),
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
)
