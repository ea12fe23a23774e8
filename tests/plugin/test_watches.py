"""Watches of a plugin: they go on where they broke off, have a beat, and end with who reads them, or with a plugin that stays away."""

import asyncio
import contextlib

import pytest

from rayscaler import errors
from rayscaler.clock import SystemClock
from rayscaler.model.instance import Phase
from rayscaler.plugin import history, service
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines
from tests.plugin.door import QUICK, dialled, served, spec, to_the_end

pytestmark = pytest.mark.tier("protocol")


class Line:
    """A connection that can be cut: bytes go both ways between two sockets."""

    def __init__(self, inner, outer) -> None:
        self._inner, self._outer = inner, outer
        self._tasks: set[asyncio.Task[None]] = set()

    async def up(self) -> None:
        self._server = await asyncio.start_unix_server(self._join, str(self._outer))

    async def down(self) -> None:
        self._server.close()
        for each in self._tasks:
            each.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._outer.unlink(missing_ok=True)

    async def _join(self, reader, writer) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        there, back = await asyncio.open_unix_connection(str(self._inner))
        try:
            with contextlib.suppress(ConnectionError):
                await asyncio.gather(_pump(reader, back), _pump(there, writer))
        finally:
            self._tasks.discard(task)
            back.close()
            writer.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
    raise ConnectionResetError


async def test_a_watch_goes_on_where_it_broke_off_and_nothing_is_lost(short_path):
    """The connection breaks, not the plugin: a proxy between the two is closed and opened again."""
    machines = FakeMachines(SystemClock(), delays_s=dict.fromkeys(Phase, 0.0))
    async with served(FakeExecutor(machines), short_path):
        line = Line(short_path / "s", short_path / "line")
        await line.up()
        executor = dialled(short_path / "line")
        watch = executor.watch("c")
        await executor.launch(spec("a"))
        assert [await anext(watch) for _ in range(3)][-1].phase is Phase.REGISTERING
        await line.down()
        machines.begin(spec("b"))
        machines.lose("a", "machine check")
        await asyncio.sleep(0.3)  # it is tried again meanwhile
        await line.up()
        async with asyncio.timeout(10.0):
            seen = [await anext(watch) for _ in range(4)]
        assert {(each.instance_id, each.phase) for each in seen} >= {("a", Phase.GONE), ("b", Phase.REGISTERING)}
        assert [each.error for each in seen if each.phase is Phase.GONE] == ["machine check"]
        await executor.close()
        await line.down()


async def test_a_watch_whose_bookmark_has_expired_says_so_and_the_next_one_begins_anew(short_path, monkeypatch):
    monkeypatch.setattr(history, "KEPT", 5)
    machines = FakeMachines(SystemClock(), delays_s=dict.fromkeys(Phase, 0.0))
    async with served(FakeExecutor(machines), short_path):
        line = Line(short_path / "s", short_path / "line")
        await line.up()
        executor = dialled(short_path / "line")
        watch = executor.watch("c")
        await executor.launch(spec("a"))
        await line.down()
        for number in range(20):
            machines.begin(spec(f"b-{number}"))
        await asyncio.sleep(0.1)  # for the fake to get on
        await line.up()
        with pytest.raises(errors.BookmarkExpired):
            await to_the_end(watch)
        again = executor.watch("c")
        assert len(await executor.list("c")) == 21
        machines.lose("a")
        assert (await anext(again)).instance_id == "a"
        await executor.close()
        await line.down()


async def test_a_watch_of_a_plugin_that_stays_away_ends_and_says_so(short_path):
    async with served(FakeExecutor(FakeMachines(SystemClock())), short_path):
        executor = dialled(short_path / "s")
        watch = executor.watch("c")
        await executor.list("c")
    with pytest.raises(errors.Unavailable):
        await to_the_end(watch)
    with pytest.raises(errors.Unavailable):
        await anext(executor.watch("c"))
    await executor.close()


async def test_a_quiet_watch_has_a_beat_and_stays(short_path, monkeypatch):
    monkeypatch.setattr(service, "BEAT_S", 0.05)
    machines = FakeMachines(SystemClock(), delays_s=dict.fromkeys(Phase, 0.0))
    async with served(FakeExecutor(machines), short_path, timings=QUICK.within(0.6)) as executor:
        watch = executor.watch("c")
        await executor.list("c")
        await asyncio.sleep(1.5)  # a watch without a beat is dead after 0.3 s
        await executor.launch(spec("a"))
        assert (await anext(watch)).instance_id == "a"


async def test_nobody_is_told_anything_once_nobody_reads(short_path, monkeypatch):
    monkeypatch.setattr(service, "BEAT_S", 0.05)
    async with served(FakeExecutor(FakeMachines(SystemClock())), short_path) as executor:
        watch = executor.watch("c")
        await executor.list("c")
        task = executor._streams["c"].task
        del watch
        async with asyncio.timeout(10.0):
            await task
