"""One stream of changes per cluster for all who watch it here: taken up again from its last bookmark when it breaks off."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from weakref import WeakSet

import structlog

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.errors import BrokenPlugin, RayscalerError, Retry, Unavailable
from rayscaler.executor.feed import Reader
from rayscaler.model.instance import InstanceObservation
from rayscaler.plugin import convert
from rayscaler.plugin.session import Session

log = structlog.get_logger(__name__)

PAUSES_S = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Between tries to take up a stream; the last again and again."""


class Stream:
    """A cluster's changes, from its making on, while anybody reads. `take` makes an observation of each, and raises where it is a lie."""

    def __init__(self, session: Session, cluster: str, take: Callable[[pb.Observation], InstanceObservation]) -> None:
        self.opened = asyncio.Event()
        """Set once the plugin tells of everything that happens from then on, and when it never will."""
        self.has_ended = False
        self._session = session
        self._cluster = cluster
        self._take = take
        self._readers: WeakSet[Reader] = WeakSet()
        self._bookmark = ""
        self.task = asyncio.create_task(self._run(), name=f"watch of {cluster} at {session.peer}")

    def read(self) -> AsyncIterator[InstanceObservation]:
        """Return what is told from now on."""
        reader = Reader()
        self._readers.add(reader)
        return reader

    async def _run(self) -> None:
        try:
            await self._follow()
        except RayscalerError as error:
            self._tell([error])
        except Exception as error:  # noqa: BLE001 - told to whoever reads, who would wait for ever otherwise
            self._tell([Unavailable(f"{self._session.peer}: its watch cannot be read: {type(error).__name__}: {error}")])
        finally:
            self.has_ended = True
            self.opened.set()

    async def _follow(self) -> None:
        """Read until nobody reads along; raises what ends it."""
        tries, loop = 0, asyncio.get_running_loop()
        broke_at: float | None = None
        while True:
            before = self._bookmark
            try:
                if not await self._read():
                    return
                raise Unavailable(f"{self._session.peer}: X34: its watch ended without an error")
            except RayscalerError as error:
                if error.retry is not Retry.BACKOFF or isinstance(error, BrokenPlugin) or not self._bookmark:
                    raise
                now = loop.time()
                if broke_at is None or self._bookmark != before:
                    broke_at, tries = now, 0
                    log.info("plugin.watch.resumes", peer=self._session.peer, cluster=self._cluster, error=str(error))
                elif now - broke_at > self._session.timings.resume_s:
                    raise
            await asyncio.sleep(PAUSES_S[min(tries, len(PAUSES_S) - 1)])
            tries += 1

    async def _read(self) -> bool:
        """Read one stream to its end; return False when nobody reads along any more."""
        request = pb.WatchRequest(cluster=self._cluster, bookmark=self._bookmark)
        async with contextlib.aclosing(self._session.stream("Watch", request, pb.WatchResponse)) as stream:
            async for told in stream:
                self._bookmark = told.bookmark or self._bookmark
                if not self._bookmark:
                    raise BrokenPlugin(f"{self._session.peer}: X28: its watch began without a bookmark")
                self.opened.set()
                self._tell(map(self._take, convert.changes(told)))
                if not self._readers:
                    return False
        return True

    def _tell(self, told: Iterable[InstanceObservation | RayscalerError]) -> None:
        """Tell one after the other: what comes before a lie is told."""
        readers = tuple(self._readers)
        for each in told:
            for reader in readers:
                reader.tell(each)
