"""Both doors under any bytes, over a real socket: a served plugin refuses what it cannot take, and a PluginExecutor what it cannot believe."""

import asyncio
import contextlib
import shutil
import tempfile
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given
from hypothesis import strategies as st

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.clock import SystemClock
from rayscaler.errors import RayscalerError
from rayscaler.executor.base import LaunchSpec
from rayscaler.model.instance import InstanceObservation
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.plugin import convert
from rayscaler.plugin.executor import PluginExecutor
from rayscaler.plugin.serve import PluginServer
from rayscaler.plugin.session import PATH, PluginTimings
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines
from tests.counts import counted
from tests.plugin.door import dialled
from tests.plugin.fuzz import FULL, GATE, IDS, METHODS, SERVICE, Rogue, data, examples, refusals

pytestmark = pytest.mark.tier("property")

T = TypeVar("T")

MANY = counted(gate=GATE, full=FULL)
HASTY = PluginTimings(call_s=5.0, introduce_s=5.0, quiet_s=0.1, resume_s=0.05, gone_lag_s=0.0)
"""What only hangs is not drawn, and these are deadlines of hanging; a watch is given up soon."""
WATCHED_S = 10.0
"""Deadline of the end of a watch."""
CLEAN = {"INVALID_ARGUMENT", "NOT_FOUND", "OUT_OF_RANGE", "UNIMPLEMENTED"}
"""What a good plugin may say to anything; INTERNAL would be a bug of it."""
INFO = pb.GetInfoResponse(name="rogue.example.com", version="1", protocol_version=1).SerializeToString()


class Loop:
    """A loop for all examples of a property, that notes what nobody would have heard of."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self.unheard: list[dict[str, Any]] = []
        self._runner.get_loop().set_exception_handler(lambda _, context: self.unheard.append(context))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run one thing to its end."""
        return self._runner.run(work)

    def close(self) -> None:
        """End the loop."""
        self._runner.close()
        assert self.unheard == []


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    made = Loop()
    yield made
    made.close()


@contextlib.contextmanager
def directory() -> Iterator[Path]:
    made = Path(tempfile.mkdtemp(prefix="p-"))  # pytest's own leave no room for a socket's path
    yield made
    shutil.rmtree(made)


@pytest.fixture(scope="module")
def served(loop) -> Iterator[grpc.aio.Channel]:
    """A channel to a plugin in Python."""

    async def begin(socket: str) -> tuple[PluginServer, grpc.aio.Channel]:
        server = PluginServer(FakeExecutor(machines), name="fuzzed.example.com")
        await server.start(socket)
        return server, grpc.aio.insecure_channel(socket)

    async def end(server: PluginServer, channel: grpc.aio.Channel) -> None:
        await channel.close()
        await server.stop()
        await machines.close()

    machines = FakeMachines(SystemClock())
    with directory() as base:
        server, channel = loop.run(begin(f"unix:{base / 's'}"))
        yield channel
        loop.run(end(server, channel))


@pytest.fixture(scope="module")
def rogue(loop) -> Iterator[tuple[Rogue, Path]]:
    """A plugin that says what it is told to, and its socket."""

    async def begin(socket: Path) -> grpc.aio.Server:
        server = grpc.aio.server(handlers=[made])
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        return server

    made = Rogue()
    with directory() as base:
        server = loop.run(begin(base / "s"))
        yield made, base / "s"
        loop.run(server.stop(None))


@pytest.mark.parametrize("method", METHODS)
def test_a_plugin_answers_any_request_or_refuses_it(method, loop, served):
    known = SERVICE.methods_by_name[method]
    reply = GetMessageClass(known.output_type)

    async def ask(request: bytes) -> None:
        try:
            if known.server_streaming:
                call = served.unary_stream(f"{PATH}/{method}")(request, timeout=20.0)
                told = await call.read()
                call.cancel()
            else:
                told = await served.unary_unary(f"{PATH}/{method}")(request, timeout=20.0)
        except grpc.aio.AioRpcError as refused:
            assert refused.code().name in CLEAN, refused  # noqa: PT017 - whether it is refused is what is drawn
            return
        assert reply.FromString(told).ByteSize() == len(told)
        assert b"INTERNAL" not in told

    @examples(30 * MANY)
    @given(data(known.input_type))
    def any_request(request: bytes) -> None:
        loop.run(ask(request))

    any_request()


