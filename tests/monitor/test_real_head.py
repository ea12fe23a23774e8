"""A real monitor beside a real head: what it sees of a busy cluster, what `ray status` shows of its state, what it costs."""

import asyncio
import contextlib
import os
import re
import sys
from pathlib import Path

import pytest

import rayscaler
from rayscaler import errors
from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.api.head.v1 import head_pb2
from rayscaler.clock import SystemClock
from rayscaler.local.head import HeadOptions
from rayscaler.model.command import AutoscalingState, FailedLaunch, PendingInstance, ReportAnswer, TellCommand
from rayscaler.model.demand import Constraint, Demand, Operator, Snapshot, Strategy
from rayscaler.model.node import NodeStatus
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.monitor import kv
from rayscaler.monitor.auth import TokenSource
from rayscaler.monitor.gcs import GrpcGcs
from rayscaler.monitor.link import ClusterLine, GcsLink
from rayscaler.monitor.main import V1_MODE
from rayscaler.server import answers, told
from tests.monitor.doors import drain_of, read
from tests.monitor.real import PATIENCE_S, beside, ray_status, rows
from tests.monitor.recorder import recording
from tests.ray_tier import RayHead, running_head

pytestmark = pytest.mark.tier("ray")

BUSY = """
import sys, time
from ray.autoscaler.sdk import request_resources
from ray.util.placement_group import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy
@ray.remote(num_cpus=1)
def hold(): time.sleep(600)
placed = placement_group([{"CPU": 1}], strategy="PACK")
assert placed.wait(60)
inside = [hold.options(scheduling_strategy=PlacementGroupSchedulingStrategy(placed)).remote() for _ in range(3)]
tasks = [hold.options(num_cpus=4).remote() for _ in range(5)]
tasks.append(hold.options(num_cpus=0.3, resources={"y": 0.0001}).remote())
tasks.append(hold.options(num_cpus=5, label_selector={"zone": "!in(a,b)"}, fallback_strategy=[{"label_selector": {"zone": "c"}}]).remote())
groups = [placement_group([{"CPU": 2}] * 3 + [{"GPU": 1}], strategy=each) for each in ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")]
groups.append(placement_group([{"CPU": 9}] * 2, bundle_label_selector=[{"zone": "c"}] * 2))
request_resources(bundles=[{"CPU": 3}] * 4)
print("asked", flush=True)
sys.stdin.close()
time.sleep(600)
"""

STAYS_S = 5.0
"""Longer than any cache of the monitor's, and than Ray takes to clear up behind a driver."""

TAKE_BACK = "from ray.autoscaler.sdk import request_resources\nrequest_resources(bundles=[])\nprint('taken back')"


def shapes(demands: tuple[Demand, ...]) -> dict[tuple[tuple[str, int], ...], int]:
    return {tuple(sorted(demand.bundle.resources.items())): demand.count for demand in demands}


async def test_a_busy_head_is_seen_as_its_user_made_it(ray_head):
    node_type = NodeType("small", Resources.of(CPU=1, x=4), labels=(("zone", "a"),))
    async with beside(ray_head.local_address) as monitor:
        first = await monitor.until(lambda taken: bool(taken.nodes))
        assert read(first.snapshot).constraint is None
        assert first.ray_version
        assert first.session.session_name == ray_head.session
        await ray_head.add_worker("demo-small-1-0", node_type=node_type)
        driver = await ray_head.start_driver(BUSY)
        assert await driver.line() == "asked"
        wanted = {(("CPU", 40_000),): 5, (("CPU", 3_000), ("y", 1)): 1, (("CPU", 50_000),): 1}
        # Ray tells of each in its own time, and a reading may lie between the demands and the constraint.
        report = await monitor.until(
            lambda taken: shapes(taken.demands) == wanted and len(taken.gangs) == 5 and taken.constraint is not None and holds_group(taken)
        )
        check_busy(read(report.snapshot))
        assert await ray_head.driver(TAKE_BACK) == "taken back"
        await monitor.until(lambda taken: taken.constraint == Constraint())
        await driver.close()
        await monitor.until(lambda taken: taken.live_jobs == 0 and not taken.demands and not taken.gangs)


