"""Waiting for a cheaper mix: launches on demand alone wait, never longer than the budget, and only for the state that was asked about."""

import asyncio
from dataclasses import replace

import pytest

from rayscaler.errors import Unavailable
from rayscaler.model.demand import Bundle
from rayscaler.model.instance import Growing, Instance, InstanceStatus, Reason
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import Resize
from rayscaler.model.plan import Infeasible, Mix
from rayscaler.model.resources import Resources
from rayscaler.model.state import ClusterState
from rayscaler.planner.mix.problem import NEAR
from rayscaler.planner.plan import plan
from rayscaler.reconciler import cluster, improve
from rayscaler.reconciler.improve import PATIENCE, STEPS_PER_S, is_better, pays
from rayscaler.settings import Timings
from tests.reconciler.builders import CPU, config, node_type, tasks
from tests.reconciler.world import world

pytestmark = [pytest.mark.tier("unit")]

BUDGET_S = Timings().plan_budget_s
DEAR = config(node_type("small", cost=1.0), node_type("wide", 4, cost=3.0))


def priced(state):
    """The first plan, with what its launches on demand cost; no bound is known."""
    made = plan(state)
    costs = [state.config.node_type(each.node_type).cost for each in made.launches if each.reason is Reason.DEMAND]
    return replace(made, mix=Mix(sum(costs))) if costs and None not in costs else made


class Fake:
    """Answers after `takes_s` with four tasks' worth in one wide node, which is cheaper."""

    def __init__(self, takes_s=0.1, error=None):
        self.takes_s, self.error, self.asked = takes_s, error, []

    def prepare(self):
        pass

    async def improve(self, state, steps):
        self.asked.append((state.config.name, steps))
        await asyncio.sleep(self.takes_s)
        if self.error:
            raise self.error
        first = priced(state)
        kept = [each for each in first.launches if each.reason is not Reason.DEMAND]
        (launch, *_) = (each for each in first.launches if each.reason is Reason.DEMAND)
        reserves = tuple(replace(each, count=4) for each in launch.reserves[:1])
        return replace(first, launches=(*kept, replace(launch, node_type="wide", reserves=reserves)), mix=Mix(3.0, 3.0, steps))


@pytest.fixture(autouse=True)
def _first_plan(monkeypatch):
    """Let the first plan launch four small nodes where one wide one would do."""

    def dear(state):
        if state.instances:
            return priced(state)
        only_small = replace(state, config=replace(state.config, node_types=state.config.node_types[:1]))
        return priced(only_small if len(state.config.node_types) > 1 else state)

    monkeypatch.setattr(cluster, "plan", dear)


def types(w):
    return [each.node_type.name for each in w.executor.launched]


async def asked(w, count=4):
    """Let some time pass, so that all is settled, then ask."""
    await w.live(1.0)
    w.ray.demands = tasks(count)
    w.report()


@pytest.mark.looptime
async def test_launches_on_demand_wait_for_a_cheaper_mix_and_nothing_is_asked_twice():
    fake = Fake()
    async with world(DEAR, improver=fake) as w:
        await asked(w)
        await asyncio.sleep(0.09)
        assert types(w) == []
        await asyncio.sleep(0.11)
        assert types(w) == ["wide"]
        assert len(fake.asked) == 1


@pytest.mark.looptime
async def test_out_of_time_the_first_plan_goes():
    async with world(DEAR, improver=Fake(takes_s=10.0)) as w:
        await asked(w)
        await asyncio.sleep(BUDGET_S * PATIENCE - 0.02)
        assert types(w) == []
        await asyncio.sleep(0.1)
        assert types(w) == ["small"] * 4


@pytest.mark.looptime
async def test_when_the_process_dies_the_first_plan_goes_at_once():
    async with world(DEAR, improver=Fake(takes_s=0.01, error=Unavailable("it has ended"))) as w:
        await asked(w)
        await asyncio.sleep(0.1)
        assert types(w) == ["small"] * 4


@pytest.mark.looptime
async def test_another_state_gets_its_own_first_plan():
    async with world(DEAR, improver=Fake(takes_s=0.2)) as w:
        await asked(w)
        await asyncio.sleep(0.06)
        w.ray.demands = tasks(3)
        w.report()
        await asyncio.sleep(0.1)
        assert types(w) == ["small"] * 3


async def told_the_same_while_it_waits():
    async with world(DEAR, improver=Fake(takes_s=0.15)) as w:
        await asked(w)
        await asyncio.sleep(0.06)
        w.report()
        await asyncio.sleep(0.2)
        assert types(w) == ["wide"]


@pytest.mark.looptime
async def test_a_report_that_says_the_same_does_not_end_the_wait():
    await told_the_same_while_it_waits()


@pytest.mark.looptime
async def test_while_launches_wait_the_same_state_is_planned_once(monkeypatch):
    planned, inner = [], cluster.plan
    monkeypatch.setattr(cluster, "plan", lambda state: planned.append(state) or inner(state))
    await told_the_same_while_it_waits()
    assert len([each for each in planned if each.demands and not each.instances]) == 1


@pytest.mark.looptime
async def test_minimums_do_not_wait():
    definition = config(node_type("small", cost=1.0, min_workers=1), node_type("wide", 4, cost=3.0))
    fake = Fake(takes_s=0.1)
    async with world(definition, improver=fake) as w:
        w.ray.demands = tasks(5)
        w.report()
        await asyncio.sleep(0.06)
        assert types(w) == ["small"]
        await asyncio.sleep(BUDGET_S + 0.05)
        assert types(w) == ["small", "wide"]


