"""Plugins that end instances otherwise than they should."""

# ruff: noqa: N802, RUF012, ASYNC110 - methods are named as gRPC names them; what lives of a mutant share; machines tell nobody

import asyncio

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.model.instance import Phase
from tests.plugin.mutants.honest import SLOW_S, Mutant, Row, row


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
        there = self.keys(request.cluster)
        if all(each in self.asked or each not in there for each in request.instance_ids):
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


class ForgetsEnds(Mutant):
    """An end that was begun before a restart is not gone on with."""

    delays_s = {Phase.ENDING: 0.5}  # so that the restart comes before it is over

    def __init__(self, machines, life):
        super().__init__(machines, life)
        for machine in list(machines.machines.values()):
            if machine.phase is Phase.ENDING:
                machine.task.cancel()
                machine.phase = Phase.REGISTERING


class EndsOfNoCluster(Mutant):
    async def Terminate(self, request, context):
        request.cluster = request.cluster or "default"
        return await super().Terminate(request, context)


ROWS: tuple[Row, ...] = (
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
    row(EndsOfNoCluster, "no-call-goes-without-a-cluster"),
)
