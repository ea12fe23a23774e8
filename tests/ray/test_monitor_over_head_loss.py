"""Complaint F4, the monitor's part: a head killed and started anew on its port, with stored state and without; nothing here restarts the monitor."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.api.head.v1 import head_pb2
from rayscaler.model.command import AutoscalingState, PendingInstance
from rayscaler.model.resources import Resources
from rayscaler.monitor.auth import TokenSource
from rayscaler.monitor.kv import KV
from rayscaler.monitor.link import GcsLink
from rayscaler.server import told
from tests.monitor.doors import read, replay
from tests.monitor.real import INCARNATION, beside, drain, ray_status, restart, stored
from tests.ray_tier import RayHead, running_head

pytestmark = pytest.mark.tier("ray")

STATE = told.autoscaling_state(AutoscalingState(17, 1, pending=(PendingInstance("kept-1", "t", "starting", 0.0),)))
CONFIG = head_pb2.ClusterConfig(hash="h1", config=gcs_pb2.ClusterConfig(max_resources={"CPU": 9}))
ASK = "from ray.autoscaler.sdk import request_resources\nrequest_resources(bundles=[{'CPU': 3}] * 2)\nprint('asked')"


@contextlib.asynccontextmanager
async def port_answers(port: int) -> AsyncIterator[asyncio.Future[float]]:
    """Tell when somebody listens on a port: loop time of the first connection."""

    async def knock() -> float:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return asyncio.get_running_loop().time()
            await asyncio.sleep(0.005)

    task = asyncio.ensure_future(knock())
    try:
        yield task
    finally:
        task.cancel()


async def told_config(head: RayHead) -> gcs_pb2.ClusterConfig:
    """Read what Ray's libraries would."""
    link = GcsLink(head.local_address, TokenSource({}), call_timeout_s=5.0)
    request = gcs_pb2.InternalKVGetRequest(namespace=b"__autoscaler", key=b"__autoscaler_cluster_config")
    reply = await link.call(f"{KV}/InternalKVGet", request, gcs_pb2.InternalKVGetReply)
    await link.close()
    return gcs_pb2.ClusterConfig.FromString(reply.value)


@pytest.mark.parametrize("keeps_state", [False, True], ids=["without stored state", "with stored state"])
async def test_f4_a_head_killed_and_started_anew_is_reported_at_once_and_told_everything_again(tmp_path, keeps_state):
    async with running_head(stored(tmp_path) if keeps_state else None) as head, beside(head.local_address) as monitor:
        service = monitor.service
        service.state, service.config = STATE, CONFIG
        await monitor.report(lambda request: request.reported_state_version == 17 and request.reported_config_hash == "h1")
        assert dict((await told_config(head)).max_resources) == {"CPU": 9}
        old = service.last
        node = service.snapshots[-1].snapshot.state.node_states[0].node_id.hex()
        service.acknowledges = False
        service.commands = [drain("before", node, gcs_pb2.DRAIN_NODE_REASON_UNSPECIFIED)]
        await monitor.report(lambda request: bool(request.results))

        loop = asyncio.get_running_loop()
        killed = loop.time()
        await head.head.stop(grace_s=0.0)
        away = await monitor.report(lambda request: bool(request.gcs_error))
        print(f"away was said {service.times[-1] - killed:.2f} s after the kill: {away.gcs_error}")
        assert away.head_incarnation == INCARNATION
        assert [each.command_id for each in away.results] == ["before"]
        async with port_answers(head.port) as answers:
            starting = asyncio.create_task(head.head.start())
            back = await monitor.report(lambda request: request.HasField("session"))
            print(f"reported {loop.time() - await answers:.2f} s after the port answered, {loop.time() - killed:.1f} s after the kill")
            await starting
        assert back.HasField("snapshot")
        assert (back.session.cluster_id == old.session.cluster_id) is keeps_state
        assert (back.reported_state_version, back.reported_config_hash) == (0, "")
        assert [each.command_id for each in back.results] == ["before"]
        assert back.sequence > old.sequence

        service.acknowledges = True
        await monitor.report(lambda request: request.reported_state_version == 17 and request.reported_config_hash == "h1")
        assert "kept-1: t, starting" in await ray_status(head)
        assert dict((await told_config(head)).max_resources) == {"CPU": 9}


async def test_f4_a_floor_that_a_gcs_with_stored_state_lost_is_replayed_once_and_never_over_another(tmp_path):
    async with running_head(stored(tmp_path)) as head, beside(head.local_address) as monitor:
        assert await head.driver(ASK) == "asked"
        await monitor.until(lambda taken: taken.constraint is not None)
        await restart(head)
        report = await monitor.until(lambda taken: taken.constraint is None)
        assert report.snapshot.state.node_states
        result = await monitor.command(replay("c1", Resources.of(CPU=3), Resources.of(CPU=3)))
        assert (result.outcome, result.detail) == (head_pb2.OUTCOME_DONE, "")
        report = await monitor.until(lambda taken: taken.constraint is not None)
        ((demand),) = read(report.snapshot).constraint.demands
        assert (dict(demand.bundle.resources), demand.count) == ({"CPU": 30_000}, 2)
        assert "{'CPU': 3.0}: 2 from request_resources()" in await ray_status(head)
        result = await monitor.command(replay("c2", Resources.of(CPU=9)))
        assert (result.outcome, result.detail) == (head_pb2.OUTCOME_REJECTED, "the GCS has one already")
        assert "{'CPU': 3.0}: 2 from request_resources()" in await ray_status(head)


async def test_f4_three_losses_in_a_row_are_three_sessions_in_order_and_no_report_names_an_old_one_again(ray_head):
    async with beside(ray_head.local_address) as monitor:
        await monitor.until(lambda taken: bool(taken.nodes))
        for _ in range(3):
            await restart(ray_head)
            await monitor.report(lambda request: request.session.session_name == ray_head.session)
        sessions = [each.session.cluster_id for each in monitor.service.reports if each.HasField("session")]
        assert len(set(sessions)) == 4
        assert [each for index, each in enumerate(sessions) if index == 0 or sessions[index - 1] != each] == list(dict.fromkeys(sessions))
        assert [each.sequence for each in monitor.service.reports] == list(range(1, len(monitor.service.reports) + 1))
