"""Fixtures of the tier "e2e": one real node for the whole run, a namespace of its own for every test, whose pods are gone afterwards.

async def test_something(kube, kube_namespace):
    await kube_namespace.api.create(kube_namespace.path("pods"), pods.pod("p", images.RAY, ["sleep", "inf"]))
    running = await kube_namespace.settled("p", "Running", 60)
    code, said = await pods.execute(kube_namespace, "p", ["hostname"])
    logged = await pods.log(kube_namespace, "p")
    connect(running["status"]["podIP"])                    # pods, Services and the API server are reached from the test itself
"""

import os
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.cluster import namespaces
from tests.cluster.api import Api
from tests.e2e import bed, host

GONE_S = 180.0
"""For a test's pods to end; those that take longer have a grace period that the test should shorten."""


@pytest.fixture(scope="session")
def kube() -> Iterator[bed.Bed]:
    """A Kubernetes with one real node, and on it Ray's image and the service's."""
    if lack := host.missing():
        (pytest.fail if os.environ.get("CI") else pytest.skip)(lack)
    with bed.running() as running:
        yield running


@pytest.fixture
async def kube_namespace(kube: bed.Bed) -> AsyncIterator[namespaces.Namespace]:
    """A namespace of the test's own; all in it has ended before the next test starts."""
    async with Api(kube.cluster) as api:
        namespace = await namespaces.fresh(kube.cluster, api)
        yield namespace
        await api.delete(f"/api/v1/namespaces/{namespace.name}")
        await api.wait("/api/v1/namespaces", namespace.name, lambda it: it is None, GONE_S)
