"""Two replicas of the service and a real monitor (design §2b.2): the one that leads is heard, the other refuses, and takes over."""

import asyncio

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from rayscaler.api.head.v1 import head_pb2, head_pb2_grpc
from rayscaler.errors import Unavailable
from rayscaler.model.resources import Resources
from rayscaler.monitor.service import GrpcTransport
from tests.cluster.namespaces import pod
from tests.cluster.product import awaited, document, until

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(240)]

ONE = Resources.of(CPU=1)
SMALL = {"name": "small", "resources": {"CPU": 1}, "maxWorkers": 50}


class Either:
    """Stands in for the Service before both replicas, as no kube-proxy runs here: each new connection goes to the next one."""

    def __init__(self, *addresses: str) -> None:
        self._ways = [(each, GrpcTransport(each)) for each in addresses]
        self.refusals: list[str] = []
        """By whom, in order."""

    async def report(self, request):
        try:
            return await self._ways[0][1].report(request)
        except Unavailable:
            self.refusals.append(self._ways[0][0])
            self._ways.append(self._ways.pop(0))
            raise

    async def close(self) -> None:
        for _, each in self._ways:
            await each.close()


async def refusal(address: str) -> tuple[grpc.StatusCode, str]:
    """Return the code and the reason with which a replica refuses a report."""
    async with grpc.aio.insecure_channel(address) as channel:
        request = head_pb2.ReportDemandRequest(cluster="demo", monitor_epoch=1, sequence=1, gcs_error="none")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await head_pb2_grpc.HeadServiceStub(channel).ReportDemand(request, timeout=5.0)
    found = status_pb2.Status.FromString(dict(caught.value.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    assert found.details[0].Unpack(info)
    return caught.value.code(), info.reason


async def test_2b_2_the_standby_refuses_as_no_leader_and_takes_over_from_one_that_is_killed(ours, capsys):
    """Design §2b.2: NOT_LEADER sends the monitor on; after kill -9 of the leader nothing is lost, doubled or ended."""
    for name in ("rayscaler-0", "rayscaler-1"):
        await ours.namespace.api.create(ours.namespace.path("pods"), pod(name))
    leader = await ours.serve(RAYSCALER_POD_NAME="rayscaler-0")
    await until(lambda: bool(leader.told("leader.elected")))
    standby = await ours.serve(RAYSCALER_POD_NAME="rayscaler-1")
    definition, clock = document("demo", SMALL), asyncio.get_running_loop().time
    await ours.define(definition)
    either = Either(standby.address, leader.address)
    async with ours.ray(definition, leader.address, transport=either) as ray:
        ray.gcs.submit(ONE, 10)
        await until(lambda: len(ray.gcs.running()) == 10)
        by_leader = either.refusals.count(leader.address)  # a busy one may once not answer in time
        assert either.refusals.count(standby.address) == 1 + by_leader
        assert await refusal(standby.address) == (grpc.StatusCode.UNAVAILABLE, "NOT_LEADER")
        await awaited(lambda: _is_led_by(ours, "rayscaler-0"))
        await leader.kill()
        began_at = clock()
        ray.gcs.submit(ONE, 10)
        await until(lambda: bool(standby.told("leader.elected")))
        elected_s = clock() - began_at
        await until(lambda: len(ray.gcs.running()) == 20)
        running_s = clock() - began_at
        await awaited(lambda: _is_led_by(ours, "rayscaler-1"))
        assert ray.unnamed == set()
        first = await ours.serve(RAYSCALER_POD_NAME="rayscaler-0", RAYSCALER_LISTEN=leader.address)
        assert await refusal(first.address) == (grpc.StatusCode.UNAVAILABLE, "NOT_LEADER")
        await standby.stop()
        ray.gcs.submit(ONE, 5)
        await until(lambda: len(ray.gcs.running()) == 25)
    created = ours.created("demo")
    assert len(created) == len(set(created)) == 25
    assert ours.deleted("demo") == set()
    with capsys.disabled():
        print(f"\nafter kill -9 the standby led in {elected_s:.1f} s, and what was asked for meanwhile ran after {running_s:.1f} s")


async def _is_led_by(ours, name: str) -> bool:
    """Whether this pod alone has the label that the Service of the leader selects."""
    found = await ours.namespace.api.get(ours.namespace.path("pods"), labelSelector="rayscaler.io/leader=true")
    return [each["metadata"]["name"] for each in found["items"]] == [name]
