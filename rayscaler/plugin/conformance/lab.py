"""What checks work with: raw calls, specs of this run's own names, a budget of instances, and a memory of everything that was told.

Whatever was begun here is known before it is begun, and `clear` ends it.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import grpc.aio

from rayscaler import rejoin, wire
from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.api.executor.v1 import executor_pb2_grpc
from rayscaler.executor.base import LaunchSpec
from rayscaler.model.nodetype import NodeType
from rayscaler.plugin import convert
from rayscaler.plugin.conformance.check import Breach, Patience, Skipped
from rayscaler.plugin.conformance.reading import Reading
from rayscaler.plugin.conformance.subject import Subject

MOST_PAGES = 1000
"""More than any list of a test has; a plugin whose pages do not end is told so."""
PAUSE_S = 0.05
"""Before the second look, or the second try; twice as long each time, LONGEST_S at most."""
LONGEST_S = 2.0
AGAIN = ("BUSY", "UNAVAILABLE")
"""What a caller tries again."""
Kill = Callable[[str, str, str], Awaitable[None]]
"""Ends an instance from outside, by cluster, instance_id and external_id."""


class Refused(Exception):
    """A call that failed whole."""

    def __init__(self, method: str, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code()
        self.text = error.details() or ""
        super().__init__(f"{method} failed with {self.code.name}: {self.text[:300]}")


@dataclass(frozen=True)
class Told:
    """An observation as it came: by `stream` (0: a list), asked for at `began`, there at `at`, monotonic seconds."""

    cluster: str
    stream: int
    began: float
    at: float
    observation: pb.Observation


@dataclass
class Lab:
    """One run against one plugin; `token` makes its names its own."""

    subject: Subject
    token: str
    node_type: NodeType
    head_address: str = "192.0.2.1:6379"
    max_instances: int = 4
    patience: Patience = field(default_factory=Patience)
    kill: Kill | None = None
    told: list[Told] = field(default_factory=list)
    alive: set[tuple[str, str]] = field(default_factory=set)
    """What may be alive of what was begun here."""
    most_alive: int = 0
    last_results: list[str] = field(default_factory=list)
    """The instance_ids of the results of the last Launch, each as often as it stood there."""
    _names: int = 0
    _streams: int = 0
    _supervisor: str = field(default_factory=lambda: Path(rejoin.__file__).read_text(encoding="utf-8"))

    @property
    def cluster(self) -> str:
        """The cluster that most checks use."""
        return self.token

    @property
    def other(self) -> str:
        """Another cluster."""
        return f"{self.token}-b"

    def new_id(self) -> str:
        """Return an instance_id that was not used yet."""
        self._names += 1
        return f"{self.token}-{self._names}"

    def spec(self, instance_id: str = "") -> pb.LaunchSpec:
        """Return a spec as rayscaler makes it; always the same for the same id."""
        return convert.launch_spec(LaunchSpec(self.cluster, instance_id or self.new_id(), self.node_type, self.head_address))

    def hosts(self, count: int) -> list[pb.LaunchSpec]:
        """Return the specs of all hosts of a replica that was not used yet, as rayscaler makes them."""
        node_type, replica = replace(self.node_type, hosts_per_replica=count), self.new_id()
        specs = [LaunchSpec(self.cluster, self.new_id(), node_type, self.head_address, replica, host) for host in range(count)]
        return [convert.launch_spec(each) for each in specs]

    def request(self, *specs: pb.LaunchSpec, cluster: str | None = None) -> pb.LaunchRequest:
        """Return a request for them."""
        return pb.LaunchRequest(cluster=self.cluster if cluster is None else cluster, specs=specs, supervisor=self._supervisor)

    async def call(self, method: str, request: Any, timeout_s: float | None = None) -> Any:
        """Call once; raises Refused, and Breach for an answer that nobody takes."""
        stub = executor_pb2_grpc.ExecutorServiceStub(await self.subject.channel())
        try:
            return await getattr(stub, method)(request, timeout=timeout_s or self.patience.call_s)
        except grpc.aio.AioRpcError as error:
            if wire.TOO_LARGE in (error.details() or "") and "Received" in (error.details() or ""):
                raise Breach("X39", f"its answer to {method} is larger than a caller takes: {error.details()}") from error
            raise Refused(method, error) from error

    async def launch(self, request: pb.LaunchRequest, timeout_s: float | None = None) -> dict[str, pb.LaunchResult]:
        """Call Launch once, within the budget; return the results by instance_id."""
        keys = {(request.cluster, each.instance_id) for each in request.specs}
        if len(self.alive | keys) > self.max_instances:
            raise Skipped(f"needs {len(keys)} more instances, and of {self.max_instances} there are {len(self.alive)} not gone yet")
        new = keys - self.alive
        self.alive |= keys
        self.most_alive = max(self.most_alive, len(self.alive))
        answer = await self.call("Launch", request, timeout_s)
        self.last_results = sorted(each.instance_id for each in answer.results)
        results = {each.instance_id: each for each in answer.results}
        failed = {key for key in new if results.get(key[1], pb.LaunchResult()).WhichOneof("outcome") == "error"}
        self.alive -= {key for key in failed if results[key[1]].error.reason not in AGAIN}
        return results

    async def begin(self, *specs: pb.LaunchSpec, cluster: str | None = None) -> list[str]:
        """Launch good specs, again where a caller would; return the external ids in the same order."""
        left = {each.instance_id: each for each in specs}
        found: dict[str, str] = {}
        async for _ in self.moments(self.patience.call_s):
            for key, result in (await self.launch(self.request(*left.values(), cluster=cluster))).items():
                if result.WhichOneof("outcome") != "error":
                    found[key] = result.external_id
                    left.pop(key, None)
                elif result.error.reason not in AGAIN:
                    raise Breach("", f"a spec that should be good was refused: {result.error.reason}: {result.error.message}")
            if not left:
                break
        if left:
            raise Breach("", f"Launch did not begin {', '.join(left)} within {self.patience.call_s:g} s")
        return [found[each.instance_id] for each in specs]

    async def terminate(self, *instance_ids: str, cluster: str | None = None) -> pb.TerminateResponse:
        """Call Terminate once."""
        request = pb.TerminateRequest(cluster=self.cluster if cluster is None else cluster, instance_ids=instance_ids)
        answer: pb.TerminateResponse = await self.call("Terminate", request)
        return answer

    async def end(self, *instance_ids: str) -> None:
        """Terminate, again where a caller would, until it has succeeded for each."""
        left = list(instance_ids)
        async for _ in self.moments(self.patience.call_s):
            answer = await self.terminate(*left)
            failed = {each.instance_id: each.error for each in answer.results if each.HasField("error")}
            wrong = [
                f"{key}: {error.reason}: {error.message}" for key, error in failed.items() if error.reason not in (*AGAIN, "NOT_FOUND")
            ]
            if wrong:
                raise Breach("X17", f"Terminate failed: {'; '.join(wrong)}")
            left = [key for key, error in failed.items() if error.reason != "NOT_FOUND"]
            if not left:
                return
        raise Breach("", f"Terminate did not begin the end of {', '.join(left)} within {self.patience.call_s:g} s")

    async def page(self, size: int = 0, token: str = "", cluster: str | None = None) -> pb.ListResponse:
        """Return one page, and remember what it told."""
        cluster = self.cluster if cluster is None else cluster
        began = time.monotonic()
        answer: pb.ListResponse = await self.call("List", pb.ListRequest(cluster=cluster, page_size=size, page_token=token))
        self.told.extend(Told(cluster, 0, began, time.monotonic(), each) for each in answer.observations)
        return answer

    async def pages(self, size: int = 0, cluster: str | None = None) -> list[pb.ListResponse]:
        """Return all pages; raises Breach where they do not end."""
        found = [await self.page(size, cluster=cluster)]
        while found[-1].next_page_token:
            if len(found) == MOST_PAGES:
                raise Breach("X22", f"the pages of a list do not end: {MOST_PAGES} were read")
            found.append(await self.page(size, found[-1].next_page_token, cluster))
        return found

    async def listed(self, cluster: str | None = None) -> dict[str, pb.Observation]:
        """Return what is listed, by instance_id."""
        return {each.instance_id: each for page in await self.pages(cluster=cluster) for each in page.observations}

    async def until_gone(self, *instance_ids: str) -> bool:
        """Wait until none is listed, or told as gone where GONE is listed against the rule; return whether that came."""
        async for _ in self.moments(self.patience.end_s):
            there = await self.listed()
            if not any(key in there and there[key].phase != pb.PHASE_GONE for key in instance_ids):
                return True
        return False

    @contextlib.asynccontextmanager
    async def watch(self, bookmark: str = "", cluster: str | None = None) -> AsyncIterator[Reading]:
        """Watch, from the first message on: that it comes at once is for one check to say."""
        cluster = self.cluster if cluster is None else cluster
        self._streams += 1
        stream = self._streams

        def remember(message: pb.WatchResponse, began: float) -> None:
            if message.HasField("observation"):
                self.told.append(Told(cluster, stream, began, time.monotonic(), message.observation))

        stub: Any = executor_pb2_grpc.ExecutorServiceStub(await self.subject.channel())
        reading = Reading(stub.Watch(pb.WatchRequest(cluster=cluster, bookmark=bookmark)), remember, lambda error: Refused("Watch", error))
        try:
            await reading.first(2 * self.patience.first_s)
            yield reading
        finally:
            await reading.close()

    async def moments(self, within_s: float) -> AsyncIterator[None]:
        """Yield at once, then with longer and longer pauses, until the time is over."""
        ends, pause_s = time.monotonic() + within_s, PAUSE_S
        while True:
            yield
            left_s = ends - time.monotonic()
            if left_s <= 0:
                return
            await asyncio.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, LONGEST_S)

    async def answers(self) -> bool:
        """Whether anybody answers, be it with an error: without, no check has anything to say."""
        async for _ in self.moments(self.patience.introduce_s):
            with contextlib.suppress(Breach):
                try:
                    await self.call("Probe", pb.ProbeRequest(), self.patience.introduce_s)
                except Refused as refused:
                    if refused.code is grpc.StatusCode.UNAVAILABLE:
                        continue
                return True
        return False

    async def clear(self) -> None:
        """End everything that was begun; what is not gone in time stays in `alive`."""
        async for _ in self.moments(self.patience.end_s):
            for cluster in sorted({cluster for cluster, _ in self.alive}):
                with contextlib.suppress(Refused, Breach):
                    await self._clear(cluster)
            if not self.alive:
                return

    async def sweep(self) -> None:
        """End also what was begun after nobody waited for it any more: all that has a name of this run."""
        for cluster in (self.cluster, self.other):
            with contextlib.suppress(Refused, Breach):
                self.alive |= {(cluster, key) for key in await self.listed(cluster) if key.startswith(f"{self.token}-")}
        await self.clear()

    async def _clear(self, cluster: str) -> None:
        mine = sorted(key for owner, key in self.alive if owner == cluster)
        try:
            await self.terminate(*mine, cluster=cluster)
        except Refused:  # perhaps for one of them, whose name is none
            for each in mine:
                with contextlib.suppress(Refused):
                    await self.terminate(each, cluster=cluster)
        try:
            there = await self.listed(cluster)
        except Refused as refused:
            if refused.code is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            there = {}  # of a cluster that can have no instances
        self.alive -= {(cluster, key) for key in mine if key not in there or there[key].phase == pb.PHASE_GONE}
