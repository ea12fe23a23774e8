"""Launches across a crash or a hand-over, on fake machines in virtual time: none is lost, none doubled, none comes back (design §2b.1)."""

import asyncio
import contextlib
import random
from dataclasses import replace

import pytest

from rayscaler.errors import Conflict, Fenced, InsufficientCapacity, Unavailable
from rayscaler.executor.base import LaunchSpec
from rayscaler.model.demand import Constraint
from rayscaler.model.instance import InstanceStatus, Phase, Reason
from rayscaler.model.plan import Launch, Plan, Termination
from rayscaler.model.resources import Resources
from rayscaler.reconciler import unfinished
from rayscaler.settings import Timings
from rayscaler.store import codec
from rayscaler.store.base import ClusterRecord, OpenBatch
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines
from rayscaler.testing.loop_clock import LoopClock
from rayscaler.testing.memory_store import MemoryStore
from tests.reconciler.builders import config, instance, memory, node_type, tasks
from tests.reconciler.world import Ray, World, world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

COUNT = 4


class Slow(FakeExecutor):
    """Sends the first `sends` launches; the rest get as far as the network card of a machine that dies."""

    def __init__(self, machines: FakeMachines, sends: int) -> None:
        super().__init__(machines)
        self.sends = sends
        self.unsent: list[LaunchSpec] = []

    async def launch(self, spec: LaunchSpec) -> str:
        if self.sends == 0:
            self.unsent.append(spec)
            await asyncio.get_running_loop().create_future()
        self.sends -= 1
        return await super().launch(spec)


def with_executor(executor: FakeExecutor):
    """Hand another executor to a world before it runs."""

    def prepare(made: World) -> None:
        made.executor = made.reconciler._executor = executor

    return prepare


@contextlib.asynccontextmanager
async def crashed(sends: int, definition=None, *, demands=None):
    """A life that wrote its launches down, sent some, and was killed; yields what is left of the world and what was not sent."""
    ray, machines, store = Ray(), FakeMachines(LoopClock()), MemoryStore()
    machines.on_ready = ray.join
    executor = Slow(machines, sends)
    async with world(definition, machines=machines, store=store, ray=ray, prepare=with_executor(executor)) as w:
        ray.demands = demands or tasks(COUNT)
        w.report()
        await asyncio.sleep(0.2)
        assert len(executor.launched) == sends
        await w.kill()
    try:
        yield {"machines": machines, "store": store, "ray": ray}, executor.unsent
    finally:
        await machines.close()


def names(machines: FakeMachines) -> list[str]:
    return sorted(each for _, each in machines.machines)


@pytest.mark.parametrize("sends", range(COUNT + 1))
async def test_2b_1_killed_between_the_write_and_any_of_the_creates_each_is_there_once(sends):
    async with crashed(sends) as (left, unsent), world(**left) as w:
        assert sorted(w.launched) == sorted(each.instance_id for each in unsent)
        await w.live(10)
        assert sorted(w.instances) == names(w.machines) == [f"demo-small-1-{index}" for index in range(COUNT)]
        assert set(w.instances.values()) == {"RUNNING"}
        assert w.store.saves[-1].open_batches == ()


async def test_2b_1_they_are_sent_before_anything_is_planned_and_before_any_report():
    async with crashed(1) as (left, unsent), world(**left) as w:
        assert len(w.launched) == len(unsent) == COUNT - 1
        assert w.store.saves[-1].batch == 1
        assert w.reconciler.status().cycle == 0


@pytest.mark.parametrize("lands_first", [True, False])
async def test_2b_1_a_create_that_lands_after_the_next_lifes_list_is_the_same_instance(lands_first):
    async with crashed(1) as (left, unsent):
        executor = Slow(left["machines"], 0 if lands_first else COUNT)
        async with world(**left, prepare=with_executor(executor)) as w:
            for late in unsent:
                left["machines"].begin(late)
            executor.sends = COUNT
            await w.live(45)  # past the deadline of those that hang: they are asked for again
            assert names(w.machines) == [f"demo-small-1-{index}" for index in range(COUNT)]
            assert set(w.instances.values()) == {"RUNNING"}


async def test_2b_1_what_the_definition_makes_otherwise_now_is_taken_as_it_stands_out_there():
    async with crashed(1) as (left, unsent):
        other = config(node_type(env=(("A", "b"),)))
        executor = Slow(left["machines"], COUNT)
        executor.fail_next_launch(Unavailable("busy"))  # asked again after it has landed
        left["ray"].demands = tasks(COUNT)
        async with world(other, **left, prepare=with_executor(executor)) as w:
            for late in unsent[:1]:
                with contextlib.suppress(Conflict):  # the new spec of the same name may be there already: then this one is refused
                    left["machines"].begin(late)
            await w.live(3)
            assert len(names(w.machines)) == COUNT
            assert "LAUNCH_FAILED" not in {kind for kind, _ in w.kinds}
            assert w.reconciler.status().backoffs == ()
            made = {each.instance_id: each.made_as for each in w.reconciler._memory.live()}
            assert made["demo-small-1-0"].env == ()
            assert {each.env for each in made.values()} == {(), (("A", "b"),)}


