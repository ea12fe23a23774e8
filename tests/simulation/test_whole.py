"""A whole scale-up and scale-down with no real time: monitor, service and planner are the real ones."""

import asyncio
import statistics

import pytest

from rayscaler.model.demand import Strategy
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from rayscaler.testing.fake_gcs import job_id
from tests.simulation.whole import Whole, running

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

CPU = Resources.of(CPU=1)
SMALL = NodeType("small", Resources.of(CPU=2), max_workers=20)
LARGE = NodeType("large", Resources.of(CPU=8), max_workers=4)
ACCEL = NodeType("accel", Resources.of(CPU=1, fpga=1), max_workers=2)


def cluster(*types: NodeType, idle_timeout_s: float = 10.0) -> ClusterConfig:
    return ClusterConfig("demo", types or (SMALL,), max_workers=24, idle_timeout_s=idle_timeout_s)


def check_ends(whole: Whole) -> None:
    """Law of every run: no task died with its node, and each end came after an accepted drain of that instance."""
    assert sum(task.times_lost for task in whole.gcs.tasks.values()) == 0
    assert whole.of("lost") == []
    for at, what, name in whole.events:
        if what == "terminate":
            assert any(kind == "drained" and other == name and when <= at for when, kind, other in whole.events), name


async def test_tasks_become_exactly_the_nodes_they_need_and_go_when_they_have_been_idle():
    async with running(cluster()) as whole:
        await asyncio.sleep(3)
        tasks = whole.gcs.submit(CPU, 12)
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(15)
        # Up: six nodes of two CPUs, asked for at once when Ray showed the demand, and no more though it shows it late.
        assert len(whole.gcs.running()) == 12
        assert whole.nodes() == {"small": 6}
        assert len(whole.of("launch")) == 6
        assert max(whole.when("launch")) - began <= 1.0 + 0.5 + 0.1  # Ray's lag, one reading, one coalescing
        assert whole.gcs.told is not None
        assert not whole.gcs.told.pending_instances
        # Down: nothing while they run, then each is drained, seen dead, ended.
        await asyncio.sleep(300)
        assert whole.of("drained") == whole.of("terminate") == []
        whole.gcs.finish(*tasks)
        idle_from = asyncio.get_running_loop().time()
        await asyncio.sleep(9)
        assert whole.of("drained") == []
        await asyncio.sleep(16)
        assert min(whole.when("drained")) - idle_from >= 10.0
        names = sorted(whole.of("launch"))
        assert sorted(whole.of("drained")) == sorted(whole.of("terminate")) == sorted(whole.of("gone")) == names
        assert whole.nodes() == {}
        assert whole.machines.machines == {}
        check_ends(whole)


@pytest.mark.parametrize("demand_lag_s", [1.0, 2.0])
@pytest.mark.parametrize("every_s", [0.5, 2.0, 5.0])
async def test_whoever_streams_work_in_waits_for_no_room_that_is_long_taken(every_s, demand_lag_s):
    async with running(cluster(), demand_lag_s=demand_lag_s) as whole:
        submitted_at = []
        for _ in range(32):
            submitted_at.append(asyncio.get_running_loop().time())
            whole.gcs.submit(CPU, 1)
            await asyncio.sleep(every_s)
        await asyncio.sleep(30.0)
        assert len(whole.gcs.running()) == 32
        shown_at = [at + demand_lag_s for at in submitted_at[::2]]  # each second task needs another node
        waits = [at - shown for at, shown in zip(sorted(whole.when("launch")), shown_at, strict=True)]
        assert statistics.median(waits) <= 4.0, waits
        assert max(waits[:-4]) <= 7.0, waits
        assert max(waits) <= 15.0, waits  # the last ones: nothing comes after them to tell their demand from what has landed


