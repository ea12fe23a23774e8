"""Executor calls that hang, fail or cross each other, in virtual time: none delays another, silence is blindness (complaint B4)."""

import asyncio
import contextlib
from dataclasses import replace

import pytest

from rayscaler.errors import Unavailable
from rayscaler.model.instance import Reason
from rayscaler.settings import Timings
from rayscaler.testing.fake_executor import FakeExecutor
from rayscaler.throttle import Throttle
from tests.reconciler.builders import config, tasks
from tests.reconciler.world import world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]


def now():
    return asyncio.get_running_loop().time()


# hung and failing calls


async def test_b4_a_hung_launch_delays_no_other_launch_no_report_and_no_end():
    async with world(config(idle_timeout_s=3.0)) as w:
        w.executor.hang_next("launch")
        w.ray.demands = tasks(3)
        await w.live(4)
        assert len(w.launched) == 2
        assert sorted(w.instances.values()) == ["REQUESTED", "RUNNING", "RUNNING"]
        w.ray.demands = ()
        await w.live(12)  # the others grow idle, are drained and ended meanwhile
        assert len(w.executor.terminated) == 2


async def test_b4_a_hung_launch_is_given_up_at_its_deadline_and_tried_again():
    async with world() as w:
        w.executor.hang_next("launch")
        w.ray.demands = tasks(1)
        await w.live(30)
        assert w.launched == []
        await w.live(2)
        assert w.launched == ["demo-small-1-0"]


async def test_b4_a_hung_end_delays_no_other_end_and_is_tried_again():
    async with world(config(idle_timeout_s=2.0)) as w:
        w.ray.demands = tasks(3)
        await w.live(3.5)
        w.ray.demands = ()
        w.executor.hang_next("terminate")
        await w.live(12)
        assert len(w.executor.terminated) == 2
        await w.live(30)
        assert len(w.executor.terminated) == 3
        assert w.instances == {}


async def test_a_launch_that_is_not_wanted_any_more_is_not_tried_again():
    timings = replace(Timings(), executor_retry_s=8.0, unneeded_grace_s=1.0)
    async with world(timings=timings) as w:
        w.executor.fail_next_launch(Unavailable("later"))
        w.ray.demands = tasks(1)
        await w.live(3)
        w.ray.demands = ()
        await w.live(40)
        assert (w.launched, w.machines.machines, w.instances) == ([], {}, {})


async def test_a_launch_that_succeeds_after_its_end_was_asked_for_is_ended_again_at_once():
    async with world(timings=replace(Timings(), unneeded_grace_s=1.0)) as w:
        real, gate = w.executor.launch, asyncio.Event()

        async def slow(spec):
            await gate.wait()
            return await real(spec)

        w.executor.launch = slow
        w.ray.demands = tasks(1)
        await w.live(2)
        w.ray.demands = ()
        await w.live(3)
        assert list(w.instances.values()) == ["TERMINATING"]
        gate.set()
        await w.live(4)
        assert (w.executor.terminated, w.machines.machines) == (["demo-small-1-0"], {})


async def test_b4_of_two_clusters_in_one_service_one_with_hung_calls_the_other_is_served_without_delay():
    async with world(config(name="stuck")) as stuck, world(config(name="well", idle_timeout_s=5.0)) as well, world(config(name="alone", idle_timeout_s=5.0)) as alone:  # fmt: skip
        for call in ("launch", "launch", "launch", "list", "terminate"):
            stuck.executor.hang_next(call)
        times = {"well": {}, "alone": {}}
        for each in (stuck, well, alone):
            each.ray.demands = tasks(3)
        for step in range(120):
            if step == 20:
                for each in (stuck, well, alone):
                    each.ray.demands = ()
            for each in (stuck, well, alone):
                before = now()
                each.report()
                assert now() == before
            await asyncio.sleep(0.25)
            for each in (well, alone):
                times[each.reconciler.name].setdefault(tuple(sorted(each.instances.values())), now())
        assert stuck.launched == []
        # Step by step, to the moment, as without a neighbour that is stuck.
        assert times["well"] == times["alone"]
        assert len(well.executor.terminated) == 3


async def test_two_clusters_of_one_executor_do_not_see_each_others_instances():
    async with world(config(name="a")) as a, world(config(name="b"), machines=a.machines) as b:
        a.ray.demands = tasks(2)
        a.report()
        b.report()
        await asyncio.sleep(5)
        assert (len(a.instances), len(b.instances)) == (2, 0)


