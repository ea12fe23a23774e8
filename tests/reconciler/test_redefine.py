"""A definition changed live (CD-4, CD-5, CD-6, CD-14; complaints B3, K1, K3, K4), in virtual time between a scripted Ray and fake machines."""

import asyncio
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from rayscaler.config.file import DefinitionFile
from rayscaler.errors import InsufficientCapacity, InvalidRequest
from rayscaler.model.demand import Outcome
from rayscaler.model.instance import Phase, Reason
from rayscaler.model.node import DeathReason, NodeStatus
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.model.resources import Resources
from rayscaler.model.state import Backoff, Hold
from rayscaler.reconciler.follow import follow
from rayscaler.server import answers
from rayscaler.settings import Timings
from rayscaler.store.base import ClusterRecord
from rayscaler.testing.loop_clock import START_AT, LoopClock
from rayscaler.testing.memory_store import MemoryStore
from tests.config.test_file import text
from tests.reconciler.builders import FIRST, config, node_type, tasks
from tests.reconciler.world import World, world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

GPU = Resources.of(GPU=1)


def redefine(w: World, *types, **fields) -> ClusterConfig:
    made = config(*types, **fields)
    w.reconciler.redefine(made, "new")
    return made


async def with_workers(w: World, count: int, busy: int = 0) -> list[str]:
    """Let `count` workers of the first type join; `busy` of them work, the others are idle from now on."""
    w.ray.demands = tasks(count)
    await w.live(4)
    w.ray.demands = ()
    names = w.launched[-count:]
    for name in names[:busy]:
        w.ray.busy(name)
    await w.live(15 if busy else 1)  # until the room that they had counts no more
    return names


def reasons(w: World, kind: str) -> dict[str, str]:
    return {each.instance_id: each.reason.value for each in w.reconciler.status().actions if each.kind == kind}


def slow_machines(w: World) -> None:
    w.machines.delays_s = {**w.machines.delays_s, Phase.STARTING: 30.0}


async def test_cd_4_an_added_type_serves_what_waited_for_it_in_the_next_cycle_and_touches_nobody():
    async with world() as w:
        names = await with_workers(w, 2, busy=1)
        w.ray.demands = tasks(1, GPU)
        await w.live(1)
        assert [each.reason for each in w.reconciler.status().pending] == [Reason.NO_TYPE_FITS]
        redefine(w, node_type(), replace(node_type("gpu"), resources=GPU))
        await asyncio.sleep(0.2)
        assert [each.split("-")[1] for each in w.launched] == ["small", "small", "gpu"]
        await w.live(3)
        assert {name: w.instances[name] for name in names} == dict.fromkeys(names, "RUNNING")
        assert (w.commands, w.executor.terminated) == ([], [])


async def test_cd_14_a_raised_maximum_is_used_without_another_report():
    async with world(config(node_type(max_workers=2))) as w:
        w.ray.demands = tasks(5)
        await w.live(0.5)
        assert len(w.launched) == 2
        redefine(w, node_type(max_workers=4))
        await asyncio.sleep(0.2)
        assert len(w.launched) == 4


async def test_b3_a_lowered_maximum_calls_off_launches_in_one_plan_and_no_running_worker_while_that_suffices():
    async with world(config(node_type(max_workers=40))) as w:
        busy = await with_workers(w, 20, busy=20)
        slow_machines(w)
        w.ray.demands = tasks(15)
        await w.live(2)
        flying = w.launched[20:]
        assert len(flying) == 15
        redefine(w, node_type(max_workers=20))
        await asyncio.sleep(0.2)
        assert sorted(w.executor.terminated) == sorted(flying)
        assert {w.instances[name] for name in busy} == {"RUNNING"}
        assert w.commands == []
        assert set(reasons(w, "TERMINATING").values()) == {"MAX_WORKERS_OF_TYPE"}
        await w.live(20)
        assert (len(w.launched), sorted(w.instances)) == (35, sorted(busy))


