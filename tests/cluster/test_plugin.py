"""A service whose workers a plugin makes, on a real API server: deleting a definition ends what the plugin has made of it, over kill -9."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from rayscaler.k8s import labels
from rayscaler.plugin.executor import PluginExecutor
from tests.cluster.api import ApiError
from tests.cluster.product import awaited, document
from tests.plugin.conftest import short_path  # noqa: F401 - a fixture
from tests.plugin.door import dialled, spec
from tests.plugin.fake_plugin import ARGV

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(300)]

SMALL = {"name": "small", "resources": {"CPU": 1}, "minWorkers": 2}
ROOT = Path(__file__).parents[2]


@contextlib.asynccontextmanager
async def plugin(socket: Path) -> AsyncIterator[PluginExecutor]:
    """Run a plugin whose instances live as long as it does; return a way to it."""
    process = await asyncio.create_subprocess_exec(*ARGV, f"unix://{socket}", env={**os.environ, "PYTHONPATH": str(ROOT)})
    witness = dialled(socket)
    try:
        yield witness
    finally:
        await witness.close()
        process.terminate()
        await process.wait()


async def definition(ours) -> dict | None:
    try:
        found: dict = await ours.namespace.api.get(ours.namespace.path("configmaps/demo"))
    except ApiError:
        return None
    return found


async def test_deleting_a_definition_ends_what_a_plugin_has_made_of_it_and_nothing_else(ours, short_path):  # noqa: F811 - the fixture
    socket = short_path / "s"
    async with plugin(socket) as witness:
        service = await ours.serve(RAYSCALER_EXECUTOR=f"unix://{socket}")
        made = document("demo", SMALL)
        await ours.define(made)

        async def there(count: int) -> bool:
            return len(await witness.list("demo")) == count

        async with ours.ray(made, service.address):
            await awaited(lambda: there(2))
        await witness.launch(spec("demo-small-1-0", cluster="other"))
        await service.kill()
        await ours.namespace.api.delete(ours.namespace.path("configmaps/demo"))
        assert (await definition(ours))["metadata"]["finalizers"] == [labels.FINALIZER]
        assert await there(2)
        second = await ours.serve(RAYSCALER_EXECUTOR=f"unix://{socket}")
        await awaited(lambda: there(0))
        await second.kill()  # in the time that it gives to what may come late
        assert (await definition(ours))["metadata"]["deletionTimestamp"]
        third = await ours.serve(RAYSCALER_EXECUTOR=f"unix://{socket}")

        async def gone() -> bool:
            return await definition(ours) is None

        await awaited(gone, 120.0)
        assert await there(0)
        assert [each.instance_id for each in await witness.list("other")] == ["demo-small-1-0"]
        assert third.process.returncode is None
