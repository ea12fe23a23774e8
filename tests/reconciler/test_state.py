"""Sight, what is due when, and the planner's input: nothing is decided on what was not seen."""

from dataclasses import replace

import pytest

from rayscaler.model.demand import Constraint, Gang, Snapshot, Strategy
from rayscaler.model.instance import InstanceStatus, Phase, Reason
from rayscaler.model.node import NodeStatus
from rayscaler.model.state import Backoff, Expectation
from rayscaler.planner.plan import plan
from rayscaler.reconciler import landing
from rayscaler.reconciler.admission import Order
from rayscaler.reconciler.state import LATE_S, build_state, next_due, next_fresh, settled_at, sight
from rayscaler.settings import Timings
from tests.reconciler.builders import FIRST, NOW, SECOND, config, heartbeat, instance, memory, node_type, report, row, tasks

pytestmark = pytest.mark.tier("unit")

S = InstanceStatus


def take(known, one, now, *, session=FIRST, epoch=1):
    known.take_report(one, Order(epoch, one.sequence, session), now)


def met(*snapshots, gap_s=1.0):
    """A memory after snapshots `gap_s` apart, the last one at NOW; it was in contact for long."""
    known = memory(snapshot=None, fresh_at=None, order=Order(1, 0, FIRST))
    for index, each in enumerate(snapshots):
        take(known, report(index + 1, each), NOW - gap_s * (len(snapshots) - 1 - index))
    known.contact_at = known.seen_since = NOW - 100
    return known


# sight


def test_with_a_list_and_a_fresh_report_long_after_the_first_sight_is_clear():
    assert sight(memory(), NOW) == (None, None)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"is_listed": False}, Reason.NO_FIRST_LIST),
        ({"executor_error": "UNAVAILABLE: down"}, Reason.EXECUTOR_SILENT),
        ({"executor_error": "UNAVAILABLE: down", "is_listed": False}, Reason.EXECUTOR_SILENT),
        ({"executor_error": "BROKEN_PLUGIN: lies", "is_executor_broken": True}, Reason.EXECUTOR_BROKEN),
        ({"withheld": "its label is gone"}, Reason.DEFINITION_WITHHELD),
        ({"gcs_error": "connection refused"}, Reason.GCS_UNREADABLE),
        ({"fresh_at": None}, Reason.NO_REPORT),
        ({"fresh_at": NOW - 10.1}, Reason.REPORT_TOO_OLD),
    ],
    ids=lambda each: each.name if isinstance(each, Reason) else "",
)
def test_each_kind_of_blindness_forbids_launches_and_ends_and_says_why(fields, reason):
    assert sight(memory(**fields), NOW) == (reason, reason)


def test_a_report_is_old_by_when_it_was_true_not_by_when_it_came():
    known = memory()
    take(known, report(1, Snapshot(), age_s=10.5), NOW)
    assert sight(known, NOW)[0] is Reason.REPORT_TOO_OLD


def test_right_after_the_first_contact_nothing_may_end_and_launches_go_on():
    assert sight(memory(contact_at=NOW), NOW) == (None, Reason.SETTLING)


def test_while_settling_with_a_running_instance_not_shown_nothing_is_launched_either():
    lacking = memory(instance("i"), contact_at=NOW)
    assert sight(lacking, NOW) == (Reason.SETTLING, Reason.SETTLING)
    shown = memory(instance("i"), contact_at=NOW, snapshot=Snapshot(nodes=(row(),)))
    assert sight(shown, NOW) == (None, Reason.SETTLING)


def test_wc_12_6_settling_ends_with_a_report_that_is_fresh_enough_not_with_the_clock():
    known = memory(contact_at=NOW - 5, fresh_at=NOW - 5)  # one report, then silence
    assert sight(known, NOW)[1] is Reason.SETTLING
    assert sight(memory(contact_at=NOW - 5, fresh_at=NOW - 2.9), NOW) == (None, None)