async def test_b3_where_launches_do_not_suffice_idle_nodes_go_next_and_busy_ones_end_with_their_work():
    async with world(config(node_type(max_workers=8))) as w:
        names = await with_workers(w, 6, busy=4)
        slow_machines(w)
        w.ray.demands = tasks(4)
        await w.live(1)
        assert len(w.launched) == 8

        def begin(command):
            node = w.ray.nodes[command.ray_node_id]
            if command.is_preemption and node.status is NodeStatus.RUNNING:
                w.ray.set(node.instance_id, is_draining=True)
                return Outcome.DONE
            return w.accept(command)

        w.on_drain = begin
        redefine(w, node_type(max_workers=3))
        await w.live(3)
        draining = [name for name in names[:4] if w.instances[name] == "DRAINING"]
        assert len(draining) == 1
        assert not set(w.executor.terminated) & set(names[:4])
        assert set(names[4:]) | set(w.launched[6:]) <= set(w.executor.terminated)
        await w.live(300)  # it works for long: its drain is neither given up nor repeated
        assert w.instances[draining[0]] == "DRAINING"
        assert len([each for each in w.commands if each.is_preemption]) == 1
        w.ray.die(draining[0], DeathReason.DRAINED_PREEMPTED)
        await w.live(5)
        assert sorted(w.instances) == sorted(set(names[:4]) - set(draining))


async def test_k3_a_minimum_raised_live_is_one_plan_and_one_lowered_lets_only_idle_nodes_go_and_only_in_their_time():
    async with world(config(node_type(), idle_timeout_s=30.0)) as w:
        await w.live(1)
        cycle = w.reconciler.status().cycle
        redefine(w, node_type(min_workers=3), idle_timeout_s=30.0)
        await asyncio.sleep(0.2)
        assert len(w.launched) == 3
        assert {each.cycle for each in w.reconciler.status().actions if each.kind == "REQUESTED"} == {cycle + 1}
        await w.live(4)
        busy, *idle = w.launched
        w.ray.busy(busy)
        await w.live(100)
        assert list(w.instances.values()) == ["RUNNING"] * 3  # the same three, long after their idle timeout
        w.ray.idle_since = dict.fromkeys(w.ray.idle_since, asyncio.get_running_loop().time())
        redefine(w, node_type(), idle_timeout_s=30.0)
        await w.live(29)
        assert w.commands == []
        await w.live(5)
        assert w.instances == {busy: "RUNNING"}
        assert sorted(w.executor.terminated) == sorted(idle)


@pytest.mark.parametrize(("after_s", "goes_at_s"), [(60.0, 60.0), (20.0, 40.0), (1e6, None)])
async def test_k4_an_idle_timeout_edited_live_restarts_no_clock(after_s, goes_at_s):
    async with world(config(node_type(idle_timeout_s=600.0))) as w:
        await with_workers(w, 1)
        (since,) = w.ray.idle_since.values()
        await w.live(since + 40 - asyncio.get_running_loop().time())
        drained = []

        def noted(command):
            drained.append(asyncio.get_running_loop().time() - since)
            return w.accept(command)

        w.on_drain = noted
        redefine(w, node_type(idle_timeout_s=after_s))
        await w.live(100)
        if goes_at_s is None:
            assert drained == []
        else:
            (at_s,) = drained
            assert goes_at_s <= at_s <= goes_at_s + 1.5


async def test_k1_a_removed_type_with_twelve_busy_workers_drains_as_they_finish_and_leaves_no_trace():
    async with world(config(node_type(max_workers=15), node_type("spare"))) as w:
        names = await with_workers(w, 14, busy=12)
        slow_machines(w)
        w.ray.demands = tasks(3)
        await w.live(1)
        (flying,) = w.launched[14:]

        def begin(command):
            node = w.ray.nodes[command.ray_node_id]
            if node.status is NodeStatus.RUNNING:
                w.ray.set(node.instance_id, is_draining=True)
                return Outcome.DONE
            return w.accept(command)

        w.on_drain = begin
        redefine(w, node_type("spare", max_workers=0))
        await w.live(5)
        assert sorted(w.executor.terminated) == sorted([*names[12:], flying])  # the idle ones at once, without their timeout
        assert {name: w.instances[name] for name in names[:12]} == dict.fromkeys(names[:12], "DRAINING")
        assert "node type small is not defined any more: 12 left, each ends with its work" in w.reconciler.status().notices
        for left, name in zip(range(11, -1, -1), names[:12], strict=True):
            await w.live(10)
            w.ray.die(name, DeathReason.DRAINED_PREEMPTED)
            await w.live(3)
            assert len(w.instances) == left
        assert len(w.launched) == 15
        assert w.machines.machines == {}
        await w.live(1)
        record = w.store.saves[-1]
        assert (record.targets, record.backoffs, record.drains) == ((), (), ())
        assert w.reconciler.status().notices == ()


