"""ExecutorService over an Executor: what a plugin in Python answers. Knows neither sockets nor processes."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc

from rayscaler import __version__, wire
from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.api.executor.v1 import executor_pb2_grpc
from rayscaler.errors import BookmarkExpired, Busy, RayscalerError, Unavailable, Unsupported
from rayscaler.executor.base import Executor, LaunchSpec
from rayscaler.model.instance import InstanceObservation
from rayscaler.model.resources import Resources
from rayscaler.plugin import convert
from rayscaler.plugin.convert import MAX_BATCH, VERSION
from rayscaler.plugin.history import History
from rayscaler.rules import Rules

SERVICE = pb.DESCRIPTOR.services_by_name["ExecutorService"].full_name
BEAT_S = 5.0
"""A watch says something at least so often; 10 s are allowed (X32)."""
MAX_PAGE = 1000
"""Instances of one page."""
PAGE_BYTES = 2 << 20
"""A page is full at so much: half of what gRPC takes by default."""
MARGIN = 0.1
"""The part of a call's time that is kept for its answer, one second at most."""


@dataclass(frozen=True)
class Limits:
    """How many calls the plugin bears; 0: any number."""

    per_second: int = 0
    in_flight: int = 0
    batch: int = 0


class ExecutorService(executor_pb2_grpc.ExecutorServiceServicer):
    """Answers for one executor. Errors of ours leave as statuses by `wire.ErrorInterceptor`."""

    at_once = MAX_BATCH
    """Changes of a watch that are told in one message at most: as many as a call begins."""

    def __init__(self, executor: Executor, *, name: str, version: str = __version__, limits: Limits | None = None) -> None:
        self._executor = executor
        self._info = pb.GetInfoResponse(name=name, version=version, protocol_version=VERSION)
        self._limits = limits or Limits()
        self._life = uuid.uuid4().hex[:12]
        self._histories: dict[str, History] = {}
        self._begun = 0
        self._resize: Callable[[str, str, Resources], Awaitable[None]] | None = getattr(executor, "resize", None)
        """None where it was written before the port had that."""

    async def GetInfo(self, request: pb.GetInfoRequest, context: Any) -> pb.GetInfoResponse:  # noqa: ARG002, N802 - gRPC's form
        """Say who this is."""
        return self._info

    async def GetCapabilities(self, request: pb.GetCapabilitiesRequest, context: Any) -> pb.GetCapabilitiesResponse:  # noqa: ARG002, N802 - gRPC's form
        """Say what this can besides what all can, and what it bears."""
        limits = self._limits
        return pb.GetCapabilitiesResponse(
            capabilities=[pb.CAPABILITY_RESIZE] if self._resize is not None else [],
            limits=pb.CallLimits(per_second=limits.per_second, in_flight=limits.in_flight, batch=limits.batch),
        )

    async def Probe(self, request: pb.ProbeRequest, context: Any) -> pb.ProbeResponse:  # noqa: ARG002, N802 - gRPC's form
        """Say that this is ready: an executor of ours is from its beginning, or answers Unavailable."""
        return pb.ProbeResponse()

    async def Launch(self, request: pb.LaunchRequest, context: Any) -> pb.LaunchResponse:  # noqa: N802 - gRPC's form
        """Begin instances, each by itself."""
        rules = Rules()
        cluster = rules.name("cluster", request.cluster, required=True)
        _check_batch(rules, "specs", [each.instance_id for each in request.specs])
        rules.check()
        specs = {each.instance_id: each for each in request.specs}

        async def launch(instance_id: str, turn: Callable[[], None]) -> str:
            rules = Rules()
            spec = convert.spec_from(rules, "spec", cluster, specs[instance_id])
            rules.check()
            return await self._launch(spec, turn)

        found = await _each(list(specs), launch, context, "Launch")
        return pb.LaunchResponse(
            results=[
                pb.LaunchResult(instance_id=key, external_id=outcome)
                if isinstance(outcome, str)
                else pb.LaunchResult(instance_id=key, error=outcome)
                for key, outcome in found.items()
            ]
        )

    async def Terminate(self, request: pb.TerminateRequest, context: Any) -> pb.TerminateResponse:  # noqa: N802 - gRPC's form
        """Begin ends, each by itself."""
        rules = Rules()
        cluster = rules.name("cluster", request.cluster, required=True)
        _check_batch(rules, "instance_ids", request.instance_ids)
        rules.check()

        async def terminate(instance_id: str, turn: Callable[[], None]) -> str:
            async with self._executor.pace.turn(cluster):
                turn()
                await self._executor.terminate(cluster, instance_id)
            return ""

        found = await _each(list(request.instance_ids), terminate, context, "Terminate")
        return pb.TerminateResponse(
            results=[
                pb.TerminateResult(instance_id=key, error=None if isinstance(outcome, str) else outcome) for key, outcome in found.items()
            ]
        )

    async def Resize(self, request: pb.ResizeRequest, context: Any) -> pb.ResizeResponse:  # noqa: ARG002, N802 - gRPC's form
        """Begin to give an instance another size."""
        if self._resize is None:
            raise Unsupported("this plugin does not name CAPABILITY_RESIZE")
        rules = Rules()
        cluster = rules.name("cluster", request.cluster, required=True)
        rules.need("instance_id", convert.is_instance_id(request.instance_id), "must be letters, digits, '-', '_' and '.', at most 128")
        rules.need("resources", bool(request.resources), "is required")
        resources = convert.amounts(rules, "resources", request.resources)
        rules.check()
        async with self._executor.pace.turn(cluster):
            await self._resize(cluster, request.instance_id, resources)
        return pb.ResizeResponse()

    async def List(self, request: pb.ListRequest, context: Any) -> pb.ListResponse:  # noqa: ARG002, N802 - gRPC's form
        """Tell a page, in the order of instance ids: what is new behind the reader, the watch from the bookmark tells."""
        rules = Rules()
        cluster = rules.name("cluster", request.cluster, required=True)
        rules.natural("page_size", request.page_size)
        rules.check()
        history = self._history(cluster)
        bookmark, _, after = request.page_token.partition("/") if request.page_token else (history.bookmark(history.place), "", "")
        try:
            history.place_of(bookmark)
        except BookmarkExpired as error:
            raise BookmarkExpired("page_token: is not known here any more; list again") from error
        seen = [each for each in await self._executor.list(cluster) if each.instance_id > after]
        return _page(sorted(seen, key=lambda each: each.instance_id), min(request.page_size or MAX_PAGE, MAX_PAGE), bookmark)

    async def Watch(self, request: pb.WatchRequest, context: Any) -> AsyncIterator[pb.WatchResponse]:  # noqa: ARG002, N802 - gRPC's form
        """Tell changes, and where one stands, until the caller hangs up."""
        rules = Rules()
        cluster = rules.name("cluster", request.cluster, required=True)
        rules.check()
        history = self._history(cluster)
        place = history.place_of(request.bookmark) if request.bookmark else history.place
        yield pb.WatchResponse(bookmark=history.bookmark(place))
        async for seen, after in history.after(place, beat_s=BEAT_S, at_once=self.at_once):
            for message, left in _messages(seen):
                message.bookmark = history.bookmark(after - left)
                yield message

    async def close(self) -> None:
        """Follow nothing any more; the executor stays its owner's."""
        for each in self._histories.values():
            await each.close()
        self._histories.clear()

    async def _launch(self, spec: LaunchSpec, turn: Callable[[], None]) -> str:
        async with self._executor.pace.turn(spec.cluster):
            turn()
            return await self._executor.launch(spec)

    def _history(self, cluster: str) -> History:
        """Return what is followed of a cluster; one that has ended is begun anew, and its bookmarks are expired."""
        found = self._histories.get(cluster)
        if found is None or found.has_ended:
            self._begun += 1
            found = self._histories[cluster] = History(self._executor, cluster, f"{self._life}.{self._begun}")
        return found


