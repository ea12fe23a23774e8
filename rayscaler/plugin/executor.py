"""PluginExecutor: the executor port over gRPC. Knows no plugin, and trusts none: what breaks a rule of SPEC has its name.

Calls that begin in one turn of the event loop go out as one; lists are read page by page; watches are taken up where they broke off.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TypeVar

from rayscaler import rejoin
from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.clock import Clock, SystemClock
from rayscaler.errors import BrokenPlugin, NotFound, RayscalerError, Unavailable, Unsupported
from rayscaler.executor.base import LaunchSpec
from rayscaler.model.instance import InstanceObservation, Phase
from rayscaler.model.resources import Resources
from rayscaler.model.scheduling import GangScheduler, WantedGroup
from rayscaler.plugin import convert
from rayscaler.plugin.coalesce import Coalesced
from rayscaler.plugin.connection import Connection
from rayscaler.plugin.ledger import Ledger
from rayscaler.plugin.session import PluginTimings, Session
from rayscaler.plugin.watching import Stream
from rayscaler.throttle import Pace, Throttle, Unpaced

REQUEST_BYTES = 3 << 20
"""Of specs in one call: plugins take 4 MiB, as gRPC does unless told otherwise (X39)."""
PAGE_SIZE = 1000
"""Asked for in a page."""
MAX_INSTANCES = 100_000
"""Of one cluster: who lists more is not believed."""
ANY_RATE = 1_000_000
"""Stands for no limit."""

T = TypeVar("T")


class PluginExecutor:
    """Launches and ends instances by way of a plugin. Several clusters may share one; none waits for another's."""

    def __init__(
        self,
        connection: Connection,
        *,
        timings: PluginTimings | None = None,
        clock: Clock | None = None,
        may_write: Callable[[], None] = lambda: None,
    ) -> None:
        """Take what raises before a call that begins or ends instances where such a call must not go out, as from one who leads no more."""
        self._may_write = may_write
        self._timings = timings or PluginTimings()
        self._session = Session(connection, self._timings)
        self._clock = clock or SystemClock()
        self._limited = _Limited()
        self.pace: Pace = self._limited
        self._launches = Coalesced(self._ready, self._send_launches, "launch")
        self._ends = Coalesced(self._ready, self._send_ends, "terminate")
        self._streams: dict[str, Stream] = {}
        self._ledgers: dict[str, Ledger] = {}
        self._introductions = 0
        self._supervisor = Path(rejoin.__file__).read_text(encoding="utf-8")

    async def launch(self, spec: LaunchSpec) -> str:
        """Have an instance begun, together with whatever else begins now."""
        return await self._launches.call(spec.cluster, spec.instance_id, convert.outgoing(spec))

    async def terminate(self, cluster: str, instance_id: str) -> None:
        """Have an instance ended, together with whatever else ends now."""
        with contextlib.suppress(NotFound):
            await self._ends.call(cluster, instance_id, instance_id)

    async def resize(self, cluster: str, instance_id: str, resources: Resources) -> None:
        """Have an instance resized; raises Unsupported where the plugin does not name that capability (X2)."""
        await self._ready(cluster)
        if pb.CAPABILITY_RESIZE not in (await self._session.who()).capabilities:
            raise Unsupported(f"{self._session.peer}: does not name CAPABILITY_RESIZE")
        self._may_write()
        request = pb.ResizeRequest(cluster=cluster, instance_id=instance_id, resources=resources.amounts)
        await self._session.call("Resize", request, pb.ResizeResponse)

    async def group(self, cluster: str, scheduler: GangScheduler, groups: Sequence[WantedGroup]) -> None:  # noqa: ARG002 - the form of an Executor
        """Refuse: executor/v1 has no groups."""
        raise Unsupported(
            f"{cluster}: {self._session.peer}: gangScheduling with {scheduler.value} is for workers that the service makes itself"
        )

    async def list(self, cluster: str) -> list[InstanceObservation]:
        """Tell every instance that the plugin lists; raises BrokenPlugin rather than tell what contradicts itself."""
        await self._ready(cluster)
        ledger, breaks = self._ledger(cluster), self._session.breaks
        promised = tuple(ledger.promised)
        try:
            async with asyncio.timeout(self._timings.call_s):
                present = [seen async for seen in self._pages(cluster)]
        except TimeoutError as error:
            raise Unavailable(f"{self._session.peer}: its pages have no end within {self._timings.call_s:g} s") from error
        if breaks != self._session.breaks:  # the channel finds whoever serves there next by itself, and that one may know of nothing
            raise Unavailable(f"{self._session.peer}: broke off while it was asked for its instances; another one may have answered")
        if lacking := ledger.lacking(promised, present):
            await asyncio.sleep(self._timings.gone_lag_s)  # what died meanwhile is told by the watch
            ledger.doubt(ledger.lacking(lacking, present))
        return ledger.listed(present)

    def watch(self, cluster: str) -> AsyncIterator[InstanceObservation]:
        """Yield each change that the plugin tells from this call on: calls made after it wait until the plugin watches."""
        stream = self._streams.get(cluster)
        if stream is None or stream.has_ended:
            ledger = self._ledger(cluster)
            ledger.forgive()
            stream = self._streams[cluster] = Stream(
                self._session, cluster, lambda told: ledger.seen(convert.observation_from(told, self._clock.now()))
            )
        return stream.read()

    async def close(self) -> None:
        """Let go of the plugin; whoever else runs it ends it."""
        await self._launches.close()
        await self._ends.close()
        for each in self._streams.values():
            each.task.cancel()
        await asyncio.gather(*(each.task for each in self._streams.values()), return_exceptions=True)
        await self._session.close()

    def _ledger(self, cluster: str) -> Ledger:
        return self._ledgers.setdefault(cluster, Ledger(self._session.peer))

    async def _ready(self, cluster: str) -> None:
        """Wait until the plugin has said who it is, and watches the cluster if anybody here does."""
        who = await self._session.who()
        if self._introductions != self._session.introductions:
            self._introductions = self._session.introductions
            self._limited.set(who.limits)
            for ledger in self._ledgers.values():
                ledger.forgive()
        stream = self._streams.get(cluster)
        if stream is not None:
            await stream.opened.wait()

    async def _send_launches(self, cluster: str, specs: Mapping[str, convert.Outgoing]) -> dict[str, str | RayscalerError]:
        who, peer, ledger = await self._session.who(), self._session.peer, self._ledger(cluster)

        async def send(ids: list[str]) -> dict[str, str | RayscalerError]:
            self._may_write()
            ledger.launching(specs[each].spec for each in ids)
            request = convert.launch_request(cluster, (specs[each] for each in ids), self._supervisor)
            answer = await self._session.call("Launch", request, pb.LaunchResponse)
            return convert.outcomes(answer.results, ids, peer)

        outcomes = await _in_parts(_parts(specs, who.batch, lambda made: made.size), send)
        return {key: ledger.answered(key, outcome) for key, outcome in outcomes.items()}

    async def _send_ends(self, cluster: str, ids: Mapping[str, str]) -> dict[str, RayscalerError | None]:
        who, peer, ledger = await self._session.who(), self._session.peer, self._ledger(cluster)

        async def send(ids: list[str]) -> dict[str, RayscalerError | None]:
            self._may_write()
            ledger.ending(ids)
            request = pb.TerminateRequest(cluster=cluster, instance_ids=ids)
            answer = await self._session.call("Terminate", request, pb.TerminateResponse)
            return convert.ends(answer.results, ids, peer)

        return await _in_parts(_parts(ids, who.batch, len), send)

    async def _pages(self, cluster: str) -> AsyncIterator[InstanceObservation]:
        request = pb.ListRequest(cluster=cluster, page_size=PAGE_SIZE)
        told, tokens, bookmark = set[str](), set[str](), ""
        while True:
            page = await self._session.call("List", request, pb.ListResponse)
            if not page.bookmark or (bookmark and page.bookmark != bookmark):
                raise BrokenPlugin(f"{self._session.peer}: X23: the bookmark of a page is missing, or another one than of the page before")
            bookmark = page.bookmark
            for each in page.observations:
                seen = convert.observation_from(each, self._clock.now())
                self._check_listed(seen, told)
                told.add(seen.instance_id)
                yield seen
            if not page.next_page_token:
                return
            if page.next_page_token in tokens or len(told) > MAX_INSTANCES:
                raise BrokenPlugin(f"{self._session.peer}: X22: its pages have no end")
            tokens.add(page.next_page_token)
            request.page_token = page.next_page_token

    def _check_listed(self, seen: InstanceObservation, told: set[str]) -> None:
        if seen.phase is Phase.GONE:
            raise BrokenPlugin(f"{self._session.peer}: X26: lists {seen.instance_id}, which it says is gone")
        if seen.instance_id in told:
            raise BrokenPlugin(f"{self._session.peer}: X22: lists {seen.instance_id} twice")


