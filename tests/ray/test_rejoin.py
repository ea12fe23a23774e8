"""Supervised workers on real Ray: the head dies with -9 and comes back, without stored state and with it; drains; deaths; blips."""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rayscaler import rejoin
from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.executor.base import LaunchSpec
from rayscaler.local import command, startup
from rayscaler.local.head import HeadOptions, LocalHead
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.monitor.auth import TokenSource
from rayscaler.monitor.link import GcsLink
from rayscaler.processes import SystemProcesses
from tests import ray_tier
from tests.ports import free_port
from tests.rejoin.supervised import PATIENCE_S, Supervised, soon, tree

pytestmark = pytest.mark.tier("ray")

NODES = "/ray.rpc.autoscaler.AutoscalerStateService/GetClusterResourceState"
TASK = """
@ray.remote(resources={"x": 0.5}, num_cpus=0)
def where():
    return ray.get_runtime_context().get_node_id()
print(ray.get(where.remote()))
"""
TRIES = 5
"""To be quicker than `ray start`, which is done half a second after its raylet listens."""
DRAIN = """
from ray._raylet import GcsClient
(node,) = [n["NodeID"] for n in ray.nodes() if n["Alive"] and "x" in n["Resources"]]
print(GcsClient(address={address!r}).drain_node(node, 1, "idle", 0))
"""


class World:
    """A head that can be killed and started again on its port, and one supervised worker."""

    def __init__(self, base: Path, options: HeadOptions) -> None:
        self.base = base
        self.processes = SystemProcesses()
        self.head = LocalHead(self.processes, temp_dir=base, port=free_port(), log_path=base / "head.log", options=options)
        self.address = ""
        self.worker: Supervised

    async def start_head(self) -> None:
        self.address = (await self.head.start()).address

    async def kill_head(self) -> None:
        self.processes.signal_group(self.head.identity, signal.SIGKILL)
        await self.head.stop(0.0)

    def gcs_pid(self) -> int:
        (pid,) = [pid for pid, (name, _, _) in tree(self.head.identity.pid).items() if name == "gcs_server"]
        return pid

    async def start_worker(self) -> None:
        spec = LaunchSpec("c", "w", NodeType("n", Resources.of(CPU=0, x=0.5)), self.address)
        argv, env = command.ray_worker(spec)
        directory = self.base / "w"
        directory.mkdir()
        self.worker = Supervised(directory, "worker", argv, env, gcs=self.address, lock=str(self.base / "lock"))

    async def listening_raylet(self) -> int:
        """Return the worker's raylet as soon as its socket is there, which is before `ray start` says that it is up."""
        await soon(lambda: self._raylet_socket() is not None)
        return self.worker.pid_of("raylet")

    def _raylet_socket(self) -> Path | None:
        for pid in (pid for pid, (name, _, _) in tree(self.worker.pid).items() if name == "raylet"):
            line = Path(f"/proc/{pid}/cmdline").read_bytes().decode()
            path = Path(line.partition("--raylet_socket_name=")[2].partition("\0")[0])
            return path if path.is_socket() else None
        return None

    async def nodes(self) -> dict[str, bool]:
        """Return who lives of the nodes with the worker's amounts; Ray's GCS is asked itself, for a driver takes seconds to start."""
        link = GcsLink(self.address, TokenSource({}), call_timeout_s=5.0)
        reply = await link.call(NODES, gcs_pb2.GetClusterResourceStateRequest(), gcs_pb2.GetClusterResourceStateReply)
        await link.close()
        rows = [each for each in reply.cluster_resource_state.node_states if each.total_resources.get("x") == 0.5]
        return {each.node_id.hex(): each.status != gcs_pb2.NODE_STATUS_DEAD for each in rows}

    async def node(self) -> str:
        """Return the one that lives, once there is just one."""
        async with asyncio.timeout(PATIENCE_S):
            while len(alive := [node for node, is_alive in (await self.nodes()).items() if is_alive]) != 1:  # noqa: ASYNC110 - nobody tells of it
                await asyncio.sleep(0.05)
        return alive[0]

    async def close(self) -> None:
        with contextlib.suppress(AttributeError):
            await self.worker.close()
        await self.head.stop(0.0)
        assert not ray_tier.processes_naming(self.base)


