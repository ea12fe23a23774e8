"""apply(): first the record, then memory, then the calls; a record that cannot be written stops everything."""

from dataclasses import replace

import pytest

from rayscaler.errors import Unavailable
from rayscaler.model.command import AskedDrain, DrainCommand
from rayscaler.model.demand import CommandResult, Constraint, Outcome, Session, Snapshot
from rayscaler.model.instance import InstanceStatus, Phase, Reason
from rayscaler.model.plan import Drain, Launch, Plan, Termination
from rayscaler.model.state import Backoff, Expectation
from rayscaler.reconciler import apply
from rayscaler.reconciler.admission import Order
from rayscaler.store.base import ClusterRecord
from rayscaler.testing.memory_store import MemoryStore
from tests.reconciler.builders import FIRST, NOW, instance, memory, report, row, tasks

pytestmark = pytest.mark.tier("unit")

S = InstanceStatus


class Recorder:
    """Stands where Calls stands and notes what is asked, with the record as the store has it at that moment."""

    def __init__(self, store):
        self.store = store
        self.launched, self.ended = [], []

    def launch(self, spec):
        self.launched.append((spec.instance_id, spec.head_address, self.store.saves[-1].batch))

    def terminate(self, instance_id):
        self.ended.append(instance_id)

    def group(self, groups):
        assert groups == {}  # no gang scheduler here


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def calls(store):
    return Recorder(store)


async def carry_out(plan, known, store, calls, now=NOW):
    await apply.apply(plan, known, store=store, calls=calls, head_address="10.0.0.1:6379", now=now)


LAUNCH = Launch("small", Reason.DEMAND, "for 1 task", reserves=tasks(1), gangs=("g",))


async def test_a_launch_is_named_recorded_remembered_and_then_called(store, calls):
    known = memory(record=ClusterRecord("demo", batch=6))
    await carry_out(Plan((LAUNCH, LAUNCH)), known, store, calls)
    assert calls.launched == [("demo-small-7-0", "10.0.0.1:6379", 7), ("demo-small-7-1", "10.0.0.1:6379", 7)]
    one = known.instances["demo-small-7-0"]
    assert (one.status, one.reason, one.detail, one.requested_at) == (S.REQUESTED, Reason.DEMAND, "for 1 task", NOW)
    expected = known.expectations["demo-small-7-0"]
    assert (expected.reserves, expected.gangs, expected.until) == (tasks(1), ("g",), NOW + known.timings.unscheduled_s)


async def test_a_failing_store_sends_nothing_and_changes_nothing(store, calls):
    known = memory(instance("old"), instance("idle", ray_node_id="n1"))
    before = (dict(known.instances), known.record)
    store.is_down = True
    drain, end = Drain("idle", "n1", Reason.IDLE, ""), Termination("old", Reason.NODE_DIED, "")
    with pytest.raises(Unavailable):
        await carry_out(Plan((LAUNCH,), drains=(drain,), terminations=(end,)), known, store, calls)
    assert (calls.launched, calls.ended, known.drains) == ([], [], {})
    assert (known.instances, known.record) == before


async def test_names_are_never_used_again_not_after_a_failed_write_and_not_after_a_restart(store, calls):
    known = memory()
    await carry_out(Plan((LAUNCH,)), known, store, calls)
    store.is_down = True
    with pytest.raises(Unavailable):
        await carry_out(Plan((LAUNCH,)), known, store, calls)
    store.is_down = False
    await carry_out(Plan((LAUNCH,)), known, store, calls)
    again = memory()
    again.take_record(await store.load("demo"))
    await carry_out(Plan((LAUNCH,)), again, store, calls)
    names = [name for name, _, _ in calls.launched]
    assert names == ["demo-small-1-0", "demo-small-2-0", "demo-small-3-0"]


async def test_the_record_holds_what_cannot_be_observed_again(store, calls):
    old = Session("c0", "session_0")
    known = memory(
        instance("stays"),
        instance("leaving", S.DRAINING),
        instance("ending", S.TERMINATING),
        instance("idle", ray_node_id="n1"),
        order=Order(1, 1, FIRST, (old,)),
        floor=Constraint(tasks(4)),
        backoffs={"large": Backoff("large", 2, NOW + 9, "no room")},
    )
    await carry_out(Plan((LAUNCH,), drains=(Drain("idle", "n1", Reason.IDLE, ""),)), known, store, calls)
    saved = await store.load("demo")
    assert saved == known.record
    assert (saved.session, saved.retired, saved.batch) == (FIRST, (old,), 1)
    assert saved.floor == Constraint(tasks(4))
    assert saved.targets == (("small", 2),)  # the one that stays and the one launched
    assert saved.backoffs == (Backoff("large", 2, NOW + 9, "no room"),)