# an executor that does not answer is blindness


async def test_a_failing_list_is_blind_nothing_is_launched_and_nothing_ended():
    async with world(config(idle_timeout_s=2.0)) as w:
        w.ray.demands = tasks(1)
        await w.live(29)
        for _ in range(40):
            w.executor.fail_next("list", Unavailable("the API\x1b is away"))
        w.ray.busy(w.launched[0])
        await w.live(3)
        assert w.reconciler.status().blind is Reason.EXECUTOR_SILENT
        assert w.reconciler.status().notices == ("nothing is launched or ended: the executor: UNAVAILABLE: the API  is away",)
        w.ray.demands = tasks(4)
        await w.live(20)
        assert (len(w.launched), w.executor.terminated, w.commands) == (1, [], [])
        w.executor._failures["list"].clear()
        await w.live(31)
        assert (w.reconciler.status().blind, w.reconciler.status().notices) == (None, ())
        assert len(w.launched) >= 4


async def test_while_the_definition_is_withheld_nothing_is_launched_and_nothing_ended():
    async with world(config(idle_timeout_s=2.0)) as w:
        w.ray.demands = tasks(1)
        await w.live(5)
        w.ray.busy(w.launched[0])
        w.reconciler.withhold("configmap c: its label is gone")
        w.ray.demands = tasks(4)
        await w.live(20)
        assert (len(w.launched), w.executor.terminated, w.commands) == (1, [], [])
        assert any("its label is gone" in each for each in w.reconciler.status().notices)
        w.reconciler.withhold("")
        await w.live(10)
        assert len(w.launched) >= 4


async def test_without_a_first_list_nothing_is_launched_and_with_it_at_once():
    async with world(timings=replace(Timings(), executor_call_s=5.0), prepare=lambda w: w.executor.hang_next("list")) as w:
        w.ray.demands = tasks(1)
        await w.live(4.5)
        assert (w.launched, w.reconciler.status().blind) == ([], Reason.NO_FIRST_LIST)
        await w.live(2)
        assert len(w.launched) == 1


async def test_a_launch_within_a_list_that_takes_long_is_not_taken_for_lost():
    """It begins and ends while the list is under way, so the list may lack it although it is there."""
    async with world() as w:
        real = w.executor.list

        async def slow(cluster):
            seen = await real(cluster)
            await asyncio.sleep(10)
            return seen

        w.executor.list = slow
        await w.live(32)  # the list of every 30 s has begun
        w.ray.demands = tasks(1)
        await w.live(15)
        assert w.instances == {"demo-small-1-0": "RUNNING"}
        assert [kind for kind, _ in w.kinds] == ["REQUESTED", "ALLOCATED", "RUNNING"]
        assert w.reconciler.status().backoffs == ()


async def test_a_list_that_ends_while_the_record_is_written_does_not_end_the_launch_being_recorded():
    async with world() as w:
        real, w.store.save_s = w.executor.list, 3.0

        async def slow(cluster):
            await asyncio.sleep(1.0)
            return await real(cluster)

        w.executor.list = slow
        await w.live(29)
        w.ray.demands = tasks(1)
        await w.live(12)
        assert [kind for kind, _ in w.kinds] == ["REQUESTED", "ALLOCATED", "RUNNING"]


async def test_what_happens_between_the_watch_and_the_list_is_not_missed():
    async with world() as w:
        w.ray.demands = tasks(1)
        await w.live(4)
        w.ray.busy(w.launched[0])
        w.ray.demands = ()
        real = w.executor.list

        async def slow(cluster):
            seen = await real(cluster)
            await asyncio.sleep(2)
            return seen

        w.executor.list = slow
        await w.live(27)
        w.executor.lose(w.launched[0])  # after the list was made, before it arrives
        await w.live(3)
        assert w.instances == {}


async def test_an_executor_whose_watch_ends_is_asked_again_without_haste():
    async with world() as w:
        lists = 0
        real = w.executor.list

        async def counting(cluster):
            nonlocal lists
            lists += 1
            return await real(cluster)

        async def nothing():
            return
            yield

        w.executor.list, w.executor.watch = counting, lambda cluster: nothing()
        await w.live(60)
        assert 3 <= lists <= 10