class _Limited:
    """The pace that a plugin asks for, once it has said so."""

    def __init__(self) -> None:
        self._limits = (0, 0)
        self._pace: Pace = Unpaced()

    def turn(self, of: str) -> AbstractAsyncContextManager[None]:
        """Wait for a turn."""
        return self._pace.turn(of)

    def set(self, limits: pb.CallLimits) -> None:
        """Keep to what the plugin bears now; turns under way end by the old rule."""
        wanted = (limits.per_second, limits.in_flight)
        if wanted != self._limits:
            self._limits = wanted
            self._pace = Throttle(per_second=wanted[0] or ANY_RATE, in_flight=wanted[1] or ANY_RATE) if any(wanted) else Unpaced()


def _parts(items: Mapping[str, T], most: int, size: Callable[[T], int]) -> Iterator[list[str]]:
    """Yield keys of as many items as go into one call."""
    part, left = list[str](), REQUEST_BYTES
    for key, item in items.items():
        left -= size(item)
        if part and (len(part) == most or left < 0):
            yield part
            part, left = [], REQUEST_BYTES - size(item)
        part.append(key)
    if part:
        yield part


async def _in_parts(
    parts: Iterable[list[str]], send: Callable[[list[str]], Awaitable[dict[str, T | RayscalerError]]]
) -> dict[str, T | RayscalerError]:
    """Send each part at once; one that fails whole fails for each of its own."""
    outcomes: dict[str, T | RayscalerError] = {}

    async def one(part: list[str]) -> None:
        try:
            outcomes.update(await send(part))
        except RayscalerError as error:
            outcomes.update(dict.fromkeys(part, error))

    async with asyncio.TaskGroup() as tasks:
        for part in parts:
            tasks.create_task(one(part), name=f"call for {len(part)}")
    return outcomes
