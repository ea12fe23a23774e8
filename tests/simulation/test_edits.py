"""Complaint K1, scenario 8: two hundred random edits of a definition while tasks come and go; in virtual time, seen from outside."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.model.nodetype import ClusterConfig, NodeType, UpdatePolicy
from rayscaler.model.resources import Resources
from tests.monitor.doors import drain_of
from tests.simulation.whole import Whole, running

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime, pytest.mark.timeout(60)]

NAMES = ("ant", "bee", "cow", "dog")
SEEDS, EDITS = (2, 4), 200
"""With these, launches are called off at the very moment at which they join."""
SHAPES = (Resources.of(CPU=1), Resources.of(CPU=2), Resources.of(CPU=1, GPU=1))
IDLE_S = (5.0, 20.0, 60.0)


def some_type(rng: random.Random, name: str) -> NodeType:
    maximum = rng.choice([0, 1, 3, 6, 12])
    return NodeType(
        name,
        Resources.of(CPU=rng.choice([1, 2, 4]), GPU=rng.choice([0, 0, 1])),
        labels=(("zone", rng.choice("ab")),),
        min_workers=rng.choice([0, 0, min(2, maximum)]),
        max_workers=maximum,
        idle_timeout_s=rng.choice([None, *IDLE_S]),
        env=(("V", rng.choice("12")),),
    )


def edited(rng: random.Random, config: ClusterConfig) -> ClusterConfig:
    """Add, remove, rename or change a type, its limits, or the cluster's."""
    types = {each.name: each for each in config.node_types}
    free = [name for name in NAMES if name not in types]
    what = rng.choice(["add", "remove", "rename", "make", "limits", "limits", "timeouts", "cluster", "nothing"])
    if what == "add" and free:
        name = rng.choice(free)
        types[name] = some_type(rng, name)
    elif what == "cluster":
        least = sum(each.min_workers for each in types.values())
        return replace(config, max_workers=max(least, rng.choice([4, 10, 30])))
    elif types and what != "nothing":
        name = rng.choice(sorted(types))
        new = some_type(rng, name)
        if what in ("remove", "rename"):
            old = types.pop(name)
            if what == "rename" and free:
                types[free[0]] = replace(old, name=free[0])
        elif what == "make":
            types[name] = replace(types[name], resources=new.resources, labels=new.labels, env=new.env)
        elif what == "limits":
            types[name] = replace(types[name], min_workers=new.min_workers, max_workers=new.max_workers)
        else:
            types[name] = replace(types[name], idle_timeout_s=new.idle_timeout_s)
    least = sum(each.min_workers for each in types.values())
    return replace(config, node_types=tuple(types.values()), max_workers=max(config.max_workers, least), idle_timeout_s=rng.choice(IDLE_S))


@contextlib.asynccontextmanager
async def ending_as_ray_does(whole: Whole) -> AsyncIterator[None]:
    """Let a worker that is told to end drain itself first, as `ray start` does for up to 30 s: it may have joined and be at work by then."""
    tell, ending = whole.executor.terminate, {}

    async def end(cluster: str, instance_id: str) -> None:
        for node in whole.gcs.alive():
            if node.instance_id == instance_id:
                whole.note("joined while it was called off", instance_id)
                await whole.gcs.drain(drain_of(node.ray_node_id, gcs_pb2.DRAIN_NODE_REASON_PREEMPTION, "received SIGTERM"))
        until = asyncio.get_running_loop().time() + 30.0
        while any(node.instance_id == instance_id for node in whole.gcs.alive()) and asyncio.get_running_loop().time() < until:  # noqa: ASYNC110 - the fake has no event for it
            await asyncio.sleep(0.1)
        await tell(cluster, instance_id)

    async def terminate(cluster: str, instance_id: str) -> None:
        if instance_id not in ending:
            ending[instance_id] = asyncio.create_task(end(cluster, instance_id))

    whole.executor.terminate = terminate
    try:
        yield
    finally:
        for task in ending.values():
            task.cancel()
        await asyncio.gather(*ending.values(), return_exceptions=True)


