"""A plugin that begins well and then answers a byte now and then: each call has its deadline and its name, and nobody else waits."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

import pytest

from rayscaler.errors import Unavailable
from rayscaler.plugin.executor import PluginExecutor
from rayscaler.plugin.session import PluginTimings
from tests.plugin import liars, loris
from tests.plugin.door import dialled, spec, to_the_end
from tests.plugin.liars import SHORT, lying
from tests.plugin.stage import until

pytestmark = pytest.mark.tier("protocol")


@contextlib.asynccontextmanager
async def slowed(short_path, timings: PluginTimings = SHORT) -> AsyncIterator[tuple[PluginExecutor, loris.Loris]]:
    """Serve an honest plugin behind one that can drip, and call it."""
    async with liars.served(liars.Honest(), short_path / "honest"), loris.before(short_path / "honest", short_path / "slow") as slow:
        executor = dialled(short_path / "slow", timings)
        try:
            yield executor, slow
        finally:
            await executor.close()


async def test_a_list_that_comes_byte_by_byte_ends_with_its_deadline(short_path):
    async with slowed(short_path) as (executor, slow):
        await executor.launch(spec("a"))
        assert [each.instance_id for each in await executor.list("c")] == ["a"]
        slow.drips = True
        with pytest.raises(Unavailable, match=r"Deadline Exceeded|no end within 1 s"):
            await executor.list("c")
        assert slow.dripped > 5
        slow.drips = False
        assert [each.instance_id for each in await executor.list("c")] == ["a"]


async def test_a_watch_that_begins_byte_by_byte_ends_with_a_name_and_holds_no_launch_for_longer(short_path):
    async with slowed(short_path) as (executor, slow):
        assert await executor.list("c") == []
        slow.drips = True
        watch = executor.watch("c")
        launch = asyncio.create_task(executor.launch(spec("a")))
        with pytest.raises(Unavailable, match="Watch has said nothing for 1 s"):
            await to_the_end(watch)
        with pytest.raises(Unavailable, match="Deadline Exceeded"):
            await launch
        assert slow.dripped > 5


async def test_a_watch_that_goes_on_byte_by_byte_ends_with_a_name(short_path):
    async with slowed(short_path) as (executor, slow):
        watch = executor.watch("c")
        await executor.launch(spec("a"))
        assert (await anext(watch)).instance_id == "a"
        slow.drips = True
        with pytest.raises(Unavailable, match="Watch has said nothing for 1 s"):
            await to_the_end(watch)
        assert slow.dripped > 5


async def test_another_plugins_calls_are_not_delayed_by_it(short_path):
    (short_path / "good").mkdir()
    async with slowed(short_path, PluginTimings()) as (executor, slow), lying(liars.Honest(), short_path / "good") as good:
        assert await executor.list("c") == []
        slow.drips = True
        held = [asyncio.create_task(each) for each in (*(executor.list("c") for _ in range(50)), executor.launch(spec("a")))]
        await until(lambda: slow.dripped)
        for number in range(50):
            assert await good.launch(spec(f"b-{number}"))
            assert len(await good.list("c")) == number + 1
        assert not any(each.done() for each in held)
        for each in held:
            each.cancel()
        await asyncio.gather(*held, return_exceptions=True)
