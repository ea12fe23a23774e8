"""The fake Ray cluster does what the real one was seen to do."""

import asyncio

import pytest

from rayscaler import errors
from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.model.demand import Bundle, LabelCondition, LabelSelector, Operator, Strategy
from rayscaler.model.resources import Resources
from rayscaler.testing.fake_gcs import DRAINED_IDLE, DRAINED_PREEMPTED, FakeGcs
from rayscaler.testing.loop_clock import LoopClock
from tests.monitor.doors import drain_of

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

IDLE_TERMINATION, PREEMPTION = gcs_pb2.DRAIN_NODE_REASON_IDLE_TERMINATION, gcs_pb2.DRAIN_NODE_REASON_PREEMPTION
CPU = Resources.of(CPU=1)


def counts(state: gcs_pb2.ClusterResourceState) -> list[int]:
    return [each.count for each in state.pending_resource_requests]


async def test_tasks_show_as_demand_a_second_after_submission_and_a_second_too_long():
    ray = FakeGcs(LoopClock())
    ray.submit(CPU, 3)
    assert counts((await ray.read()).state) == []
    await asyncio.sleep(1.0)
    assert counts((await ray.read()).state) == [3]
    ray.join("w1", "small", Resources.of(CPU=2))
    assert len(ray.running()) == 2
    assert counts((await ray.read()).state) == [3]
    await asyncio.sleep(1.0)
    assert counts((await ray.read()).state) == [1]


async def test_tasks_end_after_their_runtime_and_make_room_for_the_next():
    ray = FakeGcs(LoopClock())
    node = ray.join("w1", "small", CPU)
    ray.submit(CPU, 3, runtime_s=2.0)
    await asyncio.sleep(4.5)
    assert len(ray.running()) == 1
    assert [task.ended_at for task in ray.tasks.values()] == [2.0, 4.0, None]
    await asyncio.sleep(5.5)
    assert ray.running() == []
    assert ray.nodes[node].idle_since == 6.0
    (row,) = (row for row in (await ray.read()).state.node_states if row.instance_id == "w1")
    assert (row.status, row.idle_duration_ms) == (gcs_pb2.NODE_STATUS_IDLE, 4000)


async def test_tasks_go_only_where_their_labels_are():
    ray = FakeGcs(LoopClock())
    wish = Bundle(CPU, (LabelSelector((LabelCondition("zone", Operator.IN, ("b",)),)),))
    ray.join("w1", "small", CPU, {"zone": "a"})
    ray.submit(wish)
    assert ray.running() == []
    ray.join("w2", "small", CPU, {"zone": "b"})
    assert [task.node.instance_id for task in ray.running()] == ["w2"]


async def test_an_idle_drain_ends_an_idle_node_and_is_refused_by_a_busy_one():
    ray = FakeGcs(LoopClock())
    busy = ray.join("w1", "small", CPU)
    (task,) = ray.submit(CPU)
    idle = ray.join("w2", "small", CPU)
    assert await ray.drain(drain_of(idle, IDLE_TERMINATION, "idle")) == (True, "")
    assert await ray.drain(drain_of(busy, IDLE_TERMINATION, "idle")) == (False, "The node to be idle terminated is no longer idle.")
    reading = await ray.read()
    assert reading.ended[idle].death_info.reason == DRAINED_IDLE
    assert [node.instance_id for node in ray.alive()] == ["w1"]
    ray.finish(task)
    assert await ray.drain(drain_of(busy, IDLE_TERMINATION, "idle")) == (True, "")


async def test_a_preempted_node_takes_no_new_task_and_dies_when_its_last_one_ends():
    ray = FakeGcs(LoopClock())
    node = ray.join("w1", "small", Resources.of(CPU=2))
    (task,) = ray.submit(CPU)
    assert await ray.drain(drain_of(node, PREEMPTION, "spot", LoopClock().now() + 60)) == (True, "")
    ray.submit(CPU)
    assert len(ray.running()) == 1
    reading = await ray.read()
    assert reading.draining[node] == int((LoopClock().now() + 60) * 1000)
    ray.finish(task)
    assert (await ray.read()).ended[node].death_info.reason == DRAINED_PREEMPTED


