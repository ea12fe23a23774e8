"""`rayscaler serve` on one machine, with a webhook: a plugin that refuses launches, a service that is started anew, a server that is told."""

import asyncio
import contextlib
import itertools

import grpc.aio
import pytest

from rayscaler.api.head.v1 import head_pb2_grpc
from rayscaler.errors import InsufficientCapacity
from rayscaler.executor.base import LaunchSpec
from rayscaler.model.demand import Bundle, Demand
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from tests.served import NotingExecutor, node_state, report, serving
from tests.webhook.builders import checked
from tests.webhook.server import served

pytestmark = pytest.mark.tier("protocol")

CPU = Resources.of(CPU=1)
CONFIG = ClusterConfig("demo", (NodeType("small", CPU),))
WAITING = (Demand(Bundle(CPU), 1),)
SOON_S = 30.0


class Refusing(NotingExecutor):
    """Has no room, until it has."""

    has_room = False

    async def launch(self, spec: LaunchSpec) -> str:
        if not self.has_room:
            raise InsufficientCapacity("no quota left in zone b")
        return await super().launch(spec)


async def reporting(service, executor: Refusing, sequences) -> None:
    """Report four times a second: what waits, and once something is launched, its node."""
    async with grpc.aio.insecure_channel(service.address) as channel:
        stub = head_pb2_grpc.HeadServiceStub(channel)
        while True:
            made = [each.instance_id for each in executor.launched["demo"]]
            nodes = [RayNode(f"{number:056x}", each, "small", NodeStatus.RUNNING, CPU, Resources()) for number, each in enumerate(made, 1)]
            asked = report("demo", next(sequences), () if made else WAITING, [node_state(each) for each in nodes])
            await stub.ReportDemand(asked, timeout=10)
            await asyncio.sleep(0.25)  # the beat of a monitor


@contextlib.asynccontextmanager
async def life(directory, executor: Refusing, sequences, env: dict[str, str]):
    async with serving(directory, executor, [CONFIG], env) as service:
        task = asyncio.create_task(reporting(service, executor, sequences))
        try:
            yield service
            assert not task.done(), task.exception()
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def count(outside, number: int) -> list[dict]:
    """Wait for so many posts, and some time for one too many; return what they brought."""
    async with asyncio.timeout(SOON_S):
        while len(outside.requests) < number:  # noqa: ASYNC110  # the server tells nobody
            await asyncio.sleep(0.1)
    await asyncio.sleep(1.5)  # six reports, each of which could bring one too many
    return [checked(body) for _, _, body in outside.requests]


async def test_h4_a_refused_launch_is_posted_once_and_its_end_by_the_next_life_of_the_service(tmp_path):
    (tmp_path / "token").write_text("t0ken")
    executor, sequences = Refusing(), itertools.count(1)
    async with served() as outside:
        url = f"http://127.0.0.1:{outside.port}/s3cr3t"
        env = {"RAYSCALER_WEBHOOK_URL": url, "RAYSCALER_WEBHOOK_TOKEN_FILE": str(tmp_path / "token")}
        async with life(tmp_path, executor, sequences, env) as first:
            (begun,) = await count(outside, 1)
        async with life(tmp_path, executor, sequences, env) as second:
            assert await count(outside, 1) == [begun]
            executor.has_room = True
            _, ended = await count(outside, 2)
        assert {headers["authorization"] for _, headers, _ in outside.requests} == {"Bearer t0ken"}
    assert (begun["state"], begun["nodeType"], begun["cause"], "namespace" in begun) == ("begun", "small", "NO_CAPACITY", False)
    assert "no quota left in zone b" in begun["detail"]
    assert (ended["state"], ended["since"]) == ("ended", begun["since"])
    said = "\n".join([*first.said, *second.said])
    assert "Traceback" not in said
    assert ("s3cr3t" in said, "t0ken" in said) == (False, False)
