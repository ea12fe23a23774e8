"""The local executor keeps the promises of the port: on stand-in processes, and the very same cases on real Ray."""

import contextlib
import json
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rayscaler.executor.base import LaunchSpec
from rayscaler.local import command
from rayscaler.local.executor import LocalExecutor, LocalTimings, terminate_all
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.processes import Identity, SystemProcesses
from rayscaler.testing import conformance
from tests.local import workers


class LocalHarness:
    patience_s = 180.0

    def __init__(self, root: Path, address: str, build: command.Builder) -> None:
        self.root = root
        self.address = address
        self.build = build
        self.processes = SystemProcesses()

    def executor(self) -> LocalExecutor:
        return LocalExecutor(self.processes, self.root, build=self.build, timings=LocalTimings(grace_s=20.0))

    def spec(self, instance_id: str) -> LaunchSpec:
        return LaunchSpec("c", instance_id, NodeType("small", Resources.of(CPU=1)), self.address)

    async def kill(self, instance_id: str) -> None:
        record = json.loads((self.root / "c" / f"{instance_id}.json").read_text())
        self.processes.signal_group(Identity(**record["identity"]), signal.SIGKILL)


@contextlib.asynccontextmanager
async def harness(root: Path, address: str, build: command.Builder) -> AsyncIterator[LocalHarness]:
    made = LocalHarness(root, address, build)
    yield made
    left = await terminate_all(made.processes, root, grace_s=0.0)
    assert left == 0, f"{left} instances left by the case"


@pytest.mark.tier("protocol")
@pytest.mark.parametrize("case", conformance.CASES, ids=conformance.name)
async def test_it_conforms_with_stand_in_processes(case, tmp_path):
    async with harness(tmp_path, workers.GCS.address, workers.running(workers.GOOD)) as made:
        await case(made)


@pytest.mark.tier("ray")
@pytest.mark.parametrize("case", conformance.CASES, ids=conformance.name)
async def test_it_conforms_with_real_ray(case, tmp_path, shared_head):
    async with harness(tmp_path, shared_head.address, command.ray_worker) as made:
        await case(made)
