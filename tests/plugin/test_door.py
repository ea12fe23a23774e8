"""What goes through the door, and how: calls that go out together, pages, limits, errors, and who answers there."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import grpc
import pytest

from rayscaler import errors
from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.clock import SystemClock
from rayscaler.model.instance import InstanceObservation, Phase
from rayscaler.plugin import convert, service
from rayscaler.plugin.connection import Address
from rayscaler.plugin.executor import PluginExecutor
from rayscaler.plugin.serve import PluginServer
from rayscaler.plugin.service import Limits
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines
from rayscaler.throttle import Throttle
from tests.plugin.door import MAX_MESSAGE_BYTES, QUICK, dialled, listed, served, spec, to_the_end
from tests.plugin.liars import Honest, lying

pytestmark = pytest.mark.tier("protocol")


class Recorded(Honest):
    """Notes what it is asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Any] = []

    async def Launch(self, request, context):  # noqa: N802 - gRPC's form
        self.asked.append(request)
        return await super().Launch(request, context)

    async def Terminate(self, request, context):  # noqa: N802 - gRPC's form
        self.asked.append(request)
        return await super().Terminate(request, context)

    async def List(self, request, context):  # noqa: N802 - gRPC's form
        self.asked.append(pb.ListRequest.FromString(request.SerializeToString()))
        return await super().List(request, context)


@pytest.fixture
async def recorded(short_path) -> AsyncIterator[tuple[Recorded, PluginExecutor]]:
    made = Recorded()
    async with lying(made, short_path, QUICK) as executor:
        yield made, executor


# calls that go out together


async def test_launches_that_begin_together_go_out_as_one_call_and_so_do_ends(recorded):
    made, executor = recorded
    ids = [f"i-{number}" for number in range(50)]
    found = await asyncio.gather(*(executor.launch(spec(each)) for each in ids))
    assert found == [f"fake-{each}" for each in ids]
    await asyncio.gather(*(executor.terminate("c", each) for each in ids))
    launch, terminate = made.asked
    assert [each.instance_id for each in launch.specs] == ids
    assert list(terminate.instance_ids) == ids
    assert launch.supervisor.startswith('"""The supervisor')


async def test_clusters_go_out_apart(recorded):
    made, executor = recorded
    await asyncio.gather(executor.launch(spec("a", "one")), executor.launch(spec("a", "two")))
    assert sorted(each.cluster for each in made.asked) == ["one", "two"]


async def test_the_same_instance_twice_at_once_is_two_calls_and_one_instance(recorded):
    made, executor = recorded
    assert await asyncio.gather(executor.launch(spec("a")), executor.launch(spec("a"))) == ["fake-a", "fake-a"]
    assert [len(each.specs) for each in made.asked] == [1, 1]


async def test_more_than_a_call_holds_goes_out_in_parts_by_number_and_by_size(recorded):
    made, executor = recorded
    await asyncio.gather(*(executor.launch(spec(f"i-{number}")) for number in range(convert.MAX_BATCH + 1)))
    assert sorted(len(each.specs) for each in made.asked) == [1, convert.MAX_BATCH]
    made.asked.clear()
    await asyncio.gather(*(executor.launch(spec(f"t-{number}", template="x" * (1 << 20))) for number in range(5)))
    assert sorted(len(each.specs) for each in made.asked) == [1, 2, 2]
    assert max(each.ByteSize() for each in made.asked) < 4 << 20


async def test_each_instance_has_an_outcome_of_its_own(short_path):
    inner = FakeExecutor(FakeMachines(SystemClock()))
    async with served(inner, short_path) as executor:
        await executor.launch(spec("a"))
        inner.fail_next_launch(errors.InsufficientCapacity("no room for the first that comes"))
        other = spec("a", template="another")
        found = await asyncio.gather(
            *(executor.launch(each) for each in (spec("b"), spec("c"), other, spec("../d"))), return_exceptions=True
        )
    assert [type(each) for each in found] == [errors.InsufficientCapacity, str, errors.Conflict, errors.InvalidRequest]
    assert found[3].problems[0].path == "spec.instance_id"


