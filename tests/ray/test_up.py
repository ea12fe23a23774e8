"""`rayscaler up` and `down` on real Ray, as a user runs them: each part is killed once and comes back; after `down` nothing is left."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayscaler.local.parts import Answer, Parts
from rayscaler.processes import SystemProcesses
from tests.ports import free_port
from tests.ray.workers import Workers, marked
from tests.ray_tier import driver

pytestmark = pytest.mark.tier("ray")

MARK = "RAYSCALER_WHOLE"
PATIENCE_S = 150.0
WORK = """
import os
@ray.remote(num_cpus=1)
def where():
    return os.environ["RAY_CLOUD_INSTANCE_ID"]
print("ran on:", ray.get(where.remote()))
"""


@dataclass
class Site:
    """A short folder with a definition of one node type; everything started here inherits a mark."""

    base: Path
    port: int
    listen: str

    @property
    def mark(self) -> str:
        return f"{MARK}={self.base.name}"

    @property
    def gcs(self) -> str:
        return f"127.0.0.1:{self.port}"

    def define(self) -> Path:
        """Write the definition."""
        params = {"port": str(self.port), "temp-dir": str(self.base / "ray"), "ray-client-server-port": str(free_port())}
        spec = {
            "idleTimeout": "10m",
            "head": {"resources": {"CPU": 0}, "startParams": params},
            "nodeTypes": [{"name": "small", "maxWorkers": 2, "resources": {"CPU": 1}}],
        }
        path = self.base / "cluster.yaml"
        path.write_text(yaml.safe_dump({"apiVersion": "rayscaler.io/v1", "kind": "Cluster", "metadata": {"name": "mine"}, "spec": spec}))
        return path

    async def run(self, *args: str) -> dict[str, Any]:
        """Run a command of rayscaler and return the JSON that it prints."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "rayscaler", *args, "--json"),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, MARK: self.base.name, "RAY_USAGE_STATS_ENABLED": "0"},
            start_new_session=True,
        )
        async with asyncio.timeout(PATIENCE_S):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()
        return json.loads(out)

    async def comes_back(self, parts: dict[str, dict[str, Any]], name: str) -> Answer:
        """Kill what a part runs with -9, and wait until its supervisor runs it again."""
        beside = Parts(SystemProcesses(), self.base / "state/up/mine")
        before = await beside.ask(name)
        assert before is not None
        os.kill(before.pid, signal.SIGKILL)
        async with asyncio.timeout(PATIENCE_S):
            while (now := await beside.ask(name)) is None or now.starts == before.starts or not now.pid:  # noqa: ASYNC110 - it happens in other processes
                await asyncio.sleep(0.1)
        assert now.pid != before.pid
        part = beside.kept(name)
        assert part is not None
        assert part.identity.pid == parts[name]["supervisor_pid"]
        return now


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made = Site(Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp")), free_port(), f"127.0.0.1:{free_port()}")
    try:
        yield made
    finally:
        while left := marked(made.mark):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.05)
        shutil.rmtree(made.base, ignore_errors=True)


async def test_head_service_and_monitor_come_back_from_kill_9_by_themselves_and_down_leaves_nothing(site):
    flags = ("--listen", site.listen, "--state-dir", str(site.base / "state"))
    up = await site.run("up", "-f", str(site.define()), *flags)
    assert up["gcs"] == site.gcs
    parts = up["parts"]
    first = await driver(site.gcs, WORK)
    workers = Workers(site.mark)
    workers.look()
    assert first.removeprefix("ran on: ") in {each.instance_id for each in workers.alive()}

    for name in ("service", "monitor"):
        await site.comes_back(parts, name)
    assert await driver(site.gcs, WORK) == first, "the worker outlived its service and is adopted"

    await site.comes_back(parts, "head")
    second = await driver(site.gcs, WORK)
    assert second == first, "the worker joined the new head at the same port"
    again = await site.run("up", "-f", str(site.base / "cluster.yaml"), *flags)
    assert {part["outcome"] for part in again["parts"].values()} == {"was up"}
    assert again["cluster_id"] != up["cluster_id"], "it is another head"
    workers.look()
    assert [each.instance_id for each in workers.alive()] == [first.removeprefix("ran on: ")], "nothing else was launched"

    down = await site.run("down", "--state-dir", str(site.base / "state"))
    assert down["ended"] == [{"cluster": "mine", "workers": 1}]
    assert marked(site.mark) == {}
    print({name: part["supervisor_pid"] for name, part in parts.items()}, "each killed once; the worker stayed:", first)
