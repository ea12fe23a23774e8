"""E2, scenario 9 (e): a floor of request_resources() ends with the drivers that may have asked for it, and never before."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from rayscaler.model.demand import Constraint, Snapshot
from rayscaler.model.explanation import DemandKind
from rayscaler.model.instance import Reason
from rayscaler.model.nodetype import NEVER
from rayscaler.model.state import FloorOwners
from rayscaler.reconciler import floor
from rayscaler.testing.loop_clock import LoopClock
from tests.reconciler.builders import config, tasks
from tests.reconciler.world import Ray, World, world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

LIMIT_S = 30.0
SHORT = config(idle_timeout_s=4.0)
GONE_S = 4.0 + 3.0
"""From the floor's end until its workers have been drained and ended, in the world's time."""


def owned_by(*jobs: str, can_take_back: bool = False) -> Ray:
    """A floor of these jobs; what is over stays in the GCS, as with a monitor of before, unless it can be taken back there."""
    ray = Ray()
    ray.can_take_back = can_take_back
    ray.live_job_ids, ray.constraint = frozenset(jobs), Constraint(tasks(2))
    return ray


def now():
    return LoopClock().now()


def leave(w: World, *jobs: str) -> None:
    """These jobs live on, the others end."""
    w.ray.live_job_ids, w.ray.live_jobs = frozenset(jobs), len(jobs)


def running(w: World) -> int:
    return list(w.instances.values()).count("RUNNING")


def is_ignored(w: World) -> bool:
    return any("it is ignored, and " in each for each in w.reconciler.status().notices)


# the rule

JOBS = ("a", "b", "c")
STANDS = st.builds(
    lambda jobs, is_named, actors: Snapshot(
        live_jobs=len(jobs), live_job_ids=jobs if is_named else frozenset(), live_detached_actors=actors
    ),
    st.frozensets(st.sampled_from(JOBS), max_size=2),
    st.sampled_from([True, True, True, False]),
    st.sampled_from([0, 0, 0, 1]),
)
REPORTS = st.lists(st.tuples(st.integers(0, 12), STANDS, st.booleans()), min_size=1, max_size=30)
"""Seconds seen since the one before, how Ray stands, and whether the service is started anew after it."""


def unowned_s(history: list[tuple[int, Snapshot, bool]]) -> int:
    """Say from the reports alone for how long at the end nobody was seen who may have asked."""
    named = [each for _, each, _ in history if len(each.live_job_ids) == each.live_jobs]
    seen = []
    for number, (seen_s, each, _) in reversed(list(enumerate(history))):
        is_named = len(each.live_job_ids) == each.live_jobs
        knew = [one for one in named if any(one is other for _, other, _ in history[: number + 1])]
        asking = each.live_job_ids & knew[0].live_job_ids if is_named and knew else each.live_jobs
        if asking or each.live_detached_actors:
            break
        seen.append(seen_s)
    return sum(seen[:-1])


@pytest.mark.tier("property")
@given(REPORTS)
def test_e2_a_floor_is_over_when_and_only_when_nobody_who_may_want_it_was_seen_for_that_long(reports):
    owners, was_over, restarts = FloorOwners(), False, 0
    for number, (seen_s, snapshot, is_restart) in enumerate(reports, start=1):
        owners = floor.follow(owners, snapshot, float(seen_s), LIMIT_S)
        longest = max(unowned_s(reports[:each]) for each in range(1, number + 1))
        was_over = was_over or owners.is_over
        assert owners.is_over == was_over  # for good
        assert longest >= LIMIT_S or not owners.is_over  # a restart never shortens it
        assert longest < LIMIT_S * (1 + restarts / floor.STEPS) + 1e-6 or owners.is_over  # and forgets a twelfth at most
        if is_restart:
            owners, restarts = floor.kept(owners, LIMIT_S), restarts + 1


@pytest.mark.tier("property")
@given(REPORTS)
def test_e2_never_is_never(reports):
    owners = FloorOwners()
    for seen_s, snapshot, _ in reports:
        owners = floor.follow(owners, snapshot, float(seen_s), NEVER)
        assert not owners.is_over
        assert floor.next_step(owners, NEVER) is None
        assert floor.kept(owners, NEVER) == owners


@pytest.mark.parametrize("unowned", [0.0, 0.1, 2.4, 2.5, 29.0])
def test_the_next_step_is_something_new_to_write_or_the_end(unowned):
    owners = FloorOwners(frozenset("a"), unowned)
    later = floor.follow(owners, Snapshot(live_jobs=0), floor.next_step(owners, LIMIT_S), LIMIT_S)
    assert later.is_over or floor.kept(later, LIMIT_S) != floor.kept(owners, LIMIT_S)


# the whole


async def test_e2_the_floor_goes_with_the_driver_that_asked_while_one_that_came_later_lives():
    async with world(SHORT, ray=owned_by("a")) as w:
        await w.live(4)
        leave(w, "a", "b")
        await w.live(60)
        assert running(w) == 2
        leave(w, "b")
        await w.live(LIMIT_S - 1)
        assert running(w) == 2
        await w.live(1 + GONE_S)
        assert w.instances == {}
        await w.live(60)
        assert (w.instances, w.replays, is_ignored(w)) == ({}, [], True)


async def test_e2_each_driver_that_lived_then_keeps_it_and_so_does_a_detached_actor():
    async with world(SHORT, ray=owned_by("a", "b")) as w:
        await w.live(4)
        for left, actors in ((("b", "c"), 0), (("c",), 1), ((), 1)):
            leave(w, *left)
            w.ray.live_detached_actors = actors
            await w.live(60)
            assert running(w) == 2
        w.ray.live_detached_actors = 0
        await w.live(LIMIT_S + GONE_S)
        assert w.instances == {}


async def test_e2_without_names_any_live_job_keeps_it():
    async with world(SHORT, ray=owned_by()) as w:
        await w.live(60)
        w.ray.live_jobs = 0
        await w.live(20)
        w.ray.live_jobs = 1  # the clock begins anew
        await w.live(5)
        w.ray.live_jobs = 0
        await w.live(LIMIT_S - 2)
        assert running(w) == 2
        await w.live(2 + GONE_S)
        assert w.instances == {}


async def test_e2_what_is_over_counts_again_once_something_else_is_asked_for_and_belongs_to_who_lives_then():
    async with world(SHORT, ray=owned_by("a")) as w:
        await w.live(4)
        leave(w, "b")
        await w.live(LIMIT_S + GONE_S)
        w.ray.constraint = Constraint(tasks(1))
        await w.live(60)
        assert (running(w), is_ignored(w)) == (1, False)
        leave(w, "c")
        await w.live(LIMIT_S + GONE_S)
        assert (w.instances, is_ignored(w)) == ({}, True)
        w.ray.constraint = Constraint()
        await w.live(1)
        assert not is_ignored(w)


async def test_e2_what_is_over_is_taken_back_in_the_gcs_too_so_that_the_same_asked_for_again_counts():
    async with world(SHORT, ray=owned_by("a", can_take_back=True)) as w:
        for job in "bcd":
            await w.live(20)
            assert running(w) == 2
            leave(w, job)
            await w.live(LIMIT_S + GONE_S)
            assert (w.instances, is_ignored(w), w.ray.constraint, w.replays) == ({}, False, Constraint(), [])
            (said,) = [each for each in w.reconciler.status().actions if each.kind == "FLOOR_ENDED"][-1:]
            assert said.at == pytest.approx(now() - GONE_S, abs=2.0)
            assert said.detail == "request_resources() asked for {CPU: 1} x 2, and every job that lived then has ended"
            w.ray.constraint = Constraint(tasks(2))


async def test_e2_what_is_asked_for_while_the_old_is_being_taken_back_stays():
    async with world(SHORT, ray=owned_by("a")) as w:
        await w.live(4)
        leave(w, "b")
        await w.live(LIMIT_S)
        w.ray.can_take_back, w.ray.constraint = True, Constraint(tasks(3))
        await w.live(LIMIT_S)
        assert (running(w), w.ray.constraint) == (3, Constraint(tasks(3)))


async def test_e2_a_gcs_that_forgot_what_was_over_is_not_told_and_may_be_asked_the_same_again():
    async with world(SHORT, ray=owned_by("a")) as w:
        await w.live(4)
        leave(w, "b")
        await w.live(LIMIT_S + GONE_S)
        w.head_restarts(is_stored=True)
        await w.live(4)
        assert (w.replays, w.store.saves[-1].floor) == ([], None)
        w.ray.constraint = Constraint(tasks(2))
        await w.live(60)
        assert running(w) == 2


async def test_e2_a_restart_of_the_service_neither_forgets_the_owners_nor_shortens_the_time():
    async with world(SHORT, ray=owned_by("a")) as w:
        await w.live(4)
        leave(w, "b")
        await w.live(20)
        await w.kill()
        async with world(SHORT, machines=w.machines, store=w.store, ray=w.ray) as again:
            again.epoch = 2
            await asyncio.sleep(100)
            await again.live(LIMIT_S - 20 - 1)
            assert running(again) == 2
            await again.live(1 + LIMIT_S / floor.STEPS + GONE_S)
            assert again.instances == {}
            assert is_ignored(again)
            await again.kill()
            async with world(SHORT, machines=w.machines, store=w.store, ray=w.ray) as third:
                third.epoch = 3
                await third.live(10)
                assert (third.launched, is_ignored(third)) == ([], True)


async def test_e2_time_in_which_nobody_saw_ray_does_not_count():
    async with world(SHORT, ray=owned_by("a")) as w:
        await w.live(4)
        leave(w, "b")
        await w.live(20)
        await asyncio.sleep(300)
        await w.live(2)
        await w.live(60, snapshot=None, gcs_error="not now")
        await w.live(7)
        assert (running(w), is_ignored(w)) == (2, False)
        await w.live(3)
        assert is_ignored(w)


async def test_e2_never_keeps_it_as_ray_does_and_a_changed_definition_counts_from_then():
    async with world(replace(SHORT, floor_after_driver_s=NEVER), ray=owned_by("a")) as w:
        await w.live(4)
        leave(w)
        await w.live(200)
        assert running(w) == 2
        w.reconciler.redefine(SHORT, "next")
        await w.live(LIMIT_S - 2)
        assert running(w) == 2
        await w.live(3 + GONE_S)
        assert w.instances == {}


@pytest.mark.parametrize("lives_s", [4, 60])
async def test_e2_a_lost_head_takes_the_owners_with_it_and_holds_only_what_was_not_over(lives_s):
    async with world(config(idle_timeout_s=20.0), ray=owned_by("a")) as w:
        await w.live(4)
        leave(w)
        await w.live(lives_s)
        kept = running(w)
        w.head_restarts()
        for spec in w.executor.launched[:kept]:
            w.ray.join(spec)
        await w.live(1)
        saved = w.store.saves[-1]
        assert (saved.floor, saved.floor_owners) == (Constraint(tasks(2)) if lives_s == 4 else None, FloorOwners())


async def test_e2_it_is_said_who_keeps_the_floor_until_when_and_that_it_is_over():
    async with world(SHORT, ray=owned_by("a", "b", "c", "d", "e")) as w:
        loop = asyncio.get_running_loop()
        await w.live(10)
        for left, said in (("abcde", "job a, b, c and 2 more lives"), ("bx", "job b lives")):
            leave(w, *left)
            await w.live(1)
            nodes = w.reconciler.explanation().nodes
            assert {(each.because.reason, each.because.detail) for each in nodes} == {
                (Reason.CONSTRAINT, f"idle, and the floor needs it: kept while {said}")
            }
        leave(w, "x")
        began = loop.time()
        await w.live(1)
        because = w.reconciler.explanation().nodes[0].because
        assert because.until is not None
        assert because.until - w.reconciler.explanation().at == pytest.approx(began + LIMIT_S - loop.time(), abs=1.5)
        assert "it ends after 30 s of that (floorAfterDriver)" in w.reconciler.status().notices[0]
        await w.live(LIMIT_S + GONE_S)
        (shape,) = w.reconciler.explanation().shapes
        assert (shape.kind, shape.count, shape.because.reason) == (DemandKind.CONSTRAINT, 2, Reason.NOBODY_WAITS)


async def test_e2_of_a_floor_that_is_over_it_is_said_whether_it_is_being_taken_back():
    async with world(SHORT, ray=owned_by("a")) as w:
        await w.live(4)
        leave(w, "b")
        w.ray.can_take_back = None
        await w.live(LIMIT_S + GONE_S)
        for doing in ("the monitor is taking it back at Ray", "the monitor could not take it back at Ray"):
            said = f"{doing}; until that is done the same asked for anew is no change there"
            (shape,) = w.reconciler.explanation().shapes
            assert shape.because.detail == f"every job that lived when this was asked for has ended; {said}"
            assert [each.endswith(f"it is ignored, and {said}") for each in w.reconciler.status().notices] == [True]
            w.ray.can_take_back = False
            await w.live(4)


async def test_e2_the_end_of_a_floor_is_logged_once_and_no_more_after_a_restart():
    with capture_logs() as logs:
        async with world(SHORT, ray=owned_by("a")) as w:
            await w.live(4)
            leave(w, "b")
            await w.live(LIMIT_S + 60)
            await w.kill()
            async with world(SHORT, machines=w.machines, store=w.store, ray=w.ray) as again:
                again.epoch = 2
                await again.live(10)
                assert is_ignored(again)
    told = [(each["cluster"], each["detail"]) for each in logs if each["event"] == "floor.ended"]
    assert told == [("demo", "request_resources() asked for {CPU: 1} x 2, and every job that lived then has ended")]
