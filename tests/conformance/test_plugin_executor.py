"""Executors keep the promises of the port through the plugins' door too: a real unix socket and real time."""

import importlib.util
import os
import signal
import uuid
from pathlib import Path

import pytest

from rayscaler.clock import SystemClock
from rayscaler.executor.base import LaunchSpec
from rayscaler.k8s.owned import OwnedExecutor
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.testing.fake_executor import FakeMachines
from tests.conformance.test_fake_executor import FakeHarness
from tests.conformance.test_k8s_executor import KubernetesHarness
from tests.conformance.test_local_executor import harness
from tests.k8s.fake_api import serving
from tests.local import workers
from tests.plugin.door import Through, cases
from tests.plugin.fake_plugin import QUICK_S

pytestmark = pytest.mark.tier("protocol")


class QuickHarness(FakeHarness):
    patience_s = 30.0

    def __init__(self) -> None:
        self.machines = FakeMachines(SystemClock(), delays_s=QUICK_S)


@cases
async def test_the_fake_conforms_through_the_door(case):
    made = QuickHarness()
    await case(Through(made))
    await made.machines.close()


@cases
async def test_the_local_executor_conforms_through_the_door_with_stand_in_processes(case, tmp_path):
    async with harness(tmp_path, workers.GCS.address, workers.running(workers.GOOD)) as made:
        await case(Through(made))


class OwnedHarness(KubernetesHarness):
    """As `rayscaler executor serve k8s` has it."""

    def executor(self) -> OwnedExecutor:
        return OwnedExecutor(self.client, self.namespace, on_end=self.ended.append)


@cases
async def test_the_kubernetes_executor_conforms_through_the_door_on_a_small_api_server(case):
    async with serving() as (api, client):
        api.has_kubelet = True
        made = OwnedHarness(client, "ns")
        await case(Through(made))
        assert made.ended == []


EXAMPLE = Path(__file__).parents[2] / "examples/plugin-python/processes.py"


class ExampleHarness:
    patience_s = 30.0

    def __init__(self) -> None:
        made = importlib.util.spec_from_file_location("processes", EXAMPLE)
        self.module = importlib.util.module_from_spec(made)
        made.loader.exec_module(self.module)
        self.cluster = f"c-{uuid.uuid4().hex[:8]}"  # the machine's processes are its record, those of other tests too

    def executor(self):
        return self.module.Processes(["sleep", "600"])

    def spec(self, instance_id: str) -> LaunchSpec:
        return LaunchSpec(self.cluster, instance_id, NodeType("small", Resources.of(CPU=1)), "192.0.2.9:6379")

    async def kill(self, instance_id: str) -> None:
        os.kill(self.pids()[instance_id], signal.SIGKILL)

    def pids(self) -> dict[str, int]:
        return {key: pid for key, (pid, _) in self.module.Processes([])._found(self.cluster).items()}


@cases
async def test_the_example_in_python_conforms_through_the_door(case):
    made = ExampleHarness()
    try:
        await case(Through(made))
        assert made.pids() == {}
    finally:
        for pid in made.pids().values():
            os.kill(pid, signal.SIGKILL)