def test_contact_begins_anew_with_a_session_a_monitor_a_life_of_the_gcs_and_after_each_silence():
    known = met(Snapshot(gcs_version=5))
    take(known, report(2, Snapshot(gcs_version=6)), NOW)
    take(known, heartbeat(3, 2), NOW + 1)
    assert known.contact_at == NOW - 100
    take(known, report(4, Snapshot(gcs_version=1)), NOW + 2)  # a fault-tolerant GCS was started anew: same session
    assert known.contact_at == NOW + 2
    take(known, report(5, None, gcs_error="down"), NOW + 3)
    take(known, heartbeat(6, 4), NOW + 4)
    assert known.contact_at == NOW + 4
    take(known, heartbeat(7, 4), NOW + 20)
    assert known.contact_at == NOW + 20
    take(known, report(1, Snapshot(), monitor_epoch=2), NOW + 21, epoch=2)
    assert known.contact_at == NOW + 21
    take(known, report(2, Snapshot(), session=SECOND, monitor_epoch=2), NOW + 22, session=SECOND, epoch=2)
    assert known.contact_at == NOW + 22


# idleness


def test_c1_idle_time_runs_on_with_fresh_reports_and_never_with_the_clock():
    known = met(Snapshot(nodes=(row(idle_s=10.0),)))
    assert [each.idle_s for each in build_state(known, NOW + 500).nodes] == [10.0]
    take(known, heartbeat(2, 1, age_s=0.5), NOW + 4)
    assert [each.idle_s for each in build_state(known, NOW + 500).nodes] == [13.5]


def test_c1_a_heartbeat_of_another_base_and_an_unreadable_gcs_prove_no_idleness():
    known = met(Snapshot(nodes=(row(idle_s=10.0),)))
    take(known, heartbeat(2, 7), NOW + 4)
    take(known, report(3, None, gcs_error="down"), NOW + 5)
    assert [each.idle_s for each in build_state(known, NOW + 5).nodes] == [10.0]


def test_only_idle_rows_grow_idle():
    known = met(Snapshot(nodes=(row(used=1, idle_s=3.0),)))
    take(known, heartbeat(2, 1), NOW + 4)
    assert [each.idle_s for each in build_state(known, NOW + 4).nodes] == [3.0]


def fresh_in(known):
    due = next_fresh(known)
    return None if due is None else round(due - NOW - LATE_S, 6)


def test_the_next_freshness_wanted_is_when_a_node_will_have_been_idle_for_its_timeout():
    nodes = (row("n1", idle_s=10.0), row("n2", idle_s=30.0), row("n3", used=1), row("h", is_head=True, idle_s=55.0))
    known = met(Snapshot(nodes=nodes))
    assert fresh_in(known) == 3  # by when the room that n3 may have had is old
    wanted = {}
    for second in range(5, 60, 5):
        take(known, heartbeat(second, 1), NOW + second)
        wanted[second] = fresh_in(known)
    assert (wanted[25], wanted[35], wanted[45], wanted[55]) == (30, 50, 50, None)
    assert wanted[30] == 30  # seen exactly up to then: floats may still say a little less


def test_a_type_can_have_an_idle_timeout_of_its_own():
    known = met(Snapshot(nodes=(row(),)))
    known.config = config(node_type(idle_timeout_s=7.0))
    assert fresh_in(known) == 7


def test_the_end_of_settling_is_wanted_too():
    known = memory(contact_at=NOW)
    assert fresh_in(known) == settled_at(known) - NOW == 2
    known.fresh_at = NOW + 2 + LATE_S
    assert next_fresh(known) is None


# what is due


def due_in(known):
    return next_due(known, NOW) - NOW - LATE_S


def test_with_nothing_under_way_the_next_cycle_is_due_when_sight_would_end():
    assert due_in(memory()) == pytest.approx(10)
    assert due_in(memory(fresh_at=None)) == pytest.approx(60)  # the safety cycle


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"instances": [instance(status=S.ALLOCATED, phase=Phase.STARTING, since=NOW - 295, phase_since=NOW - 295)], "contact_at": 0}, 5),
        ({"instances": [instance(status=S.REJOINING, since=NOW - 145)], "contact_at": NOW - 146}, 5),
        ({"instances": [instance(status=S.DRAINING, since=NOW - 57)]}, 3),
        ({"instances": [instance(status=S.TERMINATING, since=NOW - 119)]}, 1),
        ({"instances": [instance(drain_not_before=NOW + 4)]}, 4),
        ({"instances": [instance(node_dead_since=NOW - 3)]}, 2),
        ({"unneeded_since": {"i": NOW - 8}}, 2),
        ({"backoffs": {"small": Backoff("small", 1, NOW + 6, "")}}, 6),
    ],
    ids=["phase", "rejoin", "drain", "end", "retry of a drain", "dead node", "unneeded", "back-off"],
)
def test_a_cycle_is_due_when_the_next_thing_falls_due(fields, seconds):
    instances = fields.pop("instances", [])
    assert due_in(memory(*instances, **fields)) == pytest.approx(seconds, abs=1e-6)


