"""Watches of a plugin: they go on where they broke off, have a beat, and end with who reads them, or with a plugin that stays away."""

import asyncio
import contextlib
from dataclasses import replace

import grpc.aio
import pytest

from rayscaler import errors
from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.api.executor.v1 import executor_pb2_grpc
from rayscaler.clock import SystemClock
from rayscaler.model.instance import Phase
from rayscaler.plugin import convert, history, service
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines
from tests.plugin.door import QUICK, dialled, served, spec, to_the_end
from tests.plugin.stage import until

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


@pytest.mark.parametrize(("page_bytes", "most"), [(service.PAGE_BYTES, 12), (500, 400)])
async def test_a_burst_is_told_in_few_messages_of_bounded_size_and_each_of_their_bookmarks_holds(short_path, monkeypatch, page_bytes, most):
    monkeypatch.setattr(service, "PAGE_BYTES", page_bytes)
    monkeypatch.setattr(service.ExecutorService, "at_once", 100)  # or all of it might be one message, which no bookmark divides
    machines = FakeMachines(SystemClock(), delays_s=dict.fromkeys(Phase, 0.0))
    async with served(FakeExecutor(machines), short_path) as executor, grpc.aio.insecure_channel(f"unix:{short_path / 's'}") as channel:
        stub = executor_pb2_grpc.ExecutorServiceStub(channel)
        begun = (await stub.List(pb.ListRequest(cluster="c"))).bookmark
        for number in range(100):
            machines.begin(spec(f"b-{number}"))
        assert len(await executor.list("c")) == 100
        messages = await read(stub, begun, "b-99")
        assert len(messages) <= most
        assert all(each.ByteSize() <= page_bytes + 100 for each in messages)  # the bookmark is not counted
        told = [(seen.instance_id, seen.phase) for each in messages for seen in convert.changes(each)]
        assert len(told) == len(set(told)) >= 100
        middle = len(messages) // 2
        again = await read(stub, messages[middle].bookmark, "b-99")
        rest = [(seen.instance_id, seen.phase) for each in again for seen in convert.changes(each)]
        assert rest == told[-len(rest) :]
        assert len(rest) == sum(len(convert.changes(each)) for each in messages[middle + 1 :])


async def test_a_change_that_comes_alone_and_a_full_message_are_told_at_once(short_path, monkeypatch):
    monkeypatch.setattr(history, "GATHER_S", 3600.0)
    machines = FakeMachines(SystemClock(), delays_s=dict.fromkeys(Phase, 3600.0))  # a second change of the first one would have to wait
    async with served(FakeExecutor(machines), short_path), grpc.aio.insecure_channel(f"unix:{short_path / 's'}") as channel:
        watch = executor_pb2_grpc.ExecutorServiceStub(channel).Watch(pb.WatchRequest(cluster="c"))
        async with asyncio.timeout(10.0):
            assert not convert.changes(await watch.read())
            machines.begin(spec("alone"))
            assert [seen.instance_id for seen in convert.changes(await watch.read())] == ["alone"]
            for number in range(service.ExecutorService.at_once):
                machines.begin(spec(f"b-{number}"))
            assert len(convert.changes(await watch.read())) == service.ExecutorService.at_once


async def read(stub, bookmark: str, until: str) -> list[pb.WatchResponse]:
    """Return the messages that tell anything, until an instance is told to be registering."""
    messages = []
    async with asyncio.timeout(10.0):
        async for message in stub.Watch(pb.WatchRequest(cluster="c", bookmark=bookmark)):
            seen = convert.changes(message)
            messages += [message] if seen else []
            if any(each.instance_id == until and each.phase == pb.PHASE_REGISTERING for each in seen):
                return messages
    raise AssertionError("the watch ended")


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
        await until(lambda: all(each.phase is Phase.REGISTERING for each in machines.machines.values()))
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
    async with served(FakeExecutor(machines), short_path, timings=replace(QUICK, quiet_s=1.0)) as executor:
        watch = executor.watch("c")
        await executor.list("c")
        await asyncio.sleep(1.5)  # a watch without a beat is dead after 1 s
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
