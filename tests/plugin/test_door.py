"""What goes through the door, and how: calls that go out together, pages, watches that break off, limits, errors, TLS."""

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from rayscaler import errors
from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.clock import SystemClock
from rayscaler.executor.base import LaunchSpec
from rayscaler.model.instance import InstanceObservation, Phase
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.plugin import convert, history, service
from rayscaler.plugin.connection import Address
from rayscaler.plugin.executor import PluginExecutor
from rayscaler.plugin.serve import PluginServer, _credentials
from rayscaler.plugin.service import Limits
from rayscaler.settings import ExecutorTls, PluginSettings
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines
from rayscaler.throttle import Throttle
from tests.plugin.door import MAX_MESSAGE_BYTES, QUICK, dialled, served
from tests.plugin.liars import Honest, lying

pytestmark = pytest.mark.tier("protocol")


def spec(instance_id: str, cluster: str = "c", template: str = "") -> LaunchSpec:
    return LaunchSpec(cluster, instance_id, NodeType("small", Resources.of(CPU=1), template=template), "192.0.2.9:6379")


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


async def test_what_has_no_turn_in_time_is_busy_and_the_others_outcomes_are_not_lost(short_path):
    class Slow(FakeExecutor):
        async def launch(self, spec):
            await asyncio.sleep(0.25)
            return await super().launch(spec)

    inner = Slow(FakeMachines(SystemClock()), Throttle(per_second=100, in_flight=1))
    async with served(inner, short_path, timings=QUICK.within(1.5)) as executor:  # a call has 1.25 s
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


# watches


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
    async with served(FakeExecutor(FakeMachines(SystemClock())), short_path) as executor:
        watch = executor.watch("c")
        await executor.list("c")
        waiting = asyncio.create_task(anext(watch))
        await asyncio.sleep(0)
    executor = dialled(short_path / "s")
    with pytest.raises(errors.Unavailable):
        await anext(executor.watch("c"))
    await executor.close()
    waiting.cancel()


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


async def to_the_end(watch) -> None:
    """Read until it raises."""
    async with asyncio.timeout(10.0):
        async for _ in watch:
            pass


async def listed(executor: PluginExecutor) -> None:
    """List once somebody answers; whoever has just found nobody tries again a little later."""
    async with asyncio.timeout(10.0):
        while True:
            try:
                await executor.list("c")
            except errors.Unavailable:
                await asyncio.sleep(0.05)
            else:
                return


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


# TLS


def certificate(names: list[str], issuer=None):
    """Return a certificate and its key, signed by itself or by an issuer."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, names[0])])
    signer, signer_name = (key, subject) if issuer is None else (issuer[1], issuer[0].subject)
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer_name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(each) for each in names]), critical=False)
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(signer, hashes.SHA256())
    )
    return made, key


def written(directory, name: str, made) -> tuple[Any, Any]:
    cert, key = directory / f"{name}.crt", directory / f"{name}.key"
    cert.write_bytes(made[0].public_bytes(serialization.Encoding.PEM))
    key.write_bytes(made[1].private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return cert, key


async def test_an_address_is_dialled_over_tls_and_both_ends_are_known_to_each_other(tmp_path):
    ca = certificate(["authority"])
    ca_file, _ = written(tmp_path, "ca", ca)
    own, mine = written(tmp_path, "plugin", certificate(["localhost"], ca)), written(tmp_path, "caller", certificate(["caller"], ca))
    settings = PluginSettings.from_env(
        {"RAYSCALER_PLUGIN_CERT": str(own[0]), "RAYSCALER_PLUGIN_KEY": str(own[1]), "RAYSCALER_PLUGIN_CA": str(ca_file)}
    )
    server = PluginServer(FakeExecutor(FakeMachines(SystemClock())), name="tls.rayscaler.io")
    port = await server.start("127.0.0.1:0", _credentials(settings))

    async def list_by(tls: ExecutorTls, host: str = "localhost") -> None:
        executor = PluginExecutor(Address(f"dns:///{host}:{port}", max_message_bytes=MAX_MESSAGE_BYTES, tls=tls), timings=QUICK)
        try:
            assert await executor.list("c") == []
        finally:
            await executor.close()

    await list_by(ExecutorTls(ca_file, *mine))
    with pytest.raises(errors.Unavailable):  # it asks for a certificate
        await list_by(ExecutorTls(ca_file))
    with pytest.raises(errors.Unavailable):  # it has none of that name
        await list_by(ExecutorTls(ca_file, *mine), "127.0.0.1")
    stranger, _ = written(tmp_path, "stranger", certificate(["stranger"]))
    with pytest.raises(errors.Unavailable):
        await list_by(ExecutorTls(stranger, *mine))
    with pytest.raises(errors.Denied, match="RAYSCALER_EXECUTOR_CA is not set"):
        await list_by(ExecutorTls())
    await server.stop()