async def test_a_conflict_of_a_launch_that_is_no_repetition_is_a_failure_as_before():
    async with world() as w:
        w.executor.fail_next_launch(Conflict("another spec"))
        w.ray.demands = tasks(1)
        await w.live(1)
        assert w.reconciler.status().backoffs[0].detail.startswith("CONFLICT")


async def test_launches_of_a_node_type_that_is_gone_are_let_go():
    async with crashed(0) as (left, _):
        left["ray"].demands = ()
        async with world(config(node_type("other")), **left) as w:
            await w.live(2)
            assert names(w.machines) == []
            assert w.store.saves[-1].open_batches == ()


async def test_2b_1_what_was_ended_within_an_open_batch_does_not_come_back():
    """Three launches hang, so their batch stays open; the fourth joins, is idle, is drained and ended."""
    definition, timings = config(idle_timeout_s=5.0), replace(Timings(), unneeded_grace_s=300.0)
    async with crashed(1, definition) as (left, unsent):
        executor = Slow(left["machines"], 0)  # those that were not sent hang again
        left["ray"].demands = ()
        async with world(definition, **left, timings=timings, prepare=with_executor(executor)) as w:
            await w.live(20)
            assert executor.terminated == ["demo-small-1-0"]
            assert names(w.machines) == []
            assert w.store.saves[-1].open_batches == (OpenBatch(1, (("small", 1, 3),)),)
            await w.kill()
        async with world(definition, **left, timings=timings) as again:
            assert again.launched == [each.instance_id for each in unsent]
            await again.live(2)
            assert "demo-small-1-0" not in names(left["machines"])


async def test_an_end_is_sent_only_after_a_write_that_names_its_index_no_more():
    async with crashed(1) as (left, _):
        executor = Slow(left["machines"], 0)
        left["ray"].demands = ()
        async with world(**left, prepare=with_executor(executor)) as w:
            open_at_end = []
            real = executor.terminate

            async def terminate(cluster, instance_id):
                open_at_end.append((instance_id, w.store.saves[-1].open_batches))
                await real(cluster, instance_id)

            executor.terminate = terminate
            await w.live(14)  # nothing needs them: ended after the grace
            assert open_at_end
            for instance_id, batches in open_at_end:
                assert instance_id not in {
                    f"demo-{name}-{each.batch}-{index}"
                    for each in batches
                    for name, first, count in each.ranges
                    for index in range(first, first + count)
                }


async def test_a_launch_that_was_refused_is_closed():
    async with world(config(node_type(max_workers=1))) as w:
        w.executor.fail_next_launch(InsufficientCapacity("no room"))
        w.ray.demands = tasks(1)
        await w.live(2)
        assert w.store.saves[-1].open_batches == ()


async def test_what_returned_is_closed_by_one_more_write_a_while_later():
    async with world() as w:
        w.ray.demands = tasks(200)
        await w.live(0.5)
        assert [each.open_batches for each in w.store.saves][:1] == [(OpenBatch(1, (("small", 0, 200),)),)]
        await w.live(Timings().record_closing_s)
        assert w.store.saves[-1].open_batches == ()
        assert len(w.store.saves) <= 4


async def test_2b_10_what_guards_nothing_is_written_once_a_second_at_most_and_not_lost():
    async with world() as w:
        await w.live(2)
        before = len(w.store.saves)
        for turn in range(40):
            w.ray.constraint = Constraint(tasks(turn + 1, Resources.of(GPU=1)))  # news in every cycle, and nothing to be done about it
            await w.live(0.25, every_s=0.25)
        assert 9 <= len(w.store.saves) - before <= 11
        await w.live(1.5)
        assert w.store.saves[-1].floor == w.ray.constraint


async def test_too_many_open_batches_hold_the_next_launch_back_and_nothing_else():
    known = memory(*(instance(f"demo-small-{n}-0", InstanceStatus.REQUESTED) for n in range(1, unfinished.MOST_OPEN + 1)))
    assert len(unfinished.opened(known, Plan(), 999)) == unfinished.MOST_OPEN
    with pytest.raises(Unavailable, match="256 batches"):
        unfinished.opened(known, Plan((Launch("small", Reason.DEMAND, ""),)), 999)


