"""Plugins whose lists are not what there is."""

# ruff: noqa: N802, RUF012 - methods are named as gRPC names them; what lives of a mutant share; machines tell nobody

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.errors import BookmarkExpired
from tests.plugin.mutants.honest import Mutant, Row, row


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


class ListsOfNoCluster(Mutant):
    async def List(self, request, context):
        request.cluster = request.cluster or "default"
        return await super().List(request, context)


ROWS: tuple[Row, ...] = (
    row(Invents, "lists-nothing-that-was-not-launched"),
    row(ListsAPart, "lists-all", "pages-are-whole", why="both list three"),
    row(IgnoresPageSize, "pages-are-whole"),
    row(TwiceOnPages, "pages-are-whole"),
    row(TakesAnyPageToken, "an-unknown-page-is-refused"),
    row(BookmarkOfEachPage, "pages-have-one-bookmark"),
    row(ListsTheGone, "the-gone-are-not-listed"),
    row(ListsOfNoCluster, "no-call-goes-without-a-cluster"),
)