@pytest.mark.looptime
@pytest.mark.parametrize("definition", [config(node_type("small"), node_type("wide", 4)), config(node_type("small", cost=1.0))])
async def test_nothing_is_asked_without_costs_or_for_one_node_of_the_cheapest_type(definition):
    fake = Fake()
    async with world(definition, improver=fake) as w:
        await asked(w, count=1)
        await asyncio.sleep(0.06)
        assert types(w) == ["small"]
        assert fake.asked == []


@pytest.mark.looptime
async def test_of_two_clusters_the_one_whose_turn_does_not_come_launches_in_time():
    free = asyncio.Lock()

    class Shared(Fake):
        async def improve(self, state, steps):
            async with free:
                return await super().improve(state, steps)

    shared = Shared(takes_s=0.8 * BUDGET_S * PATIENCE)
    async with world(DEAR, improver=shared) as one, world(replace(DEAR, name="other"), improver=shared) as two:
        await one.live(1.0)
        await two.live(1.0)
        one.ray.demands = two.ray.demands = tasks(4)
        one.report()
        two.report()
        await asyncio.sleep(BUDGET_S * PATIENCE + 0.1)
        assert (types(one), types(two)) == (["wide"], ["small"] * 4)


@pytest.mark.looptime
async def test_a_state_too_big_to_send_is_not_asked_about(monkeypatch):
    monkeypatch.setattr(improve, "MOST_NODES", 0)
    fake = Fake()
    definition = config(node_type("small", cost=1.0, min_workers=1), node_type("wide", 4, cost=3.0))
    async with world(definition, improver=fake) as w:
        await asked(w, 5)
        await asyncio.sleep(0.06)
        assert len(types(w)) > 1
        assert fake.asked == []


def test_a_small_gap_is_launched_at_once():
    launched = priced_of(4)
    near = replace(launched, mix=Mix(4.0, 4.0 / (1 + NEAR)))
    assert pays(launched, DEAR)
    assert not pays(near, DEAR)
    assert pays(replace(launched, mix=Mix(4.0, 3.0)), DEAR)


def test_one_node_of_the_cheapest_type_is_launched_at_once_though_a_share_of_a_larger_one_would_cost_less():
    launched = priced_of(1)
    assert not pays(replace(launched, mix=Mix(1.0, 0.75)), DEAR)
    assert pays(replace(launched, mix=Mix(3.0, 0.75)), DEAR)


def test_what_is_left_out_may_have_a_place_in_another_mix_unless_no_type_holds_it():
    launched = priced_of(1)
    assert pays(replace(launched, infeasible=(Infeasible(Bundle(CPU), 1, Reason.MAX_WORKERS, ""),)), DEAR)
    assert not pays(replace(launched, infeasible=(Infeasible(Bundle(CPU), 1, Reason.NO_TYPE_FITS, ""),)), DEAR)


def test_dearer_or_with_more_waiting_is_not_better():
    launched = priced_of(4)
    assert is_better(replace(launched, mix=Mix(3.0)), launched)
    assert not is_better(launched, launched)


def test_what_leaves_less_waiting_is_better_though_it_is_dearer():
    launched = priced_of(4)
    left = replace(launched, mix=Mix(1.0), infeasible=(Infeasible(Bundle(Resources.of(CPU=1)), 1, Reason.MAX_WORKERS, "full"),))
    assert is_better(launched, left)
    assert not is_better(left, launched)


def priced_of(count):
    return priced(ClusterState(now=0.0, config=replace(DEAR, node_types=DEAR.node_types[:1]), demands=tasks(count)))


@pytest.mark.looptime
async def test_what_the_mix_costs_and_how_the_wait_went_is_explained():
    async with world(DEAR, improver=Fake()) as w:
        await asked(w)
        await asyncio.sleep(0.09)
        assert w.reconciler.explanation().mix is w.reconciler.status().mix is None
        await asyncio.sleep(0.11)
        told = w.reconciler.explanation().mix
        assert (told.mix, told.improvement) == (Mix(3.0, 3.0, int(BUDGET_S * STEPS_PER_S)), "improved")
        await w.live(5.0)
        assert w.reconciler.explanation().mix == w.reconciler.status().mix == told


@pytest.mark.looptime
async def test_a_service_that_ends_waits_for_nothing_more():
    async with world(DEAR, improver=Fake(takes_s=10.0)) as w:
        await asked(w)
        await asyncio.sleep(0.1)
        await w.kill()
        await asyncio.sleep(0)
        assert [each for each in asyncio.all_tasks() if each.get_name().startswith("improve")] == []


async def test_j4_what_grows_is_not_waited_for_and_the_mix_is_asked_for_what_is_left():
    small = node_type("small", cost=1.0)
    grows = replace(DEAR, node_types=(replace(small, resize=Resize(Resources.of(CPU=2))), DEAR.node_types[1]))
    busy = Instance("a", "small", InstanceStatus.RUNNING, 0.0, ray_node_id="n")
    row = RayNode("n", "a", "small", NodeStatus.RUNNING, small.resources, Resources())
    state = ClusterState(0.0, grows, (busy,), (row,), tasks(5))
    fake = Fake()
    wait = improve.Wait(fake, BUDGET_S, lambda: None)
    first = priced(state)
    assert [each.instance_id for each in first.growths] == ["a"]
    carried_out = wait.decide(state, replace(first, mix=Mix(4.0)))
    assert (carried_out.growths, carried_out.launches, carried_out.is_empty) == (first.growths, (), False)
    grown = replace(state, instances=(replace(busy, growing=Growing(first.growths[0].resources, 0.0)),))
    assert improve.facts(grown) != improve.facts(state)
    second = priced(grown)
    assert second.growths == ()
    wait.decide(grown, replace(second, mix=Mix(4.0)))
    await asyncio.sleep(0)
    assert [name for name, _ in fake.asked] == [state.config.name]
    wait.end()