def _check_batch(rules: Rules, path: str, ids: Iterable[str]) -> None:
    found = list(ids)
    rules.need(path, 0 < len(found) <= MAX_BATCH, f"{len(found)} are not from 1 to {MAX_BATCH}")
    rules.need(path, len(set(found)) == len(found), "one stands there twice")


async def _each(
    ids: list[str], call: Callable[[str, Callable[[], None]], Awaitable[str]], context: Any, method: str
) -> dict[str, str | pb.Error]:
    """Call for each at once; what has no outcome shortly before the caller hangs up is told so, and the others' outcomes are not lost."""
    found: dict[str, str | pb.Error] = {}
    turned: set[str] = set()

    async def one(instance_id: str) -> None:
        try:
            found[instance_id] = await call(instance_id, lambda: turned.add(instance_id))
        except RayscalerError as error:
            found[instance_id] = convert.error(error)
        except Exception as error:  # noqa: BLE001 - a bug with one instance, which is told so, and is none of the others'
            found[instance_id] = pb.Error(reason="INTERNAL", message=wire.bug(method, error))

    left_s = context.time_remaining()
    tasks = [asyncio.create_task(one(each), name=f"{method} {each}") for each in ids]
    try:
        await asyncio.wait(tasks, timeout=None if left_s is None else left_s - min(1.0, left_s * MARGIN))
    finally:
        unended = [task for task in tasks if task.cancel()]
        await asyncio.gather(*unended, return_exceptions=True)
    late = Unavailable("no outcome in the time that the caller gave; it may have begun")
    waiting = Busy("its turn did not come in the time that the caller gave; nothing was begun")
    return {each: found[each] if each in found else convert.error(late if each in turned else waiting) for each in ids}


def _page(seen: list[InstanceObservation], size: int, bookmark: str) -> pb.ListResponse:
    """Return as many as a page holds, at least one."""
    page = pb.ListResponse(bookmark=bookmark)
    bytes_left = PAGE_BYTES
    for each in seen:
        told = convert.observation(each)
        bytes_left -= told.ByteSize()
        if page.observations and (len(page.observations) == size or bytes_left < 0):
            page.next_page_token = f"{bookmark}/{page.observations[-1].instance_id}"
            break
        page.observations.append(told)
    return page


def _messages(seen: list[InstanceObservation]) -> Iterator[tuple[pb.WatchResponse, int]]:
    """Yield messages that tell the changes, at least one, each with how many come after it."""
    message, bytes_left = pb.WatchResponse(), PAGE_BYTES
    for index, each in enumerate(seen):
        told = message.further.add() if message.HasField("observation") else message.observation
        convert.tell(told, each)
        size = told.ByteSize()
        bytes_left -= size
        if bytes_left < 0 and message.further:
            after = pb.WatchResponse(observation=told)
            del message.further[-1]
            yield message, len(seen) - index
            message, bytes_left = after, PAGE_BYTES - size
    yield message, 0


def add_to(server: grpc.aio.Server, service: ExecutorService) -> None:
    """Have a server serve it."""
    executor_pb2_grpc.add_ExecutorServiceServicer_to_server(service, server)
