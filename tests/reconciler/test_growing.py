"""Growth in place in virtual time: asked for, told once it is real, taken back and launched for instead where it does not come (complaint J4)."""

import pytest

from rayscaler.errors import InvalidRequest, Unavailable, Unsupported
from rayscaler.model.demand import Outcome
from rayscaler.model.instance import Reason, Size
from rayscaler.model.node import NodeStatus
from rayscaler.model.nodetype import NodeType, Resize
from rayscaler.model.resources import Resources
from tests.reconciler.builders import config, tasks
from tests.reconciler.world import world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

GIB = 1 << 30
SMALL = Resources.of(CPU=1, GPU=1, memory=4 * GIB)
LARGE = Resources.of(CPU=4, GPU=1, memory=4 * GIB)
THREE = Resources.of(CPU=3, GPU=1, memory=4 * GIB)
GROWS = config(
    NodeType("small", SMALL, min_workers=1, cost=1.0, resize=Resize(LARGE, timeout_s=40.0)),
    NodeType("big", Resources.of(CPU=4, GPU=1), cost=9.0),
    idle_timeout_s=600.0,
)


async def one_small(w) -> str:
    await w.live(5)
    (name,) = w.launched
    w.ray.demands = tasks(1, Resources.of(CPU=3, GPU=1))
    return name


def total(w, name: str) -> int:
    return w.ray.row(name).total["CPU"] // 10_000


async def test_j4_a_demand_that_a_worker_can_grow_for_launches_nothing_and_its_raylet_is_told_once_it_has_grown():
    async with world(GROWS) as w:
        name = await one_small(w)
        w.machines.resize_s = 10.0
        await w.live(8)
        assert (w.executor.resized, w.resizes, total(w, name)) == ([(name, THREE)], [], 1)
        (told,) = w.reconciler.status().instances
        assert "grows in place to" in told.detail
        await w.live(5)
        assert [each.resources for each in w.resizes] == [Resources.of(CPU=3)]
        assert w.ray.row(name).total == THREE
        w.ray.demands = ()
        await w.live(5)
        assert (len(w.executor.resized), len(w.resizes), w.launched) == (1, 1, [name])
        assert [kind for kind, _ in w.kinds][-2:] == ["GROWING", "GROWN"]
        assert w.reconciler.status().instances[0].growing is None


@pytest.mark.parametrize(
    ("refusal", "within_s"), [("Node didn't have enough capacity: cpu", 3.0), ("", 45.0)], ids=["refused", "timed out"]
)
async def test_j4_where_it_is_refused_or_does_not_come_it_is_taken_back_and_a_node_is_launched(refusal, within_s):
    async with world(GROWS) as w:
        name = await one_small(w)
        w.machines.unresized["small"] = refusal
        await w.live(within_s)
        assert [resources for _, resources in w.executor.resized] == [THREE, SMALL]
        assert [each.rpartition("-")[0].rpartition("-")[0] for each in w.launched] == ["demo-small", "demo-big"]
        assert w.resizes == []
        (action,) = [each for each in w.reconciler.status().actions if each.kind == "NOT_GROWN"]
        assert (action.reason, action.detail) == (Reason.NOT_GROWN, refusal or "it did not grow within 40 s")
        w.machines.unresized.clear()
        await w.live(30)
        assert (len(w.executor.resized), total(w, name)) == (2, 1)


@pytest.mark.parametrize("error", [Unsupported("no"), InvalidRequest("template: has no requests")], ids=lambda each: each.name)
async def test_a_size_that_the_executor_cannot_give_is_launched_for_at_once(error):
    async with world(GROWS) as w:
        name = await one_small(w)
        w.executor.fail_next("resize", error)
        await w.live(3)
        assert (len(w.launched), w.executor.resized, total(w, name)) == (2, [], 1)


async def test_an_executor_that_is_away_for_a_moment_is_asked_again():
    async with world(GROWS) as w:
        await one_small(w)
        for _ in range(2):
            w.executor.fail_next("resize", Unavailable("no answer"))
        await w.live(10)
        assert (w.executor.resized, len(w.resizes), len(w.launched)) == ([(w.launched[0], THREE)], 1, 1)


