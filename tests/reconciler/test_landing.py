"""landing: a node fills up at once, its demand leaves the snapshot 1 to 2 s later, or much later (complaint D1)."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayscaler.model.demand import Snapshot
from rayscaler.model.resources import Resources
from rayscaler.reconciler import landing
from tests.reconciler.builders import NOW, row, tasks

pytestmark = pytest.mark.tier("unit")

LAG, LONG = 3.0, 12.0
LAGS = landing.Lags(LAG, LONG)
EMPTY, FULL, HALF = row(cpus=4, used=0), row(cpus=4, used=4), row(cpus=4, used=2)
FAR = row("far", cpus=4, used=0)


def seen(*snapshots, pending=0):
    """The ledger after snapshots given as (second, rows) or (second, rows, pending tasks of one CPU)."""
    ledger = None
    for at, rows, *wanted in snapshots:
        ledger = landing.follow(ledger, Snapshot(nodes=tuple(rows), demands=tasks(*wanted or [pending])), NOW + at, LAGS)
    return ledger


def room(ledger, one, at):
    return landing.rooms(ledger, [one], NOW + at, LAGS)[0].available.get("CPU", 0) // 10_000


def ends(ledger):
    """Seconds at which the landings cease to count, oldest first."""
    return [round(ledger.ends_at(each, LAGS) - NOW, 6) for each in ledger.landings]


# what a node had counts for a while


def test_d1_the_room_of_a_node_that_fills_up_still_counts_while_its_demand_may_be_in_the_snapshot():
    ledger = seen((0, [EMPTY], 4), (1, [FULL], 0))
    assert [room(ledger, FULL, at) for at in (1, 2, 3, 3.9)] == [4, 4, 4, 4]
    assert room(ledger, FULL, 4) == 0  # 3 s after it was last seen free


def test_the_old_room_counts_from_the_snapshot_that_ended_it_however_long_ago_it_was_first_seen():
    assert room(seen((0, [EMPTY]), (100, [FULL])), FULL, 102) == 4


def test_a_node_seen_for_the_first_time_counts_as_empty_for_it_was_while_it_was_expected():
    ledger = seen((0, [FULL], 9))
    assert room(ledger, FULL, 2.9) == 4
    assert room(ledger, FULL, 3) == 0  # what waits there is another's: nobody has seen it land


def test_filling_up_step_by_step_expires_step_by_step():
    ledger = seen((0, [EMPTY], 4), (1, [HALF], 2), (2, [FULL], 0))
    assert [room(ledger, FULL, at) for at in (3, 4.5, 5.5)] == [4, 2, 0]


def test_room_that_became_free_counts_at_once_and_stays():
    ledger = seen((0, [EMPTY]), (1, [FULL]), (10, [EMPTY]))
    assert [room(ledger, EMPTY, at) for at in (10, 20)] == [4, 4]


def test_room_that_is_free_again_does_not_count_twice():
    ledger = seen((0, [row(cpus=4, used=1)]), (10, [row(cpus=4, used=3)]), (11, [HALF]), (12, [row(cpus=4, used=3)]))
    assert room(ledger, row(cpus=4, used=3), 12) == 3


def test_j4_use_that_comes_at_once_with_what_a_node_has_grown_by_is_a_landing_in_full():
    grown = row(cpus=3, used=3)
    assert room(seen((0, [row(cpus=1, used=0)], 3), (1, [grown], 3)), grown, 1) == 3


def test_j4_what_a_node_has_grown_by_is_no_room_that_has_become_free():
    grown = row(cpus=6, used=4)
    assert room(seen((0, [EMPTY], 4), (1, [FULL], 0), (2, [grown], 0)), grown, 2) == 6


def test_more_than_the_total_is_never_free():
    ledger = seen((0, [row(cpus=8, used=0)]), (1, [FULL]))
    assert room(ledger, FULL, 1) == 4


def test_resources_that_ended_while_another_was_freed_are_kept_apart():
    total = Resources.of(CPU=4, GPU=1)
    before = row(total=total, available=Resources.of(CPU=4))
    after = row(total=total, available=Resources.of(GPU=1))
    (freed,) = landing.rooms(seen((0, [before]), (9, [before]), (10, [after])), [after], NOW + 10, LAGS)
    assert freed.available == Resources.of(CPU=4, GPU=1)


def test_what_landed_on_a_node_that_is_not_shown_any_more_is_forgotten():
    assert seen((0, [EMPTY]), (1, [FULL]), (2, [])).landings == ()


def test_the_next_expiry_is_the_moment_at_which_the_room_changes():
    ledger = seen((0, [EMPTY]), (1, [HALF]), (2, [FULL]))
    assert landing.next_expiry(ledger, NOW + 2, LAGS) == NOW + 4
    assert landing.next_expiry(ledger, NOW + 4, LAGS) == NOW + 5
    assert landing.next_expiry(ledger, NOW + 5, LAGS) is None
    assert landing.next_expiry(seen((0, [EMPTY])), NOW, LAGS) is None
    assert landing.next_expiry(None, NOW, LAGS) is None


def test_a_node_that_took_work_is_landing_until_that_counts_no_more():
    ledger = seen((0, [EMPTY]), (2, [FULL]))
    assert landing.is_landing(ledger, NOW + 4.9, LAGS)
    assert not landing.is_landing(ledger, NOW + 5.0, LAGS)
    assert not landing.is_landing(seen((0, [FULL]), (9, [EMPTY])), NOW + 9, LAGS)


# and for how long, the demand tells


@pytest.mark.parametrize(
    ("samples", "after_s"),
    [
        ([(14, 0), (14, 6)], LONG),
        ([(14, 0), (14, 6), (9, 6)], LONG),
        ([(14, 0), (14, 6), (9, 6), (8, 6)], LAG),
        ([(14, 0), (8, 6)], LAG),
        ([(0, 0), (0, 6), (14, 6)], LONG),
        ([(14, 0), (14, 6), (14, 6), (18, 6)], LONG),
        ([(14, 0), (14, 6), (14, 6), (14, 6), (18, 6)], LAG),
    ],
    ids=[
        "use that grows while nothing leaves the demand is the same work twice",
        "as long as less has left the demand than has landed",
        "and over when as much has",
        "work that lands in one step is not shown twice",
        "demand that shows late, of what has landed too, is no new work",
        "nor does what comes soon after make up for what is shown twice",
        "whoever streams work in waits for no old landing",
    ],
)
def test_a_landing_counts_for_long_while_its_demand_is_shown_and_nothing_new_has_come(samples, after_s):
    ledger = seen(*((0.9 * number, [row(cpus=8, used=used)], pending) for number, (pending, used) in enumerate(samples)))
    assert ends(ledger) == [pytest.approx(0.9 + after_s)]


def test_work_whose_place_has_gone_is_wanted_again_which_is_no_new_work():
    full = row("far", cpus=4, used=4)
    ledger = seen((-9, [EMPTY, full], 2), (1, [HALF, full], 2), (3.5, [HALF, FAR], 6))
    assert ends(ledger) == [1 + LONG]
    assert ends(seen((-9, [EMPTY, full], 2), (1, [HALF, full], 2), (3.5, [HALF, FAR], 7))) == [1 + LAG]


def test_where_new_work_has_come_a_landing_is_over_with_its_demand():
    ledger = seen((0, [EMPTY, FAR], 4), (1, [HALF, FAR], 4), (3.5, [HALF, FAR], 5))
    assert room(ledger, HALF, 3.6) == 4
    ledger = landing.follow(ledger, Snapshot(nodes=(HALF, FAR), demands=tasks(3)), NOW + 3.7, LAGS)
    assert room(ledger, HALF, 3.7) == 2
    assert not landing.is_landing(ledger, NOW + 3.7, LAGS)


def test_demand_that_falls_is_that_of_the_oldest_landing():
    far = row("far", cpus=4, used=2)
    ledger = seen((0, [EMPTY, FAR], 6), (1, [HALF, FAR], 6), (2, [HALF, far], 6), (3, [HALF, far], 4))
    assert ends(ledger) == [1 + LAG, 2 + LONG]


# whatever happens

STEPS = st.lists(st.tuples(st.floats(0.01, 5), st.integers(0, 4)), min_size=1, max_size=12)


@pytest.mark.tier("property")
@given(STEPS, st.floats(0, 8))
def test_the_room_is_never_below_what_the_node_has_nor_above_what_it_had_within_the_lag(steps, later):
    at, ledger, seen_rooms = NOW, None, []
    for gap, used in steps:
        at += gap
        ledger = landing.follow(ledger, Snapshot(nodes=(row(cpus=4, used=used),)), at, landing.Lags(LAG, LAG))
        seen_rooms.append((at, 4 - used))
    now = at + later
    (now_row,) = landing.rooms(ledger, [row(cpus=4, used=4 - seen_rooms[-1][1])], now, landing.Lags(LAG, LAG))
    found = now_row.available.get("CPU", 0) // 10_000
    # A room seen in snapshot i held until snapshot i + 1 was read; before the first one the node was empty.
    held = [(seen_rooms[0][0], 4)] + [(then, free) for (_, free), (then, _) in pairwise(seen_rooms)]
    assert found >= seen_rooms[-1][1]
    assert found <= max([seen_rooms[-1][1], *(free for until, free in held if until > now - LAG - 1e-5)])
    assert found >= max([seen_rooms[-1][1], *(free for until, free in held if until > now - LAG + 1e-5)])


@pytest.mark.tier("property")
@given(st.lists(st.tuples(st.floats(0.01, 5), st.integers(0, 4), st.integers(0, 9)), min_size=1, max_size=12))
def test_no_landing_is_kept_that_does_not_count_and_none_is_more_than_was_used(steps):
    at, ledger = NOW, None
    for gap, used, pending in steps * 10:
        at += gap
        ledger = landing.follow(ledger, Snapshot(nodes=(row(cpus=4, used=used),), demands=tasks(pending)), at, LAGS)
        assert all(at < ledger.ends_at(each, LAGS) <= at + LONG for each in ledger.landings)
        assert all(0 <= each.wanted.get(name, 0) <= amount for each in ledger.landings for name, amount in each.amounts.items())
        assert sum(each.amounts.get("CPU", 0) for each in ledger.landings) <= 40_000