async def test_cd_6_a_changed_make_counts_for_new_launches_and_old_nodes_go_once_idle_never_busy():
    async with world(config(node_type(labels=(("v", "1"),)), idle_timeout_s=600.0)) as w:
        busy, idle = await with_workers(w, 2, busy=1)
        redefine(w, node_type(labels=(("v", "2"),)), idle_timeout_s=600.0)
        await w.live(3)
        assert w.executor.terminated == [idle]
        assert reasons(w, "DRAINING") == {idle: "OUTDATED"}
        (told,) = [each for each in w.reconciler.status().instances if each.instance_id == busy]
        assert (told.status.value, told.detail[:28]) == ("RUNNING", "outdated, goes when idle; Ra")
        w.ray.demands = tasks(1)
        await w.live(4)
        assert dict(w.executor.launched[-1].node_type.labels) == {"v": "2"}
        w.ray.demands = ()
        await w.live(100)
        assert w.instances[busy] == "RUNNING"
        w.ray.set(busy, status=NodeStatus.IDLE, available=Resources.of(CPU=1))
        await w.live(5)
        assert sorted(w.instances) == [w.launched[-1]]


async def test_cd_6_limits_prices_and_timeouts_make_no_worker_outdated():
    async with world(config(node_type())) as w:
        await with_workers(w, 2)
        redefine(w, node_type(max_workers=9, min_workers=1, cost=2.0, priority=3, idle_timeout_s=500.0), max_workers=50)
        await w.live(10)
        assert (list(w.instances.values()), w.commands) == (["RUNNING"] * 2, [])


async def test_cd_6_launches_of_the_old_make_are_called_off_and_made_anew_at_once_also_after_failures():
    async with world(config(node_type(start_params=(("nonsense", "1"),)))) as w:
        w.executor.fail_next_launch(InsufficientCapacity("no such flag"))
        slow_machines(w)
        w.ray.demands = tasks(3)
        await w.live(2)
        old = w.launched
        assert [each.node_type for each in w.reconciler.status().backoffs] == ["small"]
        redefine(w, node_type())
        await w.live(2)
        assert sorted(w.executor.terminated) == sorted(old)
        assert w.reconciler.status().backoffs == ()  # what has failed was another make
        assert len(w.launched) == len(old) + 3
        assert {each.node_type.start_params for each in w.executor.launched[len(old) :]} == {()}


async def test_cd_6_of_a_minimum_one_node_at_a_time_is_replaced_and_a_make_that_does_not_start_costs_one():
    async with world(config(node_type(min_workers=3), idle_timeout_s=600.0)) as w:
        await w.live(4)
        old = set(w.launched)
        redefine(w, node_type(min_workers=3, env=(("V", "2"),)), idle_timeout_s=600.0)
        lowest = 3
        for _ in range(120):
            await w.live(0.5)
            lowest = min(lowest, list(w.instances.values()).count("RUNNING"))
        assert lowest == 2
        assert not old & set(w.instances)
        assert list(w.instances.values()) == ["RUNNING"] * 3
        assert len(w.launched) == 6
        kept = set(w.instances)
        for _ in range(60):
            w.executor.fail_next_launch(InsufficientCapacity("the image does not exist"))
        redefine(w, node_type(min_workers=3, env=(("V", "3"),)), idle_timeout_s=600.0)
        await w.live(120)
        assert len(kept & {name for name, status in w.instances.items() if status == "RUNNING"}) == 2


async def test_cd_6_a_service_that_starts_anew_still_knows_what_its_workers_were_launched_as():
    before = config(node_type(env=(("V", "1"),)), idle_timeout_s=600.0)
    async with world(before) as w:
        await with_workers(w, 2)
        await w.kill()
        async with world(
            config(node_type(env=(("V", "2"),)), idle_timeout_s=600.0), machines=w.machines, store=w.store, ray=w.ray
        ) as again:
            again.epoch = 2
            await again.live(6)
            assert len(again.executor.terminated) == 2
            assert set(reasons(again, "DRAINING").values()) == {"OUTDATED"}


async def test_ray_is_told_what_the_cluster_can_become_now():
    async with world(config(node_type(max_workers=2))) as w:
        first = w.report().cluster_config
        assert first is not None
        assert w.report(reported_config_hash=first.content_hash).cluster_config is None
        redefine(w, node_type(max_workers=5), replace(node_type("gpu"), resources=GPU))
        second = w.report(reported_config_hash=first.content_hash).cluster_config
        assert second is not None
        assert [(each.name, each.max_count) for each in second.groups] == [("small", 5), ("gpu", -1)]
        assert second.max_resources["CPU"] == 5 * 10_000
        assert w.report(reported_config_hash=second.content_hash).cluster_config is None