@pytest.mark.parametrize(
    ("strategy", "bundles", "cpus_of_nodes", "is_placed"),
    [
        (Strategy.STRICT_PACK, [1, 1], [1, 1], False),
        (Strategy.STRICT_PACK, [1, 1], [1, 2], True),
        (Strategy.STRICT_SPREAD, [1, 1], [2], False),
        (Strategy.STRICT_SPREAD, [1, 1], [1, 1], True),
        (Strategy.PACK, [1, 1], [1, 1], True),
        (Strategy.SPREAD, [1, 1], [2], True),
        (Strategy.PACK, [1, 1, 1], [1, 1], False),
    ],
)
async def test_gangs_are_placed_whole_or_wait(strategy, bundles, cpus_of_nodes, is_placed):
    ray = FakeGcs(LoopClock())
    for number, cpus in enumerate(cpus_of_nodes):
        ray.join(f"w{number}", "small", Resources.of(CPU=cpus))
    gang = ray.create_gang(strategy, [Resources.of(CPU=cpus) for cpus in bundles])
    state = (await ray.read()).state
    assert [each.details for each in state.pending_gang_resource_requests] == ([] if is_placed else [f"{gang}:{strategy.value}|PENDING"])
    assert any(f"_PG_{gang}" in row.dynamic_labels for row in state.node_states) == is_placed
    ray.remove_gang(gang)
    assert all(not node.uses for node in ray.alive())


async def test_tasks_of_a_dead_node_wait_again():
    ray = FakeGcs(LoopClock())
    node = ray.join("w1", "small", CPU)
    (task,) = ray.submit(CPU, runtime_s=5.0)
    await asyncio.sleep(1.0)
    ray.die(node)
    assert (ray.tasks[task].times_lost, ray.tasks[task].node) == (1, None)
    await asyncio.sleep(1.0)
    assert counts((await ray.read()).state) == [1]
    ray.join("w2", "small", CPU)
    await asyncio.sleep(5.0)
    assert ray.running() == []
    assert ray.tasks[task].ended_at == 7.0


async def test_a_restart_loses_constraint_and_state_and_without_the_id_everything():
    ray = FakeGcs(LoopClock())
    ray.join("w1", "small", CPU)
    ray.request_resources([CPU])
    await ray.report_state(gcs_pb2.AutoscalingState(autoscaler_state_version=3))
    before = await ray.read()
    ray.restart(keeps_id=True)
    same = await ray.read()
    assert (same.cluster_id, same.state.cluster_resource_state_version) == (before.cluster_id, 1)
    assert not same.state.cluster_resource_constraints
    assert ray.told is None
    assert len(ray.alive()) == 1
    ray.restart()
    other = await ray.read()
    assert other.cluster_id != before.cluster_id
    assert other.gcs_life > same.gcs_life > before.gcs_life
    assert ray.alive() == []


async def test_an_empty_request_leaves_an_empty_constraint():
    ray = FakeGcs(LoopClock())
    assert len((await ray.read()).state.cluster_resource_constraints) == 0
    ray.request_resources([])
    assert len((await ray.read()).state.cluster_resource_constraints) == 1


async def test_an_older_state_is_ignored_as_the_real_gcs_does():
    ray = FakeGcs(LoopClock())
    for version in (5, 4):
        await ray.report_state(gcs_pb2.AutoscalingState(autoscaler_state_version=version))
    assert ray.told.autoscaler_state_version == 5


async def test_while_it_is_down_every_call_is_unavailable():
    ray = FakeGcs(LoopClock())
    ray.is_down = True
    with pytest.raises(errors.Unavailable):
        await ray.read()