async def test_j4_a_size_that_comes_while_it_is_taken_back_is_told_to_nobody():
    async with world(GROWS) as w:
        name = await one_small(w)
        w.machines.unresized["small"] = ""
        await w.live(38)
        w.executor.hang_next("resize")  # the call that takes it back
        await w.live(4)
        machine = w.machines.machines["demo", name]
        machine.size = Size(THREE, THREE)
        w.machines._publish("demo", w.machines.tell(machine))
        await w.live(60)
        assert (w.resizes, machine.size.asked, total(w, name)) == ([], SMALL, 1)


async def test_a_raylet_that_cannot_be_told_has_its_growth_taken_back_and_one_that_may_know_keeps_it():
    for outcome, asked in ((Outcome.REJECTED, [THREE, SMALL]), (Outcome.FAILED, [THREE])):
        async with world(GROWS) as w:
            await one_small(w)
            w.on_resize = lambda command, outcome=outcome: outcome
            await w.live(10)
            assert [resources for _, resources in w.executor.resized] == asked
            assert len(w.launched) == 2


async def test_a_growth_under_way_is_found_again_after_a_restart_of_the_service():
    async with world(GROWS) as w:
        name = await one_small(w)
        w.machines.resize_s = 20.0
        await w.live(5)
        await w.kill()
        async with world(GROWS, machines=w.machines, store=w.store, ray=w.ray) as again:
            again.epoch = 2
            await again.live(25)
            assert (again.executor.resized, again.launched, total(again, name)) == ([], [], 3)


async def test_a_worker_that_joins_a_new_head_with_its_old_numbers_is_told_again_what_it_brings():
    async with world(GROWS) as w:
        name = await one_small(w)
        await w.live(10)
        spec = w.executor.launched[0]
        w.ray.demands = ()
        w.head_restarts()
        await w.live(2)
        w.ray.join(spec)
        await w.live(10)
        assert (total(w, name), len(w.resizes), len(w.executor.resized)) == (3, 2, 1)


async def test_what_cannot_be_taken_back_is_used_if_it_comes_after_all():
    async with world(GROWS) as w:
        name = await one_small(w)
        w.machines.unresized["small"] = ""
        await w.live(38)
        w.executor.fail_next("resize", InvalidRequest("memory: cannot be less"))
        await w.live(5)
        assert (len(w.launched), len(w.executor.resized), total(w, name)) == (2, 1, 1)
        machine = w.machines.machines["demo", name]
        machine.size = Size(THREE, THREE)
        w.machines._publish("demo", w.machines.tell(machine))
        await w.live(3)
        assert (len(w.resizes), total(w, name)) == (1, 3)


async def test_a_worker_that_is_drained_grows_no_more():
    async with world(GROWS) as w:
        name = await one_small(w)
        w.machines.unresized["small"] = ""
        await w.live(5)
        w.ray.set(name, status=NodeStatus.DRAINING, is_draining=True)
        await w.live(60)
        assert [each for each in w.kinds if each[0] == "NOT_GROWN"] == []
        assert w.reconciler.status().instances[0].growing is None


async def test_without_sight_nothing_is_asked_for_and_no_time_runs_out():
    async with world(GROWS) as w:
        await one_small(w)
        w.machines.unresized["small"] = ""
        await w.live(5)
        w.reconciler.withhold("who knows")
        await w.live(100)
        assert (len(w.executor.resized), len(w.launched)) == (1, 1)


async def test_a_type_whose_nodes_have_grown_is_planned_for_as_it_is_launched():
    async with world(GROWS) as w:
        await one_small(w)
        await w.live(10)
        assert total(w, w.launched[0]) == 3
        w.ray.demands = ()
        w.ray.busy(w.launched[0])
        await w.live(15)
        w.ray.demands = tasks(1, Resources.of(CPU=2, GPU=1))
        await w.live(5)
        assert [each.node_type.name for each in w.executor.launched] == ["small", "big"]  # a new small one would bring 1
