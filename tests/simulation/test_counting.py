"""Complaint D1 in its own sizes, all of rayscaler in virtual time; tests/ray/test_counting.py shows the same on real Ray with less of it."""

import asyncio

import pytest

from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from tests.counts import counted
from tests.simulation.whole import Whole, running

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime, pytest.mark.timeout(900)]

CPU = Resources.of(CPU=1)
RUNS, PER_CLUSTER = counted(gate=2, full=50), 2
IDLE_S = 20.0
PROCESS_S = 0.8
"""What a worker's process takes to start."""


def config(cpus: int, most: int) -> ClusterConfig:
    return ClusterConfig("demo", (NodeType("worker", Resources.of(CPU=cpus)),), max_workers=most, idle_timeout_s=IDLE_S)


@pytest.mark.parametrize("demand_lag_s", [0.7, 1.0, 2.0])
async def test_d1a_64_actors_get_exactly_64_nodes_in_every_run(demand_lag_s):
    for first in range(0, RUNS, PER_CLUSTER):
        async with running(config(1, 200), demand_lag_s=demand_lag_s) as whole:
            for run in range(first, first + PER_CLUSTER):
                began = len(whole.of("launch"))
                actors = whole.gcs.submit(CPU, 30)  # half of them run while the others still count as pending
                await asyncio.sleep(0.13 * run % 3)
                actors += whole.gcs.submit(CPU, 34)
                await asyncio.sleep(40)
                assert len(whole.gcs.running()) == 64
                assert (len(whole.of("launch")) - began, whole.nodes()) == (64, {"worker": 64}), run
                whole.gcs.finish(*actors)
                await asyncio.sleep(2 * IDLE_S)
                assert whole.nodes() == {}


def begin(whole: Whole, count: int) -> list[int]:
    """Submit tasks for CPUs that are free: they have them at once, and count as pending until their processes have started."""
    tasks = whole.gcs.submit(CPU, count)
    for each in tasks:
        whole.gcs.tasks[each].started_at += PROCESS_S
    assert len(whole.gcs.running()) == count
    return tasks


@pytest.mark.parametrize("demand_lag_s", [0.7, 2.0])
async def test_d1b_256_tasks_on_256_idle_cpus_launch_nothing(demand_lag_s):
    async with running(config(16, 64), demand_lag_s=demand_lag_s) as whole:
        whole.gcs.request_resources([CPU] * 256)
        await asyncio.sleep(15)
        assert whole.nodes() == {"worker": 16}
        for run in range(RUNS):
            tasks = begin(whole, 256)
            await asyncio.sleep(1.0 + 0.9 * (run % 5))
            whole.gcs.finish(*tasks)
            await asyncio.sleep(4.0 + 0.37 * (run % 7))
        assert len(whole.of("launch")) == 16


@pytest.mark.parametrize("demand_lag_s", [0.7, 2.0])
async def test_d1c_a_job_of_100_workers_repeated_with_no_pause_launches_nothing_again(demand_lag_s):
    async with running(config(4, 400), demand_lag_s=demand_lag_s) as whole:
        tasks = whole.gcs.submit(CPU, 400)
        await asyncio.sleep(40)
        assert whole.nodes() == {"worker": 100}
        for run in range(2 * RUNS):
            whole.gcs.finish(*tasks)
            await asyncio.sleep(0.6 + 0.07 * (run % 10))  # the next driver connects
            tasks = begin(whole, 400)
            await asyncio.sleep(7.0)
        assert len(whole.of("launch")) == 100