SEEN = st.builds(
    pb.Observation,
    instance_id=st.sampled_from(IDS),
    node_type=st.just("small"),
    external_id=st.sampled_from("xy"),
    phase=st.sampled_from(sorted(convert.PHASES)),
)
LIKELY = {
    "Launch": st.sampled_from("xy").map(lambda name: pb.LaunchResponse(results=[pb.LaunchResult(instance_id=IDS[0], external_id=name)])),
    "Terminate": st.just(pb.TerminateResponse(results=[pb.TerminateResult(instance_id=IDS[0])])),
    "List": st.builds(
        pb.ListResponse,
        observations=st.lists(SEEN, max_size=3, unique_by=lambda each: each.instance_id),
        next_page_token=st.sampled_from(("", "", "next")),
        bookmark=st.just("b"),
    ),
    "Watch": st.builds(
        pb.WatchResponse, observation=st.none() | SEEN, further=st.lists(SEEN, max_size=2), bookmark=st.sampled_from(("b-1", "b-2"))
    ),
}
"""Answers that are good by themselves: what is wrong with them is only what others say."""


def mostly(usual: st.SearchStrategy, other: st.SearchStrategy) -> st.SearchStrategy:
    """Return one of five by `other`; a strategy that stands several times in one_of counts once."""
    return st.integers(0, 4).flatmap(lambda number: usual if number else other)


def answers(method: str, most: int) -> st.SearchStrategy:
    """Return what a rogue may say to a method."""
    likely = LIKELY.get(method, st.nothing()).map(lambda message: message.SerializeToString())
    anything = data(SERVICE.methods_by_name[method].output_type) | refusals()
    return st.lists(mostly(likely, anything) if method in LIKELY else anything, min_size=1, max_size=most)


GREETED = st.tuples(
    mostly(st.just([INFO]), answers("GetInfo", 1)),
    mostly(st.just([b""]), answers("GetCapabilities", 1)),
    mostly(st.just([b""]), answers("Probe", 1)),
)
"""Most say well who they are, or nothing else would ever be asked."""


async def asked(executor: PluginExecutor) -> None:
    """Make each call once; every one ends, with a value or with a refusal of ours."""
    node_type = NodeType("small", Resources.of(CPU=1))
    with contextlib.suppress(RayscalerError):
        assert all(isinstance(each, InstanceObservation) for each in await executor.list("c"))
    watch = executor.watch("c")
    calls = executor.launch(LaunchSpec("c", IDS[0], node_type, "192.0.2.9:6379")), executor.terminate("c", IDS[0])
    for outcome in await asyncio.gather(*calls, return_exceptions=True):
        assert outcome is None or isinstance(outcome, str | RayscalerError), outcome
    async with asyncio.timeout(WATCHED_S):
        with contextlib.suppress(RayscalerError):
            while True:
                assert isinstance(await anext(watch), InstanceObservation)


def test_an_executor_takes_any_answer_or_refuses_it(loop, rogue):
    made, socket = rogue

    async def one() -> None:
        executor = dialled(socket, HASTY)
        try:
            await asked(executor)
        finally:
            await executor.close()

    @examples(200 * MANY)
    @given(GREETED, answers("Launch", 1), answers("Terminate", 1), answers("List", 1), answers("Watch", 4))
    def any_answers(greeted, launched, ended, listed, watched) -> None:
        names = ("GetInfo", "GetCapabilities", "Probe", "Launch", "Terminate", "List", "Watch")
        made.answers = dict(zip(names, (*greeted, launched, ended, listed, watched), strict=True))
        loop.run(one())

    any_answers()