async def test_the_floor_is_the_last_one_asked_for_and_an_empty_one_takes_it_back(store, calls):
    known = memory()
    wanted = [(Constraint(tasks(4)), Constraint(tasks(4))), (None, Constraint(tasks(4))), (Constraint(), Constraint())]
    for sequence, (asked, floor) in enumerate(wanted, start=2):  # none: a GCS that was started anew, nobody has asked it yet (H10)
        known.take_report(report(sequence, Snapshot(constraint=asked)), Order(1, sequence, FIRST), NOW)
        await carry_out(Plan(), known, store, calls)
        assert known.record.floor == floor


async def test_wc_12_5_the_record_reserves_versions_and_is_rewritten_before_they_run_out(store, calls):
    known = memory()
    for minute in range(60):
        now = NOW + minute * 60
        known.state_version = max(known.state_version + 1, int(now * 1000))
        await carry_out(Plan(), known, store, calls, now)
        assert known.record.state_version > known.state_version
    assert len(store.saves) < 20


async def test_a_record_that_says_the_same_is_not_written_again(store, calls):
    known = memory(instance("a"))
    await carry_out(Plan(), known, store, calls)
    await carry_out(Plan(), known, store, calls, NOW + 1)
    assert len(store.saves) == 1


async def test_a_drain_becomes_a_command_whose_id_never_comes_again(store, calls):
    drain = Drain("a", "f" * 56, Reason.IDLE, "idle for 60 s")
    ids = []
    for second in (0, 10):
        known = memory(instance("a", ray_node_id="f" * 56))  # as after a restart: the cycles count from 0 again
        await carry_out(Plan(drains=(drain,)), known, store, calls, NOW + second)
        (asked,) = known.drains.values()
        command = asked.command
        assert (command.ray_node_id, command.is_preemption, command.detail) == ("f" * 56, False, "idle for 60 s")
        assert known.record.drains == (asked,)
        assert (known.instances["a"].status, known.instances["a"].reason) == (S.DRAINING, Reason.IDLE)
        ids.append(command.command_id)
    assert len(set(ids)) == 2
    assert calls.ended == []


async def test_drains_of_one_moment_are_different_commands_however_alike_the_nodes_names(store, calls):
    nodes = {f"w{n}": f"{n:056x}" for n in range(6)}
    known = memory(*(instance(name, ray_node_id=node) for name, node in nodes.items()))
    await carry_out(Plan(drains=tuple(Drain(name, node, Reason.IDLE, "") for name, node in nodes.items())), known, store, calls)
    assert sorted(each.command.ray_node_id for each in known.drains.values()) == sorted(nodes.values())


async def test_a_preemptions_deadline_is_counted_from_now(store, calls):
    known = memory(instance("a", ray_node_id="n1"))
    await carry_out(Plan(drains=(Drain("a", "n1", Reason.TYPE_REMOVED, "", is_preemption=True, deadline_s=30),)), known, store, calls)
    (asked,) = known.drains.values()
    assert (asked.command.is_preemption, asked.command.deadline_at) == (True, NOW + 30)


async def test_an_end_is_noted_and_called(store, calls):
    known = memory(instance("a"))
    await carry_out(Plan(terminations=(Termination("a", Reason.NODE_DIED, "dead for 5 s"),)), known, store, calls)
    assert calls.ended == ["a"]
    assert (known.instances["a"].status, known.instances["a"].reason) == (S.TERMINATING, Reason.NODE_DIED)


