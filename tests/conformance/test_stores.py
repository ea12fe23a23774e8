"""Every store keeps the promises of its ports: in memory, in SQLite, in ConfigMaps on a small API server and on a real one."""

import itertools

import pytest

from rayscaler.k8s.record import ConfigMapStore
from rayscaler.store.sqlite import SqliteStore
from rayscaler.testing import store_conformance
from rayscaler.testing.memory_store import MemoryStore
from tests.k8s import bed
from tests.k8s.fake_objects import serving

cases = pytest.mark.parametrize("case", store_conformance.CASES, ids=store_conformance.name)


def in_config_maps(client, namespace):
    """Each opening is another leader's life."""
    lives = itertools.count(1)

    async def open_store() -> ConfigMapStore:
        life = next(lives)
        return ConfigMapStore(client, namespace, holder=f"life-{life}", transitions=lambda: life, owner=lambda _: None)

    return open_store


@pytest.mark.tier("unit")
@cases
async def test_it_conforms_in_memory(case):
    store = MemoryStore()

    async def open_store() -> MemoryStore:
        return store

    await case(open_store)


@pytest.mark.tier("protocol")
@cases
async def test_it_conforms_in_sqlite(case, tmp_path):
    async def open_store() -> SqliteStore:
        return SqliteStore(tmp_path / "record.sqlite")

    await case(open_store)


@pytest.mark.tier("protocol")
@cases
async def test_it_conforms_in_config_maps_of_a_small_api_server(case):
    async with serving() as api:
        client = api.client()
        await case(in_config_maps(client, "ns"))
        await client.close()


@pytest.mark.tier("cluster")
@cases
async def test_it_conforms_in_config_maps_of_a_real_api_server(case, namespace):
    async with bed.entered(namespace) as client:
        await case(in_config_maps(client, namespace.name))