async def test_one_that_gives_up_takes_nobody_with_it(short_path):
    inner = FakeExecutor(FakeMachines(SystemClock(), delays_s=dict.fromkeys(Phase, 0.0)))
    inner.hang_next("launch")
    async with served(inner, short_path) as executor:
        first, second = asyncio.create_task(executor.launch(spec("a"))), asyncio.create_task(executor.launch(spec("b")))
        await asyncio.wait({first, second}, timeout=0.2)
        first.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await first
        assert await executor.launch(spec("c")) == "fake-c"
        second.cancel()


async def test_one_that_gives_up_before_the_plugin_is_ready_is_never_sent(short_path):
    is_asked, may_answer = asyncio.Event(), asyncio.Event()

    class Late(Recorded):
        async def Probe(self, request, context):  # noqa: N802 - gRPC's form
            is_asked.set()
            await may_answer.wait()
            return await super().Probe(request, context)

    made = Late()
    async with lying(made, short_path, QUICK) as executor:
        first, second = asyncio.create_task(executor.launch(spec("a"))), asyncio.create_task(executor.launch(spec("b")))
        await is_asked.wait()
        first.cancel()
        await asyncio.wait({first})
        may_answer.set()
        assert await second == "fake-b"
    assert [[each.instance_id for each in call.specs] for call in made.asked] == [["b"]]


async def test_what_has_no_turn_in_time_is_busy_and_the_others_outcomes_are_not_lost(short_path):
    class Slow(FakeExecutor):
        async def launch(self, spec):
            await asyncio.sleep(0.25)
            return await super().launch(spec)

    inner = Slow(FakeMachines(SystemClock()), Throttle(per_second=100, in_flight=1))
    async with served(inner, short_path, timings=replace(QUICK, call_s=2.5)) as executor:
        found = await asyncio.gather(*(executor.launch(spec(f"i-{number}")) for number in range(20)), return_exceptions=True)
        kinds = {type(each) for each in found}
        assert {str, errors.Busy} <= kinds <= {str, errors.Busy, errors.Unavailable}
        done = {each.removeprefix("fake-") for each in found if isinstance(each, str)}
        assert done <= {each.instance_id for each in await executor.list("c")}


@pytest.mark.parametrize("kind", [errors.Denied, errors.Unauthenticated, errors.Busy, errors.Unavailable, errors.NotFound])
async def test_an_error_of_a_whole_call_comes_back_as_itself(short_path, kind):
    inner = FakeExecutor(FakeMachines(SystemClock()))
    async with served(inner, short_path) as executor:
        inner.fail_next("list", kind("why not"))
        with pytest.raises(kind, match=r"plugin at unix://.*: why not"):
            await executor.list("c")


async def test_a_bug_of_the_plugins_has_an_id_and_no_text(short_path):
    class Buggy(FakeExecutor):
        async def launch(self, spec):
            raise ZeroDivisionError(f"secret of {spec.instance_id}")

        async def list(self, cluster):
            raise ZeroDivisionError("secret")

    async with served(Buggy(FakeMachines(SystemClock())), short_path) as executor:
        for call in (executor.launch(spec("a")), executor.list("c")):
            with pytest.raises(errors.Unavailable, match=r"internal error [0-9a-f]{12}") as caught:
                await call
            assert "secret" not in str(caught.value)


# lists


async def test_a_list_is_read_page_by_page(recorded, monkeypatch):
    made, executor = recorded
    monkeypatch.setattr(service, "MAX_PAGE", 10)
    await asyncio.gather(*(executor.launch(spec(f"i-{number:02}")) for number in range(5)))
    await asyncio.gather(*(executor.launch(spec(f"j-{number:02}")) for number in range(20)))
    made.asked.clear()
    assert len(await executor.list("c")) == 25
    assert len([each for each in made.asked if isinstance(each, pb.ListRequest)]) == 3


async def test_a_page_is_full_by_its_bytes_too(recorded):
    made, executor = recorded
    for number in range(5):
        await executor.launch(spec(f"i-{number}", template="x" * (1 << 20)))
    made.asked.clear()
    assert len(await executor.list("c")) == 5
    assert len(made.asked) == 5


