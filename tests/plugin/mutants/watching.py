"""Plugins whose watches tell too little, too late, or what they were not asked for."""

# ruff: noqa: N802 - methods are named as gRPC names them; what lives of a mutant share; machines tell nobody

import asyncio
import contextlib
import itertools

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.errors import BookmarkExpired
from tests.plugin.mutants.honest import Edited, Mutant, Row, row


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


class Mute(Mutant):
    """Says nothing where nothing changes."""

    async def Watch(self, request, context):
        count = itertools.count()
        async for each in super().Watch(request, context):
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


class WatchesNoCluster(Mutant):
    async def Watch(self, request, context):
        request.cluster = request.cluster or "default"
        async for each in super().Watch(request, context):
            yield each


ROWS: tuple[Row, ...] = (
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
    row(WatchesNoCluster, "no-call-goes-without-a-cluster"),
)