@pytest.mark.parametrize("seed", SEEDS)
async def test_k1_after_two_hundred_edits_under_load_nothing_busy_has_ended_and_no_orphan_is_left(seed):
    rng = random.Random(seed)
    async with (
        running(ClusterConfig("demo", tuple(some_type(rng, name) for name in NAMES[:2]), max_workers=30, idle_timeout_s=20.0)) as whole,
        ending_as_ray_does(whole),
    ):
        for number in range(EDITS):
            whole.config = edited(rng, whole.config)
            whole.reconciler.redefine(whole.config, str(number))
            for _ in range(rng.choice([0, 1, 2])):
                whole.gcs.submit(rng.choice(SHAPES), rng.randint(1, 4), runtime_s=rng.choice([0.5, 3.0, 10.0, 25.0]))
            await asyncio.sleep(rng.choice([0.05, 0.5, 2.0, 4.0]))
        for name, task in whole.tasks.items():
            assert not task.done(), (name, task)
        # The last edit stands, and everything that waits is served or ended: what is left is what it asks for.
        final = (replace(some_type(rng, "dog"), resources=Resources.of(CPU=4, GPU=2), min_workers=2, max_workers=12, idle_timeout_s=None),)
        whole.config = ClusterConfig("demo", final, max_workers=30, idle_timeout_s=5.0)
        whole.reconciler.redefine(whole.config, "last")
        for _ in range(200):
            await asyncio.sleep(5)
            if all(task.ended_at is not None for task in whole.gcs.tasks.values()):
                break
        await asyncio.sleep(40)
        assert [task for task in whole.gcs.tasks.values() if task.ended_at is None] == []
        assert whole.nodes() == {"dog": 2}
        assert {machine.spec.node_type.resources for machine in whole.machines.machines.values()} == {final[0].resources}
        assert len(whole.machines.machines) == len(whole.reconciler.status().instances) == 2
        assert (whole.of("lost"), sum(task.times_lost for task in whole.gcs.tasks.values())) == ([], 0), "\n".join(map(str, whole.events))
        assert whole.reconciler.status().definition.content_hash == "last"
        assert {name for name, _ in whole.store.saves[-1].targets} == {"dog"}
        print(
            f"seed {seed}: {len(whole.of('launch'))} launches, {len(whole.gcs.tasks)} tasks, {whole.of('joined while it was called off')}"
        )


async def test_cd_6_recreate_makes_all_anew_at_once_and_no_task_is_lost_while_on_delete_leaves_its_own_alone():
    def kinds(version: str) -> tuple[NodeType, ...]:
        return tuple(
            NodeType(name, Resources.of(CPU=2, **{name: 2}), min_workers=3, env=(("V", version),), update_policy=policy)
            for name, policy in (("cow", UpdatePolicy.RECREATE), ("dog", UpdatePolicy.ON_DELETE))
        )

    async with running(ClusterConfig("demo", kinds("1"))) as whole:
        await asyncio.sleep(10)
        assert whole.nodes() == {"cow": 3, "dog": 3}
        old = {name for _, name in whole.machines.machines}
        for name in ("cow", "dog"):
            whole.gcs.submit(Resources.of(CPU=1, **{name: 1}), 6, runtime_s=40.0)
        await asyncio.sleep(5)
        whole.config = replace(whole.config, node_types=kinds("2"))
        whole.reconciler.redefine(whole.config, "2")
        await asyncio.sleep(10)
        told = {each.instance_id: (each.node_type, each.status.value, each.reason.value) for each in whole.reconciler.status().instances}
        assert {told[name][1:] for name in old if name in told and told[name][0] == "dog"} == {("RUNNING", "JOINED")}
        assert {told[name][1:] for name in old if name in told and told[name][0] == "cow"} == {("DRAINING", "OUTDATED")}
        assert sorted(told[name][:2] for name in told if name not in old) == [("cow", "RUNNING")] * 3  # before the old ones' work is done
        await asyncio.sleep(60)
        left = {name for _, name in whole.machines.machines}
        assert {spec.spec.node_type.env for (_, name), spec in whole.machines.machines.items() if name.startswith("demo-cow")} == {
            (("V", "2"),)
        }
        assert {name for name in old if name.startswith("demo-dog")} <= left
        assert whole.nodes() == {"cow": 3, "dog": 3}
        assert [task for task in whole.gcs.tasks.values() if task.ended_at is None] == []
        assert (whole.of("lost"), sum(task.times_lost for task in whole.gcs.tasks.values())) == ([], 0)
