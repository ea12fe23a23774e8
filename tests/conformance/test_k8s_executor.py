"""The Kubernetes executor keeps the promises of the port: on a small API server, and the very same cases on a real one."""

import json

import pytest

from rayscaler.executor.base import LaunchSpec
from rayscaler.k8s import labels
from rayscaler.k8s.client import Client
from rayscaler.k8s.executor import KubernetesExecutor
from rayscaler.k8s.objects import PODS
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.testing import conformance
from tests.k8s import bed
from tests.k8s.fake_api import serving

TEMPLATE = json.dumps({"spec": {"containers": [{"name": "ray", "image": "rayproject/ray:2.60.0"}]}})


class KubernetesHarness:
    patience_s = 60.0

    def __init__(self, client: Client, namespace: str) -> None:
        self.client = client
        self.namespace = namespace
        self.ended: list[str] = []

    def executor(self) -> KubernetesExecutor:
        return KubernetesExecutor(self.client, self.namespace, on_end=self.ended.append)

    def spec(self, instance_id: str) -> LaunchSpec:
        return LaunchSpec("c", instance_id, NodeType("small", Resources.of(CPU=1), template=TEMPLATE), "192.0.2.9:6379")

    async def kill(self, instance_id: str) -> None:
        await self.client.delete(PODS, self.namespace, labels.pod_name("c", instance_id), grace_s=0)


@pytest.mark.tier("protocol")
@pytest.mark.parametrize("case", conformance.CASES, ids=conformance.name)
async def test_it_conforms_on_a_small_api_server(case):
    async with serving() as (api, client):
        api.has_kubelet = True
        harness = KubernetesHarness(client, "ns")
        await case(harness)
        assert harness.ended == []


@pytest.mark.tier("cluster")
@pytest.mark.parametrize("case", conformance.CASES, ids=conformance.name)
async def test_it_conforms_on_a_real_api_server(case, namespace):
    async with bed.entered(namespace) as client:
        harness = KubernetesHarness(client, namespace.name)
        await case(harness)
        assert harness.ended == []
