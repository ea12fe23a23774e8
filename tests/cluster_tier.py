"""Fixtures of the tier "cluster": one real Kubernetes for the whole run, a namespace of its own for every test.

async def test_something(namespace):
    account = await namespace.account()                    # rights in this namespace only
    run_the_product(account.kubeconfig)
    await namespace.api.create(namespace.path("pods"), pod("w", ready_after="2s"))
    await namespace.settled("w", "Running")
    assert {event["verb"] for event in namespace.audit(account.user)} == {"list", "watch"}
"""

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.cluster import namespaces, servers
from tests.cluster.api import Api


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[servers.Cluster]:
    """A Kubernetes with 20 simulated nodes."""
    with servers.running(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture
async def admin(cluster: servers.Cluster) -> AsyncIterator[Api]:
    """The administrator's way in."""
    async with Api(cluster) as api:
        yield api


@pytest.fixture
async def namespace(cluster: servers.Cluster, admin: Api) -> namespaces.Namespace:
    """A namespace of the test's own."""
    return await namespaces.fresh(cluster, admin)