def holds_group(taken: Snapshot) -> bool:
    """Whether the worker is seen to hold the placed group."""
    return all("CPU" not in each.available and each.dynamic_labels for each in rows(taken, "demo-small-1-0"))


def check_busy(taken: Snapshot) -> None:
    """Check all but the demands' counts."""
    (labelled,) = (each.bundle for each in taken.demands if each.bundle.selectors)
    assert [[(c.key, c.operator, sorted(c.values)) for c in each.conditions] for each in labelled.selectors] == [
        [("zone", Operator.NOT_IN, ["a", "b"])],
        [("zone", Operator.IN, ["c"])],
    ]
    plain = {gang.strategy: shapes(gang.bundles) for gang in taken.gangs if not gang.bundles[0].bundle.selectors}
    assert plain.keys() == set(Strategy)
    assert all(each == {(("CPU", 20_000),): 3, (("GPU", 10_000),): 1} for each in plain.values())
    assert shapes(taken.constraint.demands) == {(("CPU", 30_000),): 4}
    assert taken.live_jobs == 1
    (worker,) = rows(taken, "demo-small-1-0")
    assert (worker.node_type, worker.total["CPU"], worker.total["x"], dict(worker.labels)["zone"]) == ("small", 10_000, 40_000, "a")
    assert "CPU" not in worker.available
    assert not any("_group_" in name for name in [*worker.total, *worker.available])
    assert [label for label in worker.dynamic_labels if label.startswith("_PG_")]
    assert [node.ray_node_id != worker.ray_node_id for node in taken.nodes if node.is_head] == [True]


LEFT_BEHIND = """
import time
from ray.util.placement_group import placement_group
@ray.remote(num_cpus=1000)
def huge(): pass
@ray.remote(num_cpus=3)
class Waits: pass
task = huge.remote()
group = placement_group([{"CPU": 50}] * 2)
if KEPT:
    kept = placement_group([{"CPU": 60}] * 2, lifetime="detached", name="kept")
    actor = Waits.options(lifetime="detached", name="kept", namespace="t").remote()
print("waits")
time.sleep(600)
"""


@pytest.mark.parametrize("keeps", [False, True], ids=["nothing detached", "a detached actor and group"])
async def test_e1_of_a_driver_killed_with_9_only_what_is_detached_still_waits(ray_head, keeps):
    async with beside(ray_head.local_address) as monitor:
        driver = await ray_head.start_driver(f"KEPT = {keeps}\n{LEFT_BEHIND}")
        assert await driver.line() == "waits"
        wanted = {(("CPU", 10_000_000),): 1, **({(("CPU", 30_000),): 1} if keeps else {})}
        report = await monitor.until(lambda taken: shapes(taken.demands) == wanted and len(taken.gangs) == 1 + keeps)
        assert (read(report.snapshot).live_jobs, read(report.snapshot).live_detached_actors) == (1, 0)
        assert not any(gang.is_orphaned for gang in read(report.snapshot).gangs)
        loop = asyncio.get_running_loop()
        killed_at = loop.time()
        await driver.close()
        await monitor.until(lambda taken: taken.live_jobs == 0 and taken.live_detached_actors == keeps)
        noticed_at = loop.time()
        report = await monitor.until(
            lambda taken: [sum(each.count for each in gang.bundles) for gang in taken.gangs if not gang.is_orphaned] == [2] * keeps
        )
        left = {(("CPU", 30_000),): 1} if keeps else {}
        report = await monitor.until(lambda taken: shapes(taken.demands) == left)
        print(f"no live job told {noticed_at - killed_at:.2f} s after the kill, Ray showed its demand for {loop.time() - killed_at:.2f} s")
        assert [shapes(gang.bundles) for gang in read(report.snapshot).gangs if not gang.is_orphaned] == [{(("CPU", 600_000),): 2}] * keeps
        if keeps:
            await asyncio.sleep(STAYS_S)  # what may not happen needs time to happen
            taken = read(monitor.service.snapshots[-1].snapshot)
            assert (taken.live_detached_actors, shapes(taken.demands), [gang.is_orphaned for gang in taken.gangs]) == (1, left, [False])


