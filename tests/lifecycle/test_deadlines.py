"""Deadlines and back-off: each phase has a budget of its own (complaint B5), failures double the wait."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayscaler.lifecycle import backoff, observe
from rayscaler.lifecycle.deadlines import Deadlines, overdue, stuck
from rayscaler.model.instance import InstanceStatus, Phase, Trouble
from tests.lifecycle.builders import NOW, instance, seen

pytestmark = pytest.mark.tier("unit")

S = InstanceStatus
LIMITS = Deadlines(unscheduled_s=10, pulling_s=20, starting_s=30, registering_s=40, draining_s=50, terminating_s=60)


@pytest.mark.parametrize(
    ("phase", "budget_s"), [(Phase.UNSCHEDULED, 10), (Phase.PULLING, 20), (Phase.STARTING, 30), (Phase.REGISTERING, 40)]
)
@pytest.mark.parametrize("status", [S.REQUESTED, S.ALLOCATED])
def test_an_instance_in_flight_is_overdue_when_its_phase_has_lasted_its_budget(status, phase, budget_s):
    one = instance(status, phase=phase)
    assert overdue([one], LIMITS, NOW + budget_s - 0.001) == []
    assert overdue([one], LIMITS, NOW + budget_s) == [one]


def test_b5_progress_in_one_phase_never_uses_the_next_ones_budget():
    """Each phase lasts all but a second of its budget, 96 s in all; at no moment is the instance overdue."""
    now, one = NOW, instance(S.REQUESTED)
    for phase, budget_s in [(Phase.UNSCHEDULED, 10), (Phase.PULLING, 20), (Phase.STARTING, 30), (Phase.REGISTERING, 40)]:
        one = observe.observation(one, seen(phase), now)
        now += budget_s - 1
        assert overdue([one], LIMITS, now) == []
    assert overdue([one], LIMITS, now + 1) == [one]


def test_being_allocated_begins_the_budget_anew_though_the_phase_is_the_same():
    one = observe.observation(instance(S.REQUESTED), seen(Phase.UNSCHEDULED), NOW + 9)
    assert LIMITS.of(one) == NOW + 9 + 10


def test_a_running_or_ended_instance_is_never_overdue():
    those = [instance(status, phase=phase) for status in (S.RUNNING, S.TERMINATED, S.LAUNCH_FAILED) for phase in Phase]
    assert overdue(those, LIMITS, NOW + 1e9) == []


def test_a_drain_is_overdue_by_its_own_time_but_not_once_the_node_is_dead():
    one = instance(S.DRAINING, phase=Phase.PULLING, phase_since=NOW - 1000)
    assert LIMITS.of(one) == NOW + 50
    assert LIMITS.of(replace(one, node_dead_since=NOW)) is None


def test_an_end_is_overdue_by_its_own_time():
    assert LIMITS.of(instance(S.TERMINATING, phase=Phase.ENDING, phase_since=NOW + 30)) == NOW + 60


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_of_an_instance_in_flight_has_a_deadline(phase):
    assert LIMITS.of(instance(S.ALLOCATED, phase=phase)) is not None


def test_i3_what_waits_for_a_quota_waits_without_end():
    assert LIMITS.of(instance(S.ALLOCATED, trouble=Trouble.GATED, trouble_since=NOW)) is None


@pytest.mark.parametrize(
    ("trouble", "phase", "patience_s"),
    [
        pytest.param(Trouble.UNSCHEDULABLE, Phase.UNSCHEDULED, 60, id="H1 the second choice within 90 s"),
        pytest.param(Trouble.GATED, Phase.UNSCHEDULED, 60, id="I3 what waits for a quota leaves its demand to others"),
        pytest.param(Trouble.RETRIED, Phase.PULLING, 30, id="FH-5 kubelet has tried an image three times"),
        pytest.param(Trouble.RETRIED, Phase.STARTING, 10, id="FH-5 a Secret that is applied a moment later is waited for"),
        pytest.param(Trouble.HOPELESS, Phase.PULLING, 0, id="FH-5 what can never start is not waited for"),
    ],
)
def test_trouble_is_borne_for_a_part_of_its_phases_time(trouble, phase, patience_s):
    limits = Deadlines()
    one = instance(S.ALLOCATED, phase=phase, phase_since=NOW - 100, trouble=trouble, trouble_since=NOW)
    assert limits.stuck_at(one) == NOW + patience_s
    assert stuck([one], limits, NOW + patience_s - 0.001) == []
    assert stuck([one], limits, NOW + patience_s) == [one]
    assert stuck([replace(one, stuck_since=NOW)], limits, NOW + 1e9) == []  # noted already
    assert stuck([replace(one, status=status) for status in S if status not in (S.REQUESTED, S.ALLOCATED)], limits, NOW + 1e9) == []


def test_trouble_that_nobody_could_watch_pass_is_borne_from_when_it_could_be_seen():
    one = instance(S.ALLOCATED, trouble=Trouble.UNSCHEDULABLE, trouble_since=NOW)
    assert Deadlines(sight_since=NOW + 50).stuck_at(one) == NOW + 110


def test_waits_double_from_the_first_to_the_longest():
    known, waits, now = None, [], NOW
    for _ in range(9):
        known = backoff.failed(known, "small", "no room", now)
        waits.append(known.until - now)
        now = known.until
    assert waits == [5, 10, 20, 40, 80, 160, 300, 300, 300]
    assert known.failures == 9


@pytest.mark.parametrize(
    ("waits", "within_s", "tries"),
    [
        pytest.param(backoff.CRASHED, 600, 3, id="B6 what crashes is tried three times in ten minutes"),
        pytest.param(backoff.STUCK, 600, 2, id="B6 what hangs at its image is tried twice in ten minutes"),
        pytest.param(backoff.STUCK, 3900, 5, id="H1 what finds no machine is tried after 5, 10, 20 and 30 minutes"),
        pytest.param(backoff.NO_CAPACITY, 125, 7, id="H2 a quota is tried at least every half minute"),
    ],
)
def test_how_often_a_type_is_tried_depends_on_how_it_failed(waits, within_s, tries):
    known, now, count = None, NOW, 0
    while now <= NOW + within_s:
        count += 1
        known = backoff.failed(known, "small", "", now, waits)
        now = known.until
    assert count == tries


def test_a_burst_of_failures_counts_once_and_keeps_the_newest_words():
    known = backoff.failed(None, "small", "first", NOW)
    for second in range(1, 5):
        known = backoff.failed(known, "small", f"at {second}", NOW + second)
    assert (known.failures, known.until, known.detail) == (1, NOW + 5, "at 4")


@given(st.lists(st.floats(0, 1000), max_size=3000))
def test_no_history_of_failures_makes_the_wait_longer_than_the_longest(gaps):
    known, now = None, NOW
    for gap in gaps:
        now += gap
        known = backoff.failed(known, "small", "", now)
        assert now < known.until <= now + backoff.LONGEST_S