async def test_a_page_of_another_life_is_expired(recorded):
    _, executor = recorded
    await executor.list("c")
    stub = _stub(executor)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub(pb.ListRequest(cluster="c", page_token="other-0/x").SerializeToString())
    assert (caught.value.code(), "list again" in caught.value.details()) == (grpc.StatusCode.OUT_OF_RANGE, True)


def _stub(executor: PluginExecutor):
    return executor._session._channel.unary_unary("/rayscaler.api.executor.v1.ExecutorService/List")


# what a plugin says of itself


async def test_limits_are_kept(short_path):
    class Counting(FakeExecutor):
        now = most = 0

        async def launch(self, spec):
            self.now += 1
            self.most = max(self.most, self.now)
            await asyncio.sleep(0.02)
            self.now -= 1
            return await super().launch(spec)

    inner = Counting(FakeMachines(SystemClock()))
    async with served(inner, short_path, limits=Limits(in_flight=3, batch=2)) as executor:
        await executor.list("c")

        async def launch(number: int) -> None:
            async with executor.pace.turn("c"):
                await executor.launch(spec(f"i-{number}"))

        await asyncio.gather(*(launch(number) for number in range(20)))
    assert 1 < inner.most <= 3


async def test_a_list_that_somebody_else_may_have_answered_is_not_believed(short_path):
    class Breaking(FakeExecutor):
        async def list(self, cluster: str) -> list[InstanceObservation]:
            executor._session.breaks += 1  # as a watch does that ends meanwhile
            return await super().list(cluster)

    async with served(Breaking(FakeMachines(SystemClock())), short_path) as executor:
        with pytest.raises(errors.Unavailable, match="another one may have answered"):
            await executor.list("c")


async def test_who_leads_no_more_begins_and_ends_nothing(short_path):
    def may_write() -> None:
        if not leads:
            raise errors.Fenced("another service leads")

    leads = True
    inner = FakeExecutor(FakeMachines(SystemClock()))
    async with served(inner, short_path):
        executor = PluginExecutor(Address(f"unix://{short_path / 's'}", max_message_bytes=MAX_MESSAGE_BYTES), may_write=may_write)
        await executor.launch(spec("i-1"))
        leads = False
        with pytest.raises(errors.Fenced):
            await executor.launch(spec("i-2"))
        with pytest.raises(errors.Fenced):
            await executor.terminate("c", "i-1")
        assert [each.instance_id for each in await inner.list("c")] == ["i-1"]
        await executor.close()


async def test_a_plugin_of_another_name_is_another_plugin(short_path):
    async with served(FakeExecutor(FakeMachines(SystemClock())), short_path):
        executor = dialled(short_path / "s")
        watch = executor.watch("c")  # by its end it is known that somebody else may be there
        await executor.list("c")
    other = PluginServer(FakeExecutor(FakeMachines(SystemClock())), name="other.rayscaler.io")
    await other.start(f"unix:{short_path / 's'}")
    with pytest.raises(errors.BrokenPlugin, match=r"X1: was tested\.rayscaler\.io and is other\.rayscaler\.io now"):
        await listed(executor)
    with pytest.raises(errors.BrokenPlugin, match="X1"):
        await to_the_end(watch)
    await executor.close()
    await other.stop()


async def test_one_that_is_not_ready_says_why(short_path):
    class Later(Honest):
        async def Probe(self, request, context):  # noqa: N802 - gRPC's form
            return pb.ProbeResponse(not_ready="reads its list of machines")

    async with lying(Later(), short_path) as executor:
        with pytest.raises(errors.Unavailable, match="is not ready: reads its list of machines"):
            await executor.list("c")


async def test_whoever_serves_something_else_is_told_apart_from_nobody(short_path):
    server = grpc.aio.server()
    server.add_insecure_port(f"unix:{short_path / 's'}")
    await server.start()
    executor = dialled(short_path / "s")
    with pytest.raises(errors.BrokenPlugin, match=r"X1: whoever answers there serves no rayscaler\.api\.executor\.v1\.ExecutorService"):
        await executor.list("c")
    await executor.close()
    await server.stop(0)