async def test_unneeded_launches_are_timed_from_when_they_were_first_unneeded(store, calls):
    known = memory(instance("a", S.ALLOCATED), instance("b", S.ALLOCATED))
    await carry_out(Plan(unneeded=("a",)), known, store, calls, NOW)
    await carry_out(Plan(unneeded=("a", "b")), known, store, calls, NOW + 4)
    assert known.unneeded_since == {"a": NOW, "b": NOW + 4}
    await carry_out(Plan(unneeded=("b",)), known, store, calls, NOW + 5)
    await carry_out(Plan(unneeded=("a", "b")), known, store, calls, NOW + 6)
    assert known.unneeded_since == {"a": NOW + 6, "b": NOW + 4}


# deadlines


def end_overdue(known, calls, seconds):
    now = NOW + seconds
    known.fresh_at = now if known.fresh_at is not None else None
    due(known, calls, now)


def due(known, calls, now):
    """As a cycle does it, with the sending left of what comes after."""
    apply.end_overdue(known, now)
    for instance_id in known.ends_due:
        calls.terminate(instance_id)
    known.ends_due.clear()


def test_an_overdue_launch_is_ended_and_counts_as_a_failure_of_its_type(calls):
    known = memory(instance("a", S.ALLOCATED, phase=Phase.REGISTERING))
    end_overdue(known, calls, 179)
    assert calls.ended == []
    end_overdue(known, calls, 180)
    assert calls.ended == ["a"]
    assert (known.instances["a"].status, known.instances["a"].reason) == (S.TERMINATING, Reason.OVERDUE)
    assert "registering for 180 s" in known.instances["a"].detail
    assert known.backoffs["small"].failures == 1
    assert len(known.failed) == 1


def test_c1_a_launch_that_nobody_could_see_join_is_not_ended_for_being_late(calls):
    """The monitor falls silent for ten minutes; its time to join runs from when Ray is in sight again."""
    known = memory(instance("a", S.ALLOCATED, phase=Phase.REGISTERING))
    due(known, calls, NOW + 600)
    known.fresh_at, known.contact_at = NOW + 600, NOW + 600  # the first report after that
    due(known, calls, NOW + 600)
    assert calls.ended == []
    known.fresh_at = NOW + 779.9
    due(known, calls, NOW + 779.9)
    assert calls.ended == []
    known.fresh_at = NOW + 780
    due(known, calls, NOW + 780)
    assert calls.ended == ["a"]


def test_a_drain_that_led_nowhere_is_given_up_and_an_end_without_effect_asked_again(calls):
    known = memory(instance("d", S.DRAINING, ray_node_id="n1", drain_accepted=True), instance("t", S.TERMINATING))
    end_overdue(known, calls, 60)
    assert (known.instances["d"].status, known.instances["d"].drain_accepted) == (S.RUNNING, False)
    assert known.instances["d"].drain_not_before > NOW + 60
    end_overdue(known, calls, 120)
    end_overdue(known, calls, 121)
    assert calls.ended == ["t"]
    end_overdue(known, calls, 240)
    assert calls.ended == ["t", "t"]


def test_an_end_without_effect_is_asked_again_also_while_blind(calls):
    known = memory(instance("t", S.TERMINATING), fresh_at=None)
    end_overdue(known, calls, 120)
    assert calls.ended == ["t"]


# back-off


def test_a_join_makes_the_type_well_but_an_adopted_old_instance_says_nothing_of_launches():
    backoffs = {"small": Backoff("small", 3, NOW + 80, "no room")}
    for is_ours in (True, False):
        known = memory(instance("a", S.ALLOCATED), backoffs=dict(backoffs))
        if is_ours:
            known.request(instance("a", S.ALLOCATED), Expectation("a", "small", NOW + 9))
        shown = Snapshot(nodes=(row("n1", "a"),))
        known.take_report(report(2, shown), Order(1, 2, FIRST), NOW)
        assert known.instances["a"].status is S.RUNNING
        assert bool(known.backoffs) is not is_ours


def test_a_result_for_a_node_that_was_replaced_meanwhile_does_not_touch_the_instance():
    known = memory(instance("a", ray_node_id="n1"))
    known.ask_drain(AskedDrain("a", Reason.IDLE, DrainCommand("c", "n1", is_preemption=False, detail="")), NOW)
    known.instances["a"] = replace(known.instances["a"], ray_node_id="n2")
    done = CommandResult("c", Outcome.DONE)
    known.take_report(report(2, None, results=(done,)), Order(1, 2, FIRST), NOW)
    assert known.instances["a"].status is S.DRAINING
    assert not known.instances["a"].drain_accepted