async def test_a_definition_that_comes_while_a_plan_is_being_recorded_waits_for_the_next_cycle():
    async with world(config(node_type(), node_type("spare"))) as w:
        w.store.save_s = 1.0
        w.ray.demands = tasks(1)
        w.report()
        await asyncio.sleep(0.3)
        redefine(w, node_type("spare"))  # what is about to be launched is gone
        assert w.reconciler.config.node_type("small") is not None
        await w.live(8)
        assert [each.split("-")[1] for each in w.launched] == ["small", "spare"]
        assert list(w.instances.values()) == ["RUNNING"]


async def test_another_cluster_s_definition_is_refused():
    async with world() as w:
        with pytest.raises(InvalidRequest, match=r"metadata\.name: 'other': must stay 'demo'"):
            redefine(w, name="other")


async def test_k1_a_bad_edit_changes_nothing_and_says_every_problem_until_it_is_mended(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text(text("small"))
    file = DefinitionFile.read(path)
    async with world(file.first.config) as w:
        follower = asyncio.create_task(follow(file, w.reconciler, kept=w.store, clock=LoopClock(), timings=Timings()))
        try:
            names = await with_workers(w, 2, busy=1)
            path.write_text(text("small", idleTimeout="soon", maxWorkers=-3))
            await w.live(1)
            for _ in range(20):
                await w.live(1)
                told = answers.cluster_status(w.reconciler.status())
                assert len(told.definition.problems) == 2
                assert [each for each in told.notices if "is not taken" in each and "stays in force" in each] == list(told.notices)
                assert any("spec.idleTimeout" in each for each in told.notices)
                assert any("spec.maxWorkers" in each for each in told.notices)
            path.unlink()
            await w.live(1)
            (problem,) = w.reconciler.status().definition.problems
            assert "cannot be read" in problem
            assert (w.instances, w.commands) == (dict.fromkeys(names, "RUNNING"), [])
            path.write_text(text("small", "extra"))
            await w.live(1)
            told = w.reconciler.status()
            assert (told.definition.problems, told.notices) == ((), ())
            assert [each.name for each in told.node_types] == ["small", "extra"]
        finally:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)


async def test_cd_9_a_definition_without_types_is_one_too():
    async with world() as w:
        await with_workers(w, 1)
        w.reconciler.redefine(ClusterConfig("demo", ()), "empty")
        await w.live(5)
        assert w.instances == {}
        w.ray.demands = tasks(1)
        await w.live(2)
        assert [each.reason for each in w.reconciler.status().pending] == [Reason.NO_TYPE_FITS]


async def test_k2_a_record_that_speaks_of_types_that_are_gone_is_taken_with_a_warning_and_forgets_them():
    store = MemoryStore()
    gone = (("gone", 3),)
    await store.save(
        ClusterRecord("demo", FIRST, hold=Hold(START_AT, gone), targets=gone, backoffs=(Backoff("gone", 4, START_AT + 900, "x"),))
    )
    with capture_logs() as logs:
        async with world(store=store) as w:
            w.ray.demands = tasks(1)
            await w.live(70)
            assert list(w.instances.values()) == ["RUNNING"]
    assert {"event": "record.unknown_types", "log_level": "warning", "cluster": "demo", "node_types": ["gone"]} in logs
    record = store.saves[-1]
    assert (record.targets, record.hold, record.backoffs) == ((("small", 1),), None, ())


async def test_what_is_hardly_meant_is_taken_and_said_in_log_and_status_until_another_definition_is_in_force(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text(text("small", idleTimeout="1s"))
    file = DefinitionFile.read(path)
    with capture_logs() as logs:
        async with world(file.first.config) as w:
            follower = asyncio.create_task(follow(file, w.reconciler, kept=w.store, clock=LoopClock(), timings=Timings()))
            await w.live(1)
            (told,) = w.reconciler.status().notices
            assert told.startswith(f"the definition in force may not be meant so: {path}: spec.idleTimeout: '1s': is below 5s")
            path.write_text(text("small", idleTimeout="1s", maxWorkers=-1))  # a bad edit leaves it as it is
            await w.live(2)
            assert ["is not taken" in each for each in w.reconciler.status().notices] == [True, False]
            path.write_text(text("small", maxWorkers=0))
            await w.live(2)
            (told,) = w.reconciler.status().notices
            assert "spec.maxWorkers: 0: no worker of any type will ever be launched" in told
            path.write_text(text("small"))
            await w.live(2)
            assert w.reconciler.status().notices == ()
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
    assert [len(each["warnings"]) for each in logs if each["event"] == "definition.advice"] == [1, 1]