async def test_a_bug_in_the_executor_is_its_silence_and_not_the_end_of_the_service():
    async with world() as w:
        real, calls = w.executor.launch, 0

        async def buggy(spec):
            nonlocal calls
            calls += 1
            if calls == 1:
                raise ZeroDivisionError("a bug")
            return await real(spec)

        w.executor.launch = buggy
        w.ray.demands = tasks(1)
        await w.live(10)
        assert w.instances == {"demo-small-1-0": "RUNNING"}
        assert calls == 2


# turns


def slow_api(w, *, in_flight: int, seconds: float) -> list[str]:
    """Let calls take so long, so many at a time; return the list of launches as they begin."""
    w.executor.pace = Throttle(per_second=1_000_000, in_flight=in_flight)
    real, begun = w.executor.launch, []

    async def slow(spec):
        begun.append(spec.instance_id)
        await asyncio.sleep(seconds)
        return await real(spec)

    w.executor.launch = slow
    return begun


async def test_a1_the_wait_for_a_turn_is_no_part_of_a_calls_deadline():
    async with world() as w:
        begun = slow_api(w, in_flight=2, seconds=5.0)
        w.ray.demands = tasks(60)
        await w.live(145)  # the last turn comes then, the deadline of a call is 30 s
        assert len(w.launched) < 60
        await w.live(6, every_s=1.0)
        assert sorted(begun) == sorted(w.launched)  # each was called once
        assert len(w.launched) == 60
        assert w.reconciler.status().backoffs == ()


async def test_a_call_that_has_its_turn_and_hangs_is_still_given_up_and_passes_its_turn_on():
    async with world() as w:
        w.executor.pace = Throttle(per_second=1_000_000, in_flight=1)
        w.executor.hang_next("launch")
        w.ray.demands = tasks(2)
        await w.live(29)
        assert w.launched == []
        await w.live(4)
        assert len(w.launched) == 2


async def test_a_launch_that_is_not_wanted_any_more_when_its_turn_comes_is_never_sent():
    async with world(timings=replace(Timings(), unneeded_grace_s=1.0)) as w:
        begun = slow_api(w, in_flight=1, seconds=10.0)
        w.ray.demands = tasks(5)
        await w.live(1)
        w.ray.demands = ()
        await w.live(60)
        assert len(begun) == 1
        assert (w.machines.machines, w.instances) == ({}, {})


class TwoASecond:
    """A pace in virtual time."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def turn(self, of: str):
        async with self._lock:
            await asyncio.sleep(0.5)
        yield


async def test_launches_that_are_called_off_while_they_wait_take_no_turns_from_those_that_are_wanted():
    """Scenario 1: of 500 launches at 2 a second most wait; what is asked for next need not wait for their turns too."""
    async with world(config(idle_timeout_s=3.0), timings=replace(Timings(), unneeded_grace_s=1.0)) as w:
        w.executor.pace = TwoASecond()
        w.ray.demands = tasks(500)
        await w.live(5)
        sent = len(w.launched)
        assert 8 <= sent <= 14
        w.ray.demands = ()
        await w.live(20)  # alone the turns of the others would take four minutes
        assert (w.instances, w.machines.machines) == ({}, {})
        assert sent <= len(w.launched) <= sent + 6
        w.ray.demands = tasks(1)
        await w.live(4)
        assert list(w.instances.values()) == ["RUNNING"]


async def test_the_wait_for_a_turn_is_bounded_by_the_launchs_own_deadline():
    async with world(timings=replace(Timings(), unscheduled_s=20.0, executor_call_s=100.0)) as w:
        begun = slow_api(w, in_flight=1, seconds=50.0)
        w.ray.demands = tasks(3)
        await w.live(22)
        assert begun == ["demo-small-1-0"]
        assert list(w.instances.values()) == ["TERMINATING"]  # the two that wait are given up without a word to anybody
        w.ray.demands = ()
        await w.live(120)
        assert begun == ["demo-small-1-0"]


async def test_one_clusters_thousand_launches_do_not_keep_anothers_one_waiting():
    async with world() as greedy:
        begun = slow_api(greedy, in_flight=4, seconds=1.0)
        other = FakeExecutor(greedy.machines, greedy.executor.pace)
        async with world(config(name="modest"), machines=greedy.machines, executor=other) as modest:
            greedy.ray.demands = tasks(1000)
            greedy.report()
            await asyncio.sleep(5)
            assert 16 <= len(begun) <= 24
            modest.ray.demands = tasks(1)
            modest.report()
            await asyncio.sleep(1.2)
            assert modest.launched == ["modest-small-1-0"]
