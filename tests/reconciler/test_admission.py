"""Which report counts (design 2b.3): by the monitor's start and its sequence; a session that was superseded never again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayscaler.errors import Superseded
from rayscaler.model.demand import Session
from rayscaler.reconciler.admission import RETIRED_KEPT, Order, admit
from tests.reconciler.builders import FIRST, SECOND, report

pytestmark = pytest.mark.tier("unit")


def after(*reports):
    order = Order()
    for each in reports:
        order, _ = admit(order, each)
    return order


def test_the_first_report_is_news_whatever_its_numbers():
    order, is_news = admit(Order(), report(17, monitor_epoch=5))
    assert is_news
    assert (order.monitor_epoch, order.sequence, order.session, order.retired) == (5, 17, FIRST, ())


def test_a_later_sequence_is_news_though_some_were_lost():
    assert admit(after(report(1)), report(9))[1]


def test_the_same_report_again_is_taken_and_is_no_news():
    order = after(report(3))
    assert admit(order, report(3)) == (order, False)


def test_an_older_report_of_the_same_monitor_is_refused():
    with pytest.raises(Superseded, match="report 2 came after report 3"):
        admit(after(report(3)), report(2))


def test_a_later_monitor_supersedes_an_earlier_one_though_its_sequence_begins_anew():
    order = after(report(900, monitor_epoch=1), report(1, monitor_epoch=2))
    with pytest.raises(Superseded, match="monitor of epoch 1 was superseded by that of 2"):
        admit(order, report(901, monitor_epoch=1))


def test_of_two_monitors_that_take_turns_the_later_one_is_heard_and_the_earlier_one_never():
    order = after(report(1, monitor_epoch=10), report(1, monitor_epoch=20))
    for sequence in range(2, 50):
        with pytest.raises(Superseded):
            admit(order, report(sequence, monitor_epoch=10))
        order, is_news = admit(order, report(sequence, monitor_epoch=20))
        assert is_news


def test_a_superseded_session_is_never_accepted_again_not_even_from_a_later_monitor():
    order = after(report(1), report(2, session=SECOND))
    for epoch in (1, 2, 999):
        with pytest.raises(Superseded, match="session session_1 ended when session_2 took its place"):
            admit(order, report(3, monitor_epoch=epoch))


def test_a_report_that_knows_no_session_leaves_the_known_one():
    order = after(report(1), report(2, session=None, gcs_error="down"))
    assert (order.session, order.retired, order.sequence) == (FIRST, (), 2)


def test_a_refused_report_changes_nothing():
    order = after(report(3))
    with pytest.raises(Superseded):
        admit(order, report(2, session=SECOND))
    assert admit(order, report(4))[1]


def test_no_more_sessions_are_remembered_than_are_worth_it():
    sessions = [Session(str(n), str(n)) for n in range(RETIRED_KEPT + 10)]
    order = after(*(report(n + 1, session=each) for n, each in enumerate(sessions)))
    assert order.retired == tuple(sessions[-RETIRED_KEPT - 1 : -1])


SESSIONS = st.sampled_from([None, *(Session(str(n), "s") for n in range(4))])
REPORTS = st.builds(
    lambda epoch, sequence, session: report(sequence, monitor_epoch=epoch, session=session), st.integers(1, 3), st.integers(1, 5), SESSIONS
)


def test_design_2b_3_only_the_head_that_is_served_is_heard_whatever_its_numbers_say():
    order, is_news = admit(Order(), report(1, head_incarnation="uid-2"), "uid-2")
    assert (order.incarnation, is_news) == ("uid-2", True)
    for late in (report(9, head_incarnation="uid-1"), report(1, monitor_epoch=9, head_incarnation="uid-3", session=SECOND)):
        with pytest.raises(Superseded, match=f"head {late.head_incarnation} is not the one that is served, uid-2"):
            admit(order, late, "uid-2")
    assert admit(order, report(2, head_incarnation="uid-2"), "uid-2")[1]


def test_the_clock_of_the_next_heads_machine_may_be_behind():
    order, _ = admit(Order(), report(900, monitor_epoch=5000, head_incarnation="uid-1"), "uid-1")
    order, is_news = admit(order, report(1, monitor_epoch=4000, head_incarnation="uid-2", session=SECOND), "uid-2")
    assert (is_news, order.monitor_epoch, order.sequence, order.retired_incarnations) == (True, 4000, 1, ("uid-1",))
    with pytest.raises(Superseded, match="monitor of epoch 3999"):
        admit(order, report(7, monitor_epoch=3999, head_incarnation="uid-2", session=SECOND), "uid-2")
    assert admit(order, report(1, monitor_epoch=4000, head_incarnation="uid-2", session=SECOND), "uid-2") == (order, False)


def test_where_it_is_known_which_head_is_served_one_that_does_not_say_which_it_is_is_refused():
    with pytest.raises(Superseded, match=r"head \(which does not say which\) is not the one that is served, uid-2"):
        admit(Order(), report(1), "uid-2")
    assert admit(Order(), report(1), "")[1]


@pytest.mark.tier("property")
@given(st.lists(REPORTS, max_size=40))
def test_whatever_comes_what_is_accepted_only_grows_and_no_session_returns(reports):
    order, news, ended = Order(), [], set()
    for each in reports:
        before = order
        try:
            order, is_news = admit(order, each)
        except Superseded:
            assert order is before
            continue
        if is_news:
            news.append((each.monitor_epoch, each.sequence))
            assert each.session not in ended
        if before.session is not None and order.session != before.session:
            ended.add(before.session)
    assert news == sorted(set(news))
