"""`rayscaler serve` with definitions whose executors are plugins: one at an address, one by its command, broken ones, which delay neither, liars and slow ones."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from statistics import median

import grpc
import pytest
import yaml
from rich.console import Console

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.api.head.v1 import head_pb2_grpc
from rayscaler.cli.status import render
from rayscaler.clock import SystemClock
from rayscaler.model.demand import Bundle
from rayscaler.model.resources import Resources
from rayscaler.plugin import service as plugin_service
from rayscaler.plugin.serve import PluginServer, _credentials
from rayscaler.plugin.session import PluginTimings
from rayscaler.processes import Identity, SystemProcesses
from rayscaler.settings import PluginSettings, TlsFiles
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines
from rayscaler.testing.fake_ray import by_count
from tests.plugin import liars, loris
from tests.plugin.certificates import certificate, written
from tests.plugin.door import dialled
from tests.plugin.stage import until
from tests.server.sockets import report

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(120)]

PLUGIN = [sys.executable, "-m", "tests.plugin.fake_plugin"]
REPORT_S = 0.2
"""Between two reports, as a monitor sends them."""


def definition(name: str, executor: object, min_workers: int) -> str:
    spec = {"executor": executor, "nodeTypes": [{"name": "small", "resources": {"CPU": 1}, "minWorkers": min_workers}]}
    return yaml.safe_dump({"apiVersion": "rayscaler.io/v1", "kind": "Cluster", "metadata": {"name": name}, "spec": spec})


class Service:
    """A service, and the monitors of its clusters."""

    def __init__(self, base: Path) -> None:
        self._base = base
        self._sequence = 0
        self.address = f"unix:{base / 'service'}"

    async def start(self, executors: dict[str, object], *, min_workers: int = 2, **env: str) -> None:
        flags = []
        for name, executor in executors.items():
            path = self._base / f"{name}.yaml"
            path.write_text(definition(name, executor, min_workers))
            flags += ["-f", str(path)]
        argv = ["-m", "rayscaler", "serve", *flags, "--listen", self.address, "--state-dir", str(self._base / "state")]
        with (self._base / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, *argv, stdout=asyncio.subprocess.PIPE, stderr=log, env={**os.environ, **env}
            )
        assert b"listens" in await self.process.stdout.readline()

    async def until(self, holds: Callable[[dict[str, pb.ClusterStatus]], bool], clusters: tuple[str, ...]) -> dict[str, pb.ClusterStatus]:
        """Report of all clusters until their statuses are so."""
        async with (
            asyncio.timeout(40.0),
            grpc.aio.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel,
        ):
            stub = head_pb2_grpc.HeadServiceStub(channel)
            while True:
                self._sequence += 1
                for name in clusters:
                    await stub.ReportDemand(report(self._sequence, cluster=name, snapshot=pb.Snapshot()))
                found = {each.cluster: each for each in (await stub.GetStatus(pb.GetStatusRequest())).clusters}
                if holds(found):
                    return found
                await asyncio.sleep(REPORT_S)

    async def want(self, cluster: str) -> None:
        """Report a task of one cluster that waits."""
        self._sequence += 1
        waiting = pb.Snapshot(
            state=gcs_pb2.ClusterResourceState(pending_resource_requests=[by_count(Bundle(Resources.of(CPU=1)), 1)]),
            jobs=[gcs_pb2.JobTableData(job_id=b"job1")],
        )
        async with grpc.aio.insecure_channel(self.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            await head_pb2_grpc.HeadServiceStub(channel).ReportDemand(report(self._sequence, cluster=cluster, snapshot=waiting))

    async def asked_within_s(self, cluster: str, asked_at: dict[str, float]) -> float:
        """Report a task of one cluster; return how long after that its plugin was asked for an instance."""
        began = time.monotonic()
        await self.want(cluster)
        await until(lambda: cluster in asked_at)
        return asked_at[cluster] - began

    async def end(self, number: int) -> None:
        self.process.send_signal(number)
        await self.process.wait()


@pytest.fixture
async def service(short_path) -> AsyncIterator[Service]:
    made = Service(short_path)
    yield made
    if made.process.returncode is None:
        await made.end(signal.SIGTERM)


def external_ids(status: pb.ClusterStatus) -> list[str]:
    return sorted(each.external_id for each in status.instances if each.status == "ALLOCATED")


async def test_clusters_are_launched_by_plugins_at_an_address_and_by_a_command_and_a_broken_one_delays_neither(service, short_path):
    sidecar = await asyncio.create_subprocess_exec(*PLUGIN, f"unix://{short_path / 'sidecar'}", stderr=asyncio.subprocess.DEVNULL)
    try:
        names = ("beside", "started", "broken", "absent")
        await service.start(
            {
                "beside": f"unix://{short_path / 'sidecar'}",
                "started": {"exec": PLUGIN},
                "broken": {"exec": [sys.executable, "-c", "print('hello')"]},
                "absent": f"unix://{short_path / 'nobody'}",
            }
        )
        found = await service.until(lambda told: all(len(external_ids(told[name])) == 2 for name in names[:2]), names)
        for name in names[:2]:
            assert all(each.startswith(f"fake-{name}-small-") for each in external_ids(found[name])), found[name]
        executor = dialled(short_path / "sidecar")
        assert [each.external_id for each in await executor.list("beside")] == external_ids(found["beside"])
        await executor.close()
        found = await service.until(lambda told: all(told[name].blind == "EXECUTOR_SILENT" for name in names[2:]), names)
        assert re.search("executor: UNAVAILABLE: the plugin python.* is .*: GARBAGE: ", shown(found["broken"]))
        assert re.search("executor: UNAVAILABLE: .*/nobody: ", shown(found["absent"]))
        assert [len(found[name].instances) for name in names] == [2, 2, 0, 0]
    finally:
        sidecar.terminate()
        await sidecar.wait()


async def test_a_plugin_at_a_name_is_dialled_over_tls_and_launches(service, short_path):
    ca = certificate(["authority"])
    (ca_file, _), plugins, own = (
        written(short_path, name, made)
        for name, made in (("ca", ca), ("plugin", certificate(["localhost"], ca)), ("own", certificate(["rayscaler"], ca)))
    )
    server = PluginServer(FakeExecutor(machines := FakeMachines(SystemClock())), name="tls.rayscaler.io")
    port = await server.start("127.0.0.1:0", _credentials(PluginSettings(tls=TlsFiles(ca_file, *plugins))))
    executors = {"named": f"dns:///localhost:{port}"}
    try:
        await service.start(executors)  # it is told of no authority
        found = await service.until(lambda told: told["named"].blind == "EXECUTOR_SILENT", ("named",))
        assert f"DENIED: plugin at {executors['named']}: RAYSCALER_EXECUTOR_CA is not set" in shown(found["named"])
        await service.end(signal.SIGTERM)
        files = {"CA": ca_file, "CERT": own[0], "KEY": own[1]}
        await service.start(executors, **{f"RAYSCALER_EXECUTOR_{name}": str(path) for name, path in files.items()})
        found = await service.until(lambda told: len(external_ids(told["named"])) == 2, ("named",))
        assert sorted(each.external_id for each in await FakeExecutor(machines).list("named")) == external_ids(found["named"])
        await service.end(signal.SIGTERM)
    finally:
        await server.stop()
        await machines.close()


SAID = {
    "forgets": "blind since .*: EXECUTOR_BROKEN; .*\n.* the executor: BROKEN_PLUGIN: .*/forgets: X11: it has begun forgets-small-",
    "changes": "blind since .*: EXECUTOR_BROKEN; .*\n.* the executor: BROKEN_PLUGIN: .*/changes: X9: changes-small-",
    "drips": "blind since .*: EXECUTOR_SILENT; .*\n.* the executor: UNAVAILABLE: .*/drips: .*(Deadline Exceeded|no end within 2.5 s|has said nothing for)",
    "silent-launch": "LAUNCH_ERROR .*BROKEN_PLUGIN: .*/silent-launch: X5: no result of silent-launch-small-",
    "invents": "nobodys .*X21: nobody here has asked for it",
}
"""What is said of plugins that lie, or answer a byte now and then."""


async def test_a_plugin_that_lies_or_drips_has_a_status_of_its_own_and_others_go_on(service, short_path, monkeypatch):
    monkeypatch.setattr(plugin_service, "BEAT_S", 1.0)  # as much faster as the service below
    made = {"forgets": liars.Forgets(), "changes": liars.ChangesIds(), "invents": liars.Invents(), "honest": liars.Honest()}
    launching = (*made, "drips")
    made["silent-launch"] = liars.NoResult()
    names, told = (*launching, "silent-launch"), dict.fromkeys(SAID, "")

    def are_seen(found: dict[str, pb.ClusterStatus]) -> bool:
        """Some are seen in between only: what one has lost is taken for gone at last, and what nobody needs is ended."""
        for name, said in SAID.items():
            told[name] = told[name] if re.search(said, told[name]) else shown(found[name])
        return all(re.search(said, told[name]) for name, said in SAID.items())

    async with contextlib.AsyncExitStack() as serving:
        for name, liar in made.items():
            await serving.enter_async_context(liars.served(liar, short_path / name))
        await serving.enter_async_context(liars.served(liars.Honest(), short_path / "slow"))
        slow = await serving.enter_async_context(loris.before(short_path / "slow", short_path / "drips"))
        await service.start({name: f"unix://{short_path / name}" for name in names}, RAYSCALER_TIME_FACTOR="10")
        await service.until(lambda found: all(len(external_ids(found[name])) == 2 for name in launching), names)
        for each in (*made.values(), slow):
            each.lies = each.drips = True
        try:
            await service.until(are_seen, names)
        except TimeoutError:
            pytest.fail("\n".join(told.values()))
        await service.until(  # on a busy machine a report may be too old by then, at ten times the pace
            lambda found: (found["invents"].blind, found["honest"].blind, len(external_ids(found["honest"]))) == ("", "", 2), names
        )
        await service.end(signal.SIGTERM)


def shown(status: pb.ClusterStatus) -> str:
    """Return what `rayscaler status` prints of a cluster."""
    console = Console(width=500)
    with console.capture() as capture:
        console.print(render(status))
    return capture.get()


async def test_a_launch_is_asked_for_as_soon_beside_plugins_that_stall_drip_or_are_gone(service, short_path):
    good, stalls, broken = liars.Notes(), liars.Stalls(), ("stalls", "drips", "gone")
    before, beside = ([f"{when}-{number}" for number in range(5)] for when in ("before", "beside"))
    async with contextlib.AsyncExitStack() as serving, contextlib.AsyncExitStack() as leaving:
        for each, name in ((good, "good"), (stalls, "stalls"), (liars.Honest(), "slow")):
            await serving.enter_async_context(liars.served(each, short_path / name))
        await leaving.enter_async_context(liars.served(liars.Honest(), short_path / "gone"))
        slow = await serving.enter_async_context(loris.before(short_path / "slow", short_path / "drips"))
        where = {**{name: name for name in broken}, **dict.fromkeys((*before, *beside), "good")}
        await service.start({name: f"unix://{short_path / path}" for name, path in where.items()}, min_workers=0)
        await service.until(lambda found: not any(found[name].blind for name in where), (*where,))
        alone_s = [await service.asked_within_s(name, good.asked_at) for name in before]
        stalls.lies = slow.drips = True
        await leaving.aclose()
        for name in broken:
            await service.want(name)
        await until(lambda: stalls.held and slow.dripped)
        beside_s = [await service.asked_within_s(name, good.asked_at) for name in beside]
        assert stalls.held == 1, "its first call is still under way"
        executor = dialled(short_path / "good")
        assert [len(await executor.list(name)) for name in (*before, *beside)] == [1] * 10
        await executor.close()
        await service.end(signal.SIGTERM)
    print(
        f"asked for after {median(alone_s):.3f} s alone, {median(beside_s):.3f} s beside them; at most {max(alone_s):.3f} and {max(beside_s):.3f}"
    )
    assert max(beside_s) < max(alone_s) + PluginTimings().call_s / 10


async def test_a_plugin_lives_over_a_kill_of_the_service_and_ends_with_its_orderly_end(service, short_path):
    def has_two(told: dict[str, pb.ClusterStatus]) -> bool:
        return len(external_ids(told["started"])) == 2

    await service.start({"started": {"exec": PLUGIN}})
    before = external_ids((await service.until(has_two, ("started",)))["started"])
    (place,) = (short_path / "state/plugins").iterdir()
    plugin = Identity(**json.loads((place / "plugin.json").read_text())["identity"])
    await service.end(signal.SIGKILL)
    assert SystemProcesses().is_alive(plugin)
    await service.start({"started": {"exec": PLUGIN}})
    # The fake keeps its instances in memory: that they are the same says that the plugin is.
    assert external_ids((await service.until(has_two, ("started",)))["started"]) == before
    await service.end(signal.SIGTERM)
    assert not SystemProcesses().is_alive(plugin)