@contextlib.asynccontextmanager
async def world(*, is_up: bool = True, **env: str) -> AsyncIterator[World]:
    base = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))
    made = World(base, HeadOptions(env=tuple((name, value.format(base=base)) for name, value in env.items())))
    try:
        await made.start_head()
        await made.start_worker()
        if is_up:
            await made.worker.until("running", 1)
        yield made
    finally:
        await made.close()
        shutil.rmtree(base, ignore_errors=True)


async def test_a_worker_follows_its_head_over_kills_under_the_same_supervisor_and_a_sigterm_meanwhile_is_prompt(record_property):
    async with world() as here:
        for number in (2, 3):
            node, raylet = await here.node(), here.worker.pid_of("raylet")
            await here.kill_head()
            killed_at = time.time()
            await asyncio.sleep(number - 2)  # the second head is slower
            await here.start_head()
            headed_at = time.time()
            said = await here.worker.until("running", number)
            left_at = next(each["since"] for each in here.worker.states if (each["state"], each["starts"]) == ("rejoining", number))
            assert await here.node() != node
            assert raylet not in tree(here.worker.pid)
            assert await ray_tier.driver(here.address, TASK) == await here.node()
            up_s = said["since"] - left_at
            times = f"head up {headed_at - killed_at:.2f} s, noticed and asked {left_at - headed_at:+.2f} s after, raylet up {up_s:.2f} s"
            print(times)
            record_property("rejoin", times)
        await soon(lambda: here.worker.zombies() == [])
        assert here.worker.rss_kib() <= 15 * 1024
        assert here.processes.is_alive(here.worker.identity)

        told = len(here.worker.states)
        await here.kill_head()
        await here.worker.until("waiting", after=told)
        here.worker.tell(signal.SIGTERM)
        assert await here.worker.ended() == rejoin.ENDED
        await soon(lambda: not ray_tier.processes_naming(here.base))


async def test_with_stored_state_a_raylet_stays_that_ray_start_does_not_know_yet():
    for _ in range(TRIES):
        async with world(RAY_gcs_storage="rocksdb", RAY_gcs_storage_path="{base}/gcs", is_up=False) as here:
            raylet = await here.listening_raylet()
            await here.kill_head()
            if startup.has_started(here.worker.log_path, 0):
                continue  # too late for this test: `ray start` was done
            await here.start_head()
            await here.worker.until("running", 1)
            assert here.worker.pid_of("raylet") == raylet
            assert await ray_tier.driver(here.address, TASK) == await here.node()
            return
    pytest.fail(f"`ray start` was done before its head was killed, {TRIES} times")


async def test_with_stored_state_the_raylet_stays(tmp_path):
    async with world(RAY_gcs_storage="rocksdb", RAY_gcs_storage_path="{base}/gcs") as here:
        node, raylet = await here.node(), here.worker.pid_of("raylet")
        told = len(here.worker.states)
        await here.kill_head()
        await here.worker.until("waiting", after=told)
        await here.start_head()
        said = await here.worker.until("running", after=told)
        assert (said["starts"], here.worker.pid_of("raylet")) == (1, raylet)
        assert await here.node() == node
        assert await ray_tier.driver(here.address, TASK) == node


async def test_a_gcs_that_stands_still_changes_nothing_a_killed_raylet_comes_back_in_place_and_a_drained_one_does_not():
    async with world(**dict(ray_tier.QUICK_LOSS)) as here:
        node, told = await here.node(), len(here.worker.states)
        os.kill(here.gcs_pid(), signal.SIGSTOP)
        await asyncio.sleep(4)
        os.kill(here.gcs_pid(), signal.SIGCONT)
        assert await here.node() == node
        assert len(here.worker.states) == told

        os.kill(here.worker.pid_of("raylet"), signal.SIGKILL)
        await here.worker.until("running", 2)
        living = {node}
        while node in living or not living:
            living = {each for each, is_alive in (await here.nodes()).items() if is_alive}
            await asyncio.sleep(0.05)  # nobody tells of it
        assert "restart 1 of 3 in place" in here.worker.log()
        accepted = await ray_tier.driver(here.address, DRAIN.format(address=here.address))
        assert any(line.startswith("(True") for line in accepted.splitlines()), accepted
        assert await here.worker.ended() == rejoin.DRAINED
        assert here.worker.names() == []
