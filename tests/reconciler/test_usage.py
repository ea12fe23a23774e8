"""No double counting (complaint D1): a node fills up at once, its demand leaves the snapshot 1 to 2 s later."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayscaler.model.resources import Resources
from rayscaler.reconciler import usage
from tests.reconciler.builders import NOW, row

pytestmark = pytest.mark.tier("unit")

LAG = 3.0


def seen(*snapshots):
    """History after snapshots given as (second, rows)."""
    history = {}
    for at, rows in snapshots:
        history = usage.remember(history, rows, NOW + at, LAG)
    return history


def room(history, one, at):
    return usage.undoubled([one], history, NOW + at, LAG)[0].available.get("CPU", 0) // 10_000


EMPTY, FULL, HALF = row(cpus=4, used=0), row(cpus=4, used=4), row(cpus=4, used=2)


def test_d1_the_room_of_a_node_that_fills_up_still_counts_while_its_demand_may_be_in_the_snapshot():
    history = seen((0, [EMPTY]), (1, [FULL]))
    assert [room(history, FULL, at) for at in (1, 2, 3, 3.9)] == [4, 4, 4, 4]
    assert room(history, FULL, 4) == 0  # 3 s after it was last seen free


def test_the_old_room_counts_from_the_snapshot_that_ended_it_however_long_ago_it_was_first_seen():
    assert room(seen((0, [EMPTY]), (100, [FULL])), FULL, 102) == 4


def test_a_node_seen_for_the_first_time_counts_as_empty_for_it_was_while_it_was_expected():
    history = seen((0, [FULL]))
    assert room(history, FULL, 2.9) == 4
    assert room(history, FULL, 3) == 0


def test_filling_up_step_by_step_expires_step_by_step():
    history = seen((0, [EMPTY]), (1, [HALF]), (2, [FULL]))
    assert [room(history, FULL, at) for at in (3, 4.5, 5.5)] == [4, 2, 0]


def test_room_that_became_free_counts_at_once_and_stays():
    history = seen((0, [EMPTY]), (1, [FULL]), (10, [EMPTY]))
    assert [room(history, EMPTY, at) for at in (10, 20)] == [4, 4]


def test_more_than_the_total_is_never_free():
    history = seen((0, [row(cpus=8, used=0)]), (1, [FULL]))
    assert room(history, FULL, 1) == 4


def test_resources_that_ended_while_another_was_freed_are_kept_apart():
    total = Resources.of(CPU=4, GPU=1)
    before = row(total=total, available=Resources.of(CPU=4))
    after = row(total=total, available=Resources.of(GPU=1))
    freed = usage.undoubled([after], seen((0, [before]), (9, [before]), (10, [after])), NOW + 10, LAG)[0].available
    assert freed == Resources.of(CPU=4, GPU=1)


def test_a_dead_node_and_one_that_is_not_shown_are_forgotten():
    assert seen((0, [EMPTY]), (1, [])) == {}


def test_the_next_expiry_is_the_moment_at_which_the_room_changes():
    history = seen((0, [EMPTY]), (1, [HALF]), (2, [FULL]))
    assert usage.next_expiry(history, NOW + 2, LAG) == NOW + 4
    assert usage.next_expiry(history, NOW + 4, LAG) == NOW + 5
    assert usage.next_expiry(history, NOW + 5, LAG) is None
    assert usage.next_expiry(seen((0, [EMPTY])), NOW, LAG) is None


STEPS = st.lists(st.tuples(st.floats(0.01, 5), st.integers(0, 4)), min_size=1, max_size=12)


@pytest.mark.tier("property")
@given(STEPS, st.floats(0, 8))
def test_the_room_is_never_below_what_the_node_has_nor_above_what_it_had_within_the_lag(steps, later):
    at, history, seen_rooms = NOW, {}, []
    for gap, used in steps:
        at += gap
        history = usage.remember(history, [row(cpus=4, used=used)], at, LAG)
        seen_rooms.append((at, 4 - used))
    now = at + later
    found = usage.undoubled([row(cpus=4, used=4 - seen_rooms[-1][1])], history, now, LAG)[0].available.get("CPU", 0) // 10_000
    # A room seen in snapshot i held until snapshot i + 1 was read; before the first one the node was empty.
    held = [(seen_rooms[0][0], 4)] + [(then, free) for (_, free), (then, _) in pairwise(seen_rooms)]
    assert found >= seen_rooms[-1][1]
    assert found <= max([seen_rooms[-1][1], *(free for until, free in held if until > now - LAG - 1e-5)])
    assert found >= max([seen_rooms[-1][1], *(free for until, free in held if until > now - LAG + 1e-5)])


@pytest.mark.tier("property")
@given(STEPS)
def test_the_history_stays_as_short_as_the_lag(steps):
    at, history = NOW, {}
    for gap, used in steps * 10:
        at += gap
        history = usage.remember(history, [row(cpus=4, used=used)], at, LAG)
        assert all(then + LAG > at for then, _ in history["n1"][:-1])
        expiry = usage.next_expiry(history, at, LAG)
        assert expiry is None or at < expiry <= at + LAG