def test_an_open_batch_is_ranges_per_node_type_without_what_the_plan_ends():
    known = memory(
        *(instance(f"demo-small-7-{n}", InstanceStatus.REQUESTED) for n in (0, 1, 2, 5)),
        instance("demo-small-7-3", InstanceStatus.ALLOCATED),
        instance("demo-a-b-7-4", InstanceStatus.REQUESTED, node_type="a-b"),
    )
    plan = Plan((Launch("small", Reason.DEMAND, ""),) * 2, terminations=(Termination("demo-small-7-1", Reason.UNNEEDED, ""),))
    assert unfinished.opened(known, plan, 8) == (
        OpenBatch(7, (("a-b", 4, 1), ("small", 0, 1), ("small", 2, 1), ("small", 5, 1))),
        OpenBatch(8, (("small", 0, 2),)),
    )


def test_k2_a_record_of_before_open_batches_is_read_and_theirs_comes_back():
    record = ClusterRecord("demo", batch=2, open_batches=(OpenBatch(2, (("small", 0, 3), ("small", 5, 1))),))
    assert codec.decode(codec.encode(record)) == record
    assert codec.decode('{"cluster": "demo", "batch": 2}') == ClusterRecord("demo", batch=2)


async def test_a_record_that_somebody_deleted_gives_no_name_again_that_is_in_use():
    async with world() as w:
        w.ray.demands = tasks(2)
        await w.live(4)
        await w.kill()
        async with world(machines=w.machines, ray=w.ray) as again:
            w.ray.demands = tasks(3)
            await again.live(4)
            assert again.launched == ["demo-small-2-0"]


class Fencing(MemoryStore):
    """Another leader has the record, from a moment on."""

    is_fenced = False

    async def save(self, record: ClusterRecord) -> None:
        if self.is_fenced:
            raise Fenced("leader b of epoch 2")
        await super().save(record)


@pytest.mark.parametrize("act", ["launch", "terminate"])
async def test_2b_1_a_leader_whose_write_is_fenced_sends_nothing_and_ends(act):
    store = Fencing()
    async with world(store=store) as w:
        w.ray.demands = tasks(2)
        await w.live(5)
        launched = list(w.launched)
        store.is_fenced = True
        if act == "launch":
            w.ray.demands = tasks(5)
        else:
            w.ray.die(launched[0])
        for _ in range(100):
            if w.task.done():
                break
            await w.live(0.5)
        assert isinstance(w.task.exception(), ExceptionGroup)
        assert w.task.exception().subgroup(Fenced) is not None
        assert (w.launched, w.executor.terminated) == (launched, [])
        w.is_killed = True


class Lossy(FakeExecutor):
    """Creates and answers cross a bad network: each may come late, at any time after its sender's death, or not at all."""

    def __init__(self, machines: FakeMachines, chance: random.Random, flying: set[asyncio.Task[None]]) -> None:
        super().__init__(machines)
        self.chance = chance
        self.flying = flying

    async def launch(self, spec: LaunchSpec) -> str:
        fate = self.chance.random()
        if fate < 0.2:
            raise Unavailable("lost on the way out")
        if fate < 0.6:
            self.flying.add(asyncio.create_task(self._land(spec, self.chance.uniform(0.0, 20.0))))
            if fate < 0.4:
                await asyncio.get_running_loop().create_future()
        else:
            self.machines.begin(spec)
        await asyncio.sleep(self.chance.uniform(0.0, 0.3))
        if self.chance.random() < 0.3:
            raise Unavailable("lost on the way back")
        return await super().launch(spec)

    async def _land(self, spec: LaunchSpec, after_s: float) -> None:
        await asyncio.sleep(after_s)
        self.machines.begin(spec)


@pytest.mark.parametrize("seed", range(16))
async def test_2b_1_over_kills_at_any_moment_and_a_lossy_network_as_many_run_as_were_asked_for(seed):
    print(f"seed {seed}")
    chance = random.Random(seed)
    ray, machines, store = Ray(), FakeMachines(LoopClock()), MemoryStore()
    machines.on_ready = ray.join
    flying: set[asyncio.Task[None]] = set()
    wanted, most = chance.randrange(1, 8), 0
    ray.demands = tasks(wanted)
    try:
        for _ in range(chance.randrange(1, 6)):
            store.save_s = chance.choice((0.0, 0.05))
            async with world(machines=machines, store=store, ray=ray, prepare=with_executor(Lossy(machines, chance, flying))) as w:
                for _ in range(chance.randrange(1, 12)):
                    with contextlib.suppress(Unavailable):
                        w.report()
                    await asyncio.sleep(chance.uniform(0.0, 0.4))
                    most = max(most, sum(each.phase is not Phase.ENDING for each in machines.machines.values()))
                await w.kill()
        async with world(machines=machines, store=store, ray=ray) as w:
            await w.live(60)
            most = max(most, sum(each.phase is not Phase.ENDING for each in machines.machines.values()))
            assert most <= wanted
            assert sorted(w.instances) == names(machines)
            assert list(w.instances.values()) == ["RUNNING"] * wanted
    finally:
        for task in flying:
            task.cancel()
        await asyncio.gather(*flying, return_exceptions=True)
        await machines.close()
