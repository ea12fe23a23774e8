"""Executors keep the promises of the port through the plugins' door too: a real unix socket and real time."""

import pytest

from rayscaler.clock import SystemClock
from rayscaler.model.instance import Phase
from rayscaler.testing import conformance
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines
from tests.conformance.test_fake_executor import FakeHarness
from tests.conformance.test_k8s_executor import KubernetesHarness
from tests.conformance.test_local_executor import harness
from tests.k8s.fake_api import serving
from tests.local import workers
from tests.plugin.door import Through

pytestmark = pytest.mark.tier("protocol")
cases = pytest.mark.parametrize("case", conformance.CASES, ids=conformance.name)


class QuickHarness(FakeHarness):
    patience_s = 30.0

    def __init__(self) -> None:
        self.machines = FakeMachines(
            SystemClock(), delays_s=dict.fromkeys((Phase.UNSCHEDULED, Phase.STARTING, Phase.REGISTERING, Phase.ENDING), 0.05)
        )

    def executor(self) -> FakeExecutor:
        return FakeExecutor(self.machines)


@cases
async def test_the_fake_conforms_through_the_door(case):
    made = QuickHarness()
    await case(Through(made))
    await made.machines.close()


@cases
async def test_the_local_executor_conforms_through_the_door_with_stand_in_processes(case, tmp_path):
    async with harness(tmp_path, workers.GCS.address, workers.running(workers.GOOD)) as made:
        await case(Through(made))


@cases
async def test_the_kubernetes_executor_conforms_through_the_door_on_a_small_api_server(case):
    async with serving() as (api, client):
        api.has_kubelet = True
        made = KubernetesHarness(client, "ns")
        await case(Through(made))
        assert made.ended == []