async def test_a_head_in_v1_mode_is_reported_and_says_so_to_drivers_and_in_its_status_until_it_is_put_right():
    async with running_head(HeadOptions(env=(("RAY_enable_autoscaler_v2", "0"),))) as head:
        link = GcsLink(head.local_address, TokenSource({}), call_timeout_s=5.0)
        line = ClusterLine(link, "", 0)
        async with beside(head.local_address) as monitor:
            report = await monitor.report(lambda request: request.v1_mode)
            assert report.HasField("snapshot")
            async with asyncio.timeout(PATIENCE_S):
                while V1_MODE not in (said := await told_to_drivers(head)):
                    pass  # the report goes out while the notice is still on its way
            print(said)
            assert f"rayscaler: {V1_MODE}" in await ray_status(head)
        await kv.set_notice(line, "")
        assert V1_MODE not in await told_to_drivers(head)
        await link.close()


async def told_to_drivers(head: RayHead) -> str:
    """Return what a driver prints that connects."""
    code = f"import ray; ray.init(address={head.address!r})"
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    out, _ = await child.communicate()
    assert child.returncode == os.EX_OK, out.decode()
    return out.decode()


async def test_a_head_in_v2_mode_says_nothing_to_drivers(shared_head):
    async with beside(shared_head.local_address) as monitor:
        await monitor.until(lambda taken: bool(taken.nodes))
        assert not monitor.service.last.v1_mode
        assert "rayscaler" not in await told_to_drivers(shared_head)


LISTENS = """
import sys, time, ray
ray.init(address=sys.argv[1])
print("listens", flush=True)
time.sleep(600)
"""


async def test_wc_11_a_connected_driver_prints_what_it_is_told_as_the_autoscalers(shared_head):
    gcs = GrpcGcs(shared_head.local_address, SystemClock(), TokenSource({}))
    await gcs.read()
    answer = answers.report_answer(ReportAnswer((TellCommand("t", ("it cannot be",)),), (), None, 1.0, wants_snapshot=False))
    events = answer.commands[0].tell_drivers
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", LISTENS, shared_head.address, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert child.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            while b"listens" not in await child.stdout.readline():
                pass
            line = b""
            while b"cannot be" not in line:
                await gcs.tell_drivers(events)  # a driver subscribes a moment after it has connected
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1.0):
                        line = await child.stdout.readline()
    finally:
        child.kill()
        await child.wait()
        await gcs.close()
    print(line.decode())
    assert re.search(r"\(autoscaler \+\d+s.*\).* it cannot be", line.decode())


async def test_an_idle_cluster_sends_heartbeats_only(shared_head):
    async with beside(shared_head.local_address) as monitor:
        await monitor.until(lambda taken: any(node.status == NodeStatus.IDLE for node in taken.nodes))
        start = len(monitor.service.reports)
        await monitor.report(  # a head that has just come up, or was just left by another test's driver, may change once more
            lambda _: len(last := monitor.service.reports[start:][-3:]) == 3 and not any(each.HasField("snapshot") for each in last)
        )


async def test_rays_own_status_shows_launches_instances_and_failures(shared_head):
    state = AutoscalingState(
        1,
        1,
        requested=(PendingInstance("", "small", "", 0.0),) * 2,
        pending=(PendingInstance("demo-large-1-0", "large", "Unschedulable", 0.0),),
        failed=(FailedLaunch("gpu", "no room", 10.0, 20.0),),
    )
    async with beside(shared_head.local_address) as monitor:
        monitor.service.state = told.autoscaling_state(state)
        await monitor.report(lambda request: request.reported_state_version == 1)
        shown = await ray_status(shared_head)
    assert "small, 2 launching" in shown
    assert "demo-large-1-0: large, unschedulable" in shown
    assert re.search(r"gpu: LaunchFailed \(latest_attempt: .*\) - no room", shown)


