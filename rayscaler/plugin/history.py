"""What one cluster's instances did lately, each change with a place of its own, so that a watch can go on where it broke off."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from rayscaler.errors import BookmarkExpired, RayscalerError, Unavailable
from rayscaler.executor.base import Executor
from rayscaler.model.instance import InstanceObservation
from rayscaler.tasks import News

KEPT = 10_000
"""Changes remembered, at least: some seconds of a cluster that grows as fast as it can, days of one that rests."""
GATHER_S = 0.05
"""From one message to the next, if a message holds all there is: of a burst each change comes some milliseconds after the one before. A change
that comes alone is told at once."""


class History:
    """Follows an executor's watch of a cluster from now on. `epoch` tells its places from those of all other histories.

    It ends with the watch: then every reader is told why, and nothing more comes.
    """

    def __init__(self, executor: Executor, cluster: str, epoch: str) -> None:
        self._epoch = epoch
        self._told: list[InstanceObservation] = []
        self._dropped = 0  # changes before the first one remembered
        self._changed = News()
        self._error: RayscalerError | None = None
        self._task = asyncio.create_task(self._follow(executor.watch(cluster)), name=f"history of {cluster}")

    @property
    def has_ended(self) -> bool:
        """Whether nothing more comes."""
        return self._error is not None

    @property
    def place(self) -> int:
        """The place after the last change."""
        return self._dropped + len(self._told)

    def bookmark(self, place: int) -> str:
        """Return how a place is called by others."""
        return f"{self._epoch}-{place}"

    def place_of(self, bookmark: str) -> int:
        """Return a bookmark's place; raises BookmarkExpired where what followed is not known, or never was here."""
        epoch, _, number = bookmark.rpartition("-")
        if epoch != self._epoch or not number.isascii() or not number.isdecimal() or not self._dropped <= int(number) <= self.place:
            raise BookmarkExpired(f"bookmark: {bookmark[:64]!r}: what came after it is not known here any more; list again")
        return int(number)

    async def after(self, place: int, *, beat_s: float, at_once: int) -> AsyncIterator[tuple[list[InstanceObservation], int]]:
        """Yield the changes after the place, `at_once` at most, and the place after them; none where nothing came for `beat_s`.

        Ends only with an error.
        """
        loop = asyncio.get_running_loop()
        next_at = loop.time()
        while True:
            if place < self._dropped:
                raise BookmarkExpired("this watch is read too slowly; list again")
            if place < self.place and (rest_s := next_at - loop.time()) > 0 and self.place - place < at_once:
                await asyncio.sleep(rest_s)
            elif place < self.place:
                first = place - self._dropped
                seen = self._told[first : first + at_once]
                place += len(seen)
                yield seen, place
                next_at = loop.time() + GATHER_S
            elif self._error is not None:
                raise self._error
            elif not await self._comes(beat_s):
                yield [], place

    async def close(self) -> None:
        """Follow no more."""
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def _comes(self, within_s: float) -> bool:
        """Wait for a change."""
        try:
            async with asyncio.timeout(within_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    async def _follow(self, watch: AsyncIterator[InstanceObservation]) -> None:
        try:
            async for seen in watch:
                self._told.append(seen)
                if len(self._told) > 2 * KEPT:
                    del self._told[:KEPT]
                    self._dropped += KEPT
                self._changed.tell()
            self._error = Unavailable("the executor's watch ended")
        except RayscalerError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - an author's bug ends this history, with its name, and not the server
            self._error = Unavailable(f"the executor's watch failed with {type(error).__name__}: {error}")
        self._changed.tell()
