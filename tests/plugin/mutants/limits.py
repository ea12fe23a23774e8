"""Plugins that bear too little, and that tell what nobody should read."""

# ruff: noqa: N802, ASYNC110 - methods are named as gRPC names them; what lives of a mutant share; machines tell nobody

import asyncio

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.errors import InvalidRequest, Unavailable
from tests.plugin.mutants.honest import Edited, Mutant, Row, ToldOtherwise, row


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


ROWS: tuple[Row, ...] = (
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