async def test_a_head_with_a_token_answers_the_monitor_that_finds_the_token_and_no_other(tmp_path):
    """No RAY_AUTH_MODE is set: the head turns token authentication on by itself because the token exists."""
    path = tmp_path / "token"
    path.write_text("0123456789abcdef0123456789abcdef\n")
    async with running_head(HeadOptions(env=(("RAY_AUTH_TOKEN_PATH", str(path)),))) as head:
        without = GrpcGcs(head.local_address, SystemClock(), TokenSource({"HOME": str(tmp_path)}))
        with pytest.raises(errors.Unauthenticated, match=r"refuses the authentication token.*none found"):
            await without.read()
        await without.close()
        async with beside(head.local_address, RAY_AUTH_TOKEN_PATH=str(path)) as monitor:
            await monitor.until(lambda taken: bool(taken.nodes))
            monitor.service.state = gcs_pb2.AutoscalingState(autoscaler_state_version=1)
            await monitor.report(lambda request: request.reported_state_version == 1)


async def test_a_token_does_no_harm_at_a_head_without_one(shared_head):
    async with beside(shared_head.local_address, RAY_AUTH_TOKEN="superfluous") as monitor:
        await monitor.until(lambda taken: bool(taken.nodes))


async def test_ray_takes_a_drain_of_a_node_that_it_does_not_know_so_we_must_not(shared_head):
    """Why the monitor asks itself first (its own test is in test_loop)."""
    gcs = GrpcGcs(shared_head.local_address, SystemClock(), TokenSource({}))
    await gcs.read()
    assert await gcs.drain(drain_of("aa" * 28, gcs_pb2.DRAIN_NODE_REASON_PREEMPTION)) == (True, "")
    await gcs.close()


MONITOR = """
import asyncio, sys
from rayscaler.monitor.main import run
from rayscaler.settings import MonitorSettings
asyncio.run(run(MonitorSettings(cluster="demo", gcs=sys.argv[1], service=sys.argv[2])))
"""


def cost_of(pid: int) -> tuple[int, str]:
    """Return resident KiB, and the files mapped."""
    proc = Path(f"/proc/{pid}")
    return int(re.search(r"VmRSS:\s+(\d+) kB", (proc / "status").read_text())[1]), (proc / "maps").read_text()


async def test_a_monitor_that_reports_needs_less_than_60_mib_and_nothing_of_ray(shared_head):
    async with recording() as service:
        answer = head_pb2.ReportDemandResponse(want_snapshot=True)
        service.answers["ReportDemand"] = answer.SerializeToString()
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", MONITOR, shared_head.local_address, service.address)
        try:
            async with asyncio.timeout(PATIENCE_S):
                await service.has_calls(20)
            rss_kib, mapped = cost_of(child.pid)
        finally:
            child.terminate()
            await child.wait()
    print(f"RSS of a reporting monitor: {rss_kib / 1024:.1f} MiB")
    assert rss_kib < 60 * 1024
    assert "_raylet" not in mapped
    assert all(head_pb2.ReportDemandRequest.FromString(request).snapshot.state.node_states for _, request, _ in service.calls)


IMPORT = """
import time
started = time.process_time()
import rayscaler.monitor.main
print(time.process_time() - started)
import sys
assert "ray" not in sys.modules
"""


async def test_importing_the_monitor_takes_less_than_half_a_second_of_processor_time():
    """The best of five: other processes' noise only ever adds."""
    times = []
    for _ in range(5):
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-c", IMPORT, stdout=asyncio.subprocess.PIPE, cwd=Path(rayscaler.__file__).parents[1]
        )
        out, _ = await child.communicate()
        assert child.returncode == os.EX_OK
        times.append(float(out))
    print(f"import: {min(times):.2f} s")
    assert min(times) < 0.5