@pytest.mark.parametrize(
    ("fields", "seconds"),
    [
        ({"expectations": {"i": Expectation("i", "small", NOW + 7)}}, 7),
        ({"ledger": landing.Ledger(landings=(landing.Landing(NOW - 1, "n1", {"CPU": 1}, {}),))}, 2),
        ({"counts": {tasks(1)[0].bundle: ((NOW - 0.5, 1), (NOW, 2))}}, 1),
    ],
    ids=["promise of a launch", "old room", "old count"],
)
def test_what_passes_with_time_passes_only_as_far_as_ray_was_seen(fields, seconds):
    known = memory(**fields)
    assert fresh_in(known) == pytest.approx(seconds, abs=1e-6)
    assert due_in(known) == pytest.approx(10)


def test_a_silent_monitor_makes_no_room_pass_though_its_demand_stays():
    """Seen in simulation: two tasks had landed, the monitor died, and 3 s later their demand met the full node and was launched for."""
    known = memory(instance(ray_node_id="n1"), timings=replace(Timings(), blind_after_s=60.0))
    take(known, report(2, Snapshot(nodes=(row(),))), NOW - 1)
    take(known, report(3, Snapshot(nodes=(row(used=1),), demands=tasks(1))), NOW)
    assert plan(build_state(known, NOW + 50)).launches == ()
    known.fresh_at = NOW + 50
    assert len(plan(build_state(known, NOW + 50)).launches) == 1


def test_a_due_cycle_comes_when_every_comparison_says_that_it_is_due():
    """Floats near 2e9: now - since may be below the grace although now is since + grace."""
    for step in range(200):
        since = NOW + step * 0.1237
        known = memory(instance(node_dead_since=since), fresh_at=since)
        due = next_due(known, since)
        assert due - since >= known.timings.node_dead_grace_s
        assert next_due(known, due) > due


def test_what_is_overdue_already_makes_no_busy_loop():
    known = memory(instance(status=S.DRAINING, since=NOW - 1000), fresh_at=NOW - 1000, unneeded_since={"i": 0.0})
    assert due_in(known) == pytest.approx(60)


# the planner's input


def test_the_planners_input_has_all_that_is_known():
    gang, constraint = Gang("g", Strategy.PACK, tasks(2)), Constraint(tasks(3))
    known = memory(
        instance("i"),
        instance("over", S.TERMINATED),
        snapshot=Snapshot(nodes=(row(),), demands=tasks(4), gangs=(gang,)),
        floor=constraint,
        expectations={"i": Expectation("i", "small", NOW + 1)},
        backoffs={"small": Backoff("small", 1, NOW + 1, "x")},
        unneeded_since={"i": NOW - 1},
        timings=replace(Timings(), unneeded_grace_s=11, node_dead_grace_s=12),
    )
    state = build_state(known, NOW + 1)
    assert (state.now, state.config, state.no_launch, state.no_end) == (NOW + 1, known.config, None, None)
    assert [each.instance_id for each in state.instances] == ["i"]
    assert (state.demands, state.gangs, state.constraint) == (tasks(4), (gang,), constraint)
    assert (state.unneeded_since, state.unneeded_grace_s, state.node_dead_grace_s) == ((("i", NOW - 1),), 11, 12)
    assert [each.instance_id for each in state.expectations] == ["i"]
    assert [each.node_type for each in state.backoffs] == ["small"]


def test_a_new_session_forgets_the_old_ones_snapshot_room_and_drains():
    known = met(Snapshot(nodes=(row(),), demands=tasks(3)))
    known.instances = {"i": instance(status=S.DRAINING, ray_node_id="n1", drain_accepted=True)}
    take(known, report(2, None, session=SECOND, gcs_error="down"), NOW + 1, session=SECOND)
    assert (known.snapshot, known.fresh_at, known.ledger, known.drains) == (None, None, None, {})
    assert (known.instances["i"].status, known.instances["i"].drain_accepted) == (S.REJOINING, False)
    assert known.instances["i"].ray_node_id == ""
    assert build_state(known, NOW + 1).nodes == ()


def test_only_a_row_that_says_idle_counts_as_idle():
    known = met(Snapshot(nodes=(row(status=NodeStatus.DRAINING, idle_s=99.0),)))
    assert next_fresh(known) is None