@pytest.mark.parametrize("after_s", [0.0, 0.3, 0.6, 0.9, 1.2, 1.5, 1.8, 2.1])
async def test_an_idle_node_is_drained_with_the_heartbeat_after_its_time_whenever_that_began(after_s):
    async with running(cluster(idle_timeout_s=60.0)) as whole:
        tasks = whole.gcs.submit(CPU, 2)
        await asyncio.sleep(30.0 + after_s)
        whole.gcs.finish(*tasks)
        idle_from = asyncio.get_running_loop().time()
        await asyncio.sleep(65.0)
        (drained_at,) = whole.when("drained")
        assert 60.0 <= drained_at - idle_from <= 61.0  # a heartbeat every 0.4 s: one tells, one fetches the drain


@pytest.mark.parametrize("demand_lag_s", [0.2, 1.0, 2.0])
@pytest.mark.parametrize("count", [1, 7, 20])
async def test_d1_no_overshoot_whatever_the_lag_of_the_demand(count, demand_lag_s):
    async with running(cluster(), demand_lag_s=demand_lag_s) as whole:
        whole.gcs.submit(CPU, count)
        await asyncio.sleep(60)
        assert len(whole.gcs.running()) == count
        assert len(whole.of("launch")) == -(-count // 2)


@pytest.mark.parametrize("demand_lag_s", [1.0, 2.0])
async def test_d1_a_second_run_right_after_the_first_launches_nothing(demand_lag_s):
    async with running(cluster(idle_timeout_s=60.0), demand_lag_s=demand_lag_s) as whole:
        for _ in range(6):
            whole.gcs.submit(CPU, 12, runtime_s=7.0)
            await asyncio.sleep(20 if not whole.of("join") else 7.0)
        assert len(whole.of("launch")) == 6


async def test_more_work_while_some_runs_launches_only_what_it_lacks():
    async with running(cluster(idle_timeout_s=100.0)) as whole:
        whole.gcs.submit(CPU, 4)
        await asyncio.sleep(20)
        whole.gcs.submit(CPU, 6)
        await asyncio.sleep(20)
        assert len(whole.gcs.running()) == 10
        assert whole.nodes() == {"small": 5}
        assert len(whole.of("launch")) == 5


async def test_an_actor_gang_is_placed_whole_and_a_strict_spread_on_nodes_of_its_own():
    async with running(cluster(SMALL, LARGE)) as whole:
        gang = whole.gcs.create_gang(Strategy.STRICT_SPREAD, [Resources.of(CPU=2)] * 4)
        await asyncio.sleep(10)
        placed = whole.gcs.gangs[gang].nodes
        assert len({node.ray_node_id for node in placed}) == 4
        assert len(whole.of("launch")) == 4
        assert min(whole.when("launch")) <= 0.7  # groups are shown at once
        whole.gcs.remove_gang(gang)
        await asyncio.sleep(30)
        assert whole.nodes() == {}
        check_ends(whole)


async def test_a_gang_that_can_never_be_whole_launches_nothing_and_is_told_infeasible():
    async with running(cluster(ACCEL)) as whole:
        whole.gcs.create_gang(Strategy.STRICT_PACK, [Resources.of(fpga=1)] * 2)
        whole.gcs.submit(Resources.of(CPU=1, fpga=1), 2)
        await asyncio.sleep(15)
        assert whole.nodes() == {"accel": 2}
        assert whole.gcs.told is not None
        assert len(whole.gcs.told.infeasible_gang_resource_requests) == 1
        assert not whole.gcs.told.infeasible_resource_requests


async def test_each_shape_gets_a_node_that_holds_it():
    async with running(cluster(SMALL, LARGE, ACCEL)) as whole:
        whole.gcs.submit(Resources.of(CPU=8), 2)
        whole.gcs.submit(Resources.of(fpga=1), 1)
        await asyncio.sleep(15)
        assert len(whole.gcs.running()) == 3
        assert whole.nodes() == {"large": 2, "accel": 1}


async def test_request_resources_keeps_its_room_until_it_is_taken_back():
    async with running(cluster()) as whole:
        whole.gcs.request_resources([CPU] * 6)
        await asyncio.sleep(60)
        assert whole.nodes() == {"small": 3}
        whole.gcs.request_resources([])
        await asyncio.sleep(30)
        assert whole.nodes() == {}
        check_ends(whole)


async def test_e2_request_resources_ends_with_the_driver_that_asked_though_another_lives():
    async with running(cluster()) as whole:
        whole.gcs.request_resources([CPU] * 6)
        await asyncio.sleep(30)
        whole.gcs.jobs.add(job_id(2))
        await asyncio.sleep(60)
        assert whole.nodes() == {"small": 3}
        whole.gcs.jobs.remove(job_id(1))
        await asyncio.sleep(60)
        assert whole.nodes() == {}
        check_ends(whole)


async def test_c4_work_that_arrives_all_through_the_scale_down_loses_nothing():
    async with running(cluster(idle_timeout_s=2.0)) as whole:
        for cycle in range(10):
            whole.gcs.submit(CPU, 6, runtime_s=3.0)
            for step in range(40):  # one short task at a time, at odd moments, while nodes are drained
                whole.gcs.submit(CPU, 1, runtime_s=0.3 + 0.07 * (step % 5))
                await asyncio.sleep(0.37 + 0.01 * cycle)
        await asyncio.sleep(40)
        assert [task for task in whole.gcs.tasks.values() if task.ended_at is None] == []
        assert whole.nodes() == {}
        assert len(whole.of("terminate")) >= 10
        check_ends(whole)


async def test_the_service_can_be_killed_at_any_moment_and_neither_doubles_nor_loses_a_worker():
    for moment in (0.3, 0.9, 1.2, 1.56, 2.1, 3.5, 4.4, 5.2):
        async with running(cluster()) as whole:
            whole.gcs.submit(CPU, 8)
            await asyncio.sleep(moment)
            await whole.kill("service")
            whole.transport.is_down = True
            await asyncio.sleep(1.3)
            whole.transport.is_down = False
            whole.start_service()
            await asyncio.sleep(25)
            assert len(whole.gcs.running()) == 8, moment
            assert whole.nodes() == {"small": 4}, moment
            assert len(set(whole.of("launch"))) == 4, moment


async def test_the_service_can_be_killed_all_through_a_scale_down():
    for moment in (9.0, 10.2, 10.6, 11.2, 12.4, 13.1):
        async with running(cluster()) as whole:
            tasks = whole.gcs.submit(CPU, 6)
            await asyncio.sleep(12)
            whole.gcs.finish(*tasks)
            await asyncio.sleep(moment)
            await whole.kill("service")
            whole.start_service()
            await asyncio.sleep(40)
            assert whole.nodes() == {}, moment
            assert whole.machines.machines == {}, moment
            check_ends(whole)


async def test_a_monitor_that_is_started_anew_takes_over_and_nothing_is_launched_twice():
    async with running(cluster()) as whole:
        whole.gcs.submit(CPU, 8)
        await asyncio.sleep(2)
        await whole.kill("monitor")
        whole.start_monitor()
        await asyncio.sleep(20)
        assert whole.nodes() == {"small": 4}
        assert len(whole.of("launch")) == 4


async def test_a_gcs_that_is_down_for_a_while_ends_nothing():
    async with running(cluster(idle_timeout_s=5.0)) as whole:
        whole.gcs.submit(CPU, 4)
        await asyncio.sleep(12)
        whole.gcs.is_down = True
        await asyncio.sleep(60)
        whole.gcs.restart(keeps_id=True)
        whole.gcs.is_down = False
        await asyncio.sleep(20)
        assert whole.nodes() == {"small": 2}
        assert whole.of("terminate") == []
        assert len(whole.of("launch")) == 2


async def test_a_worker_that_dies_is_replaced_and_its_task_runs_again():
    async with running(cluster()) as whole:
        whole.gcs.submit(CPU, 2)
        await asyncio.sleep(10)
        whole.machines.lose(whole.of("join")[0])
        await asyncio.sleep(15)
        assert len(whole.gcs.running()) == 2
        assert whole.nodes() == {"small": 1}
        assert len(whole.of("launch")) == 2


async def test_the_heads_own_room_is_used_first():
    async with running(cluster(), head=Resources.of(CPU=4)) as whole:
        whole.gcs.submit(CPU, 6)
        await asyncio.sleep(15)
        assert len(whole.gcs.running()) == 6
        assert whole.nodes() == {"small": 1}
