"""What executors and Ray's node table say, folded in: passive facts, and nothing is concluded from silence."""

from dataclasses import replace

import pytest

from rayscaler.lifecycle import observe
from rayscaler.model.instance import InstanceStatus, Phase, Reason, Trouble
from rayscaler.model.node import DeathReason, NodeStatus
from tests.lifecycle.builders import NOW, instance, row, seen

pytestmark = pytest.mark.tier("unit")

S = InstanceStatus
LIVE = [S.REQUESTED, S.ALLOCATED, S.RUNNING, S.DRAINING, S.TERMINATING]
DEAD = NodeStatus.DEAD


def fold(before, *rows, now=NOW):
    return observe.nodes({before.instance_id: before}, rows, now)[before.instance_id]


# Ray's node table


@pytest.mark.parametrize("status", [S.REQUESTED, S.ALLOCATED])
def test_a_live_row_makes_an_instance_in_flight_running(status):
    after = fold(instance(status), row("n1"))
    assert (after.status, after.ray_node_id, after.reason, after.has_joined) == (S.RUNNING, "n1", Reason.JOINED, True)


@pytest.mark.parametrize("status", [S.RUNNING, S.DRAINING, S.TERMINATING])
def test_a_live_row_changes_no_other_status(status):
    before = instance(status, ray_node_id="n1")
    assert fold(before, row("n1")) is before


@pytest.mark.parametrize("status", LIVE)
def test_absence_from_the_node_table_says_nothing(status):
    before = instance(status, ray_node_id="n1")
    assert fold(before) is before
    assert fold(before, row("n9", instance_id="another")) is before


def test_the_row_of_the_head_is_nobodys_node():
    before = instance(S.ALLOCATED)
    assert fold(before, row("h", is_head=True)) is before


def test_the_dead_known_node_is_noted_and_the_instance_lives_on():
    after = fold(instance(ray_node_id="n1"), row("n1", DEAD))
    assert (after.status, after.node_dead_since) == (S.RUNNING, NOW)
    assert fold(after, row("n1", DEAD), now=NOW + 9).node_dead_since == NOW  # the first moment counts


def test_lf_12_a_dead_row_of_an_older_node_says_nothing_while_a_newer_one_lives():
    before = instance(ray_node_id="n2")
    assert fold(before, row("n1", DEAD), row("n2")) is before
    assert fold(before, row("n2"), row("n1", DEAD)) is before


def test_lf_12_a_newer_live_node_takes_the_place_of_the_dead_known_one():
    dead = fold(instance(ray_node_id="n1"), row("n1", DEAD))
    back = fold(dead, row("n1", DEAD), row("n2"), now=NOW + 1)
    assert (back.status, back.ray_node_id, back.node_dead_since) == (S.RUNNING, "n2", None)


@pytest.mark.parametrize("accepted", [True, False])
@pytest.mark.parametrize("rows", [(row("n1", DEAD), row("n2")), (row("n2"),)])
def test_c2_a_node_that_takes_the_place_of_a_drained_one_has_no_drain(rows, accepted):
    before = instance(S.DRAINING, ray_node_id="n1", drain_accepted=accepted)
    after = fold(before, *rows)
    assert (after.status, after.ray_node_id, after.drain_accepted, after.node_dead_since) == (S.RUNNING, "n2", False, None)
    assert (after.reason, after.drain_not_before) == (Reason.DRAIN_REFUSED, NOW)


def test_c2_a_drain_whose_node_lives_beside_another_holds():
    before = instance(S.DRAINING, ray_node_id="n1", drain_accepted=True)
    assert fold(before, row("n1"), row("n2")) is before


def test_lf_12_of_several_live_rows_the_known_one_stays():
    before = instance(ray_node_id="n2")
    assert fold(before, row("n1"), row("n2"), row("n3")) is before


def test_lf_12_a_dead_row_that_is_not_the_known_node_is_no_death():
    before = instance(ray_node_id="n2")
    assert fold(before, row("n1", DEAD)) is before


@pytest.mark.parametrize("death", [None, DeathReason.UNEXPECTED, DeathReason.EXPECTED, DeathReason.UNKNOWN])
def test_a_dead_row_of_an_instance_in_flight_is_no_death_for_its_next_node_may_be_coming_up(death):
    before = instance(S.ALLOCATED)
    assert fold(before, row("n1", DEAD, death=death)) is before


@pytest.mark.parametrize("death", [DeathReason.DRAINED_IDLE, DeathReason.DRAINED_PREEMPTED])
def test_an_adopted_instance_whose_node_was_drained_is_not_taken_for_one_in_flight(death):
    """The service was killed between the drain and the end: the worker's processes stay, and will never join again."""
    after = fold(instance(S.ALLOCATED), row("n1", DEAD, death=death))
    assert (after.status, after.ray_node_id, after.node_dead_since) == (S.RUNNING, "n1", NOW)
    # But not while another node of it lives.
    assert fold(instance(S.ALLOCATED), row("n1", DEAD, death=death), row("n2")).node_dead_since is None


@pytest.mark.parametrize("status", [S.TERMINATED, S.LAUNCH_FAILED])
def test_an_ended_instance_is_not_revived_by_a_row(status):
    before = instance(status)
    assert fold(before, row("n1")) is before


# the executor's observations


def test_an_unknown_live_instance_is_adopted_and_an_unknown_gone_one_ignored():
    adopted = observe.observation(None, seen(Phase.REGISTERING), NOW)
    assert adopted is not None
    assert (adopted.status, adopted.external_id, adopted.since, adopted.requested_at) == (S.ALLOCATED, "ext", NOW, NOW)
    ending = observe.observation(None, seen(Phase.ENDING), NOW)
    assert ending is not None
    assert ending.status is S.TERMINATING
    assert observe.observation(None, seen(Phase.GONE), NOW) is None


@pytest.mark.parametrize("phase", [each for each in Phase if each is not Phase.GONE])
@pytest.mark.parametrize("status", LIVE)
def test_seeing_an_instance_moves_only_a_requested_one(status, phase):
    after = observe.observation(instance(status), seen(phase), NOW + 1)
    assert after is not None
    assert after.status is (S.ALLOCATED if status is S.REQUESTED else status)
    assert (after.phase, after.external_id) == (phase, "ext")


def test_a_phase_begins_when_it_is_first_seen_and_a_repetition_does_not_begin_it_anew():
    first = observe.observation(instance(S.ALLOCATED), seen(Phase.PULLING), NOW + 1)
    again = observe.observation(first, seen(Phase.PULLING), NOW + 50)
    assert again is not None
    assert again.phase_since == NOW + 1


def test_an_observation_without_news_leaves_the_instance_itself():
    before = observe.observation(instance(S.ALLOCATED), seen(Phase.PULLING), NOW)
    assert observe.observation(before, seen(Phase.PULLING), NOW + 5) is before


def test_an_observation_without_an_external_id_does_not_wipe_the_known_one():
    after = observe.observation(instance(external_id="known"), seen(Phase.STARTING, external_id=""), NOW)
    assert after is not None
    assert after.external_id == "known"


# trouble on the way

PULL = {"error": "ray: ErrImagePull: not found", "trouble": Trouble.RETRIED}


def after(before, at, phase=Phase.PULLING, **fields):
    found = observe.observation(before, seen(phase, **fields), NOW + at)
    assert found is not None
    return found


def test_fh_5_what_holds_a_launch_up_is_its_detail_in_the_executors_words():
    one = after(instance(S.REQUESTED, detail="small for {CPU: 1}"), 1, **PULL)
    assert (one.status, one.detail, one.trouble, one.trouble_since) == (S.ALLOCATED, PULL["error"], Trouble.RETRIED, NOW + 1)
    assert after(None, 1, **PULL).detail == PULL["error"]
    assert after(None, 1, **PULL).trouble is Trouble.RETRIED


def test_the_same_trouble_goes_on_in_other_words_and_another_begins_anew():
    one = replace(after(instance(S.ALLOCATED), 1, **PULL), stuck_since=NOW + 31)
    same = after(one, 40, error="ray: ImagePullBackOff: not found", trouble=Trouble.RETRIED)
    assert (same.trouble_since, same.stuck_since, same.detail) == (NOW + 1, NOW + 31, "ray: ImagePullBackOff: not found")
    for changed in (
        after(one, 40, phase=Phase.STARTING, error="no Secret", trouble=Trouble.RETRIED),
        after(one, 40, error="bad name", trouble=Trouble.HOPELESS),
    ):
        assert (changed.trouble_since, changed.stuck_since) == (NOW + 40, None)


def test_i3_one_that_waited_for_a_quota_has_all_of_its_time_from_when_it_is_let_go():
    one = after(instance(S.ALLOCATED, phase=Phase.UNSCHEDULED), 1, phase=Phase.UNSCHEDULED, error="gates", trouble=Trouble.GATED)
    assert (one.trouble, one.phase_since) == (Trouble.GATED, NOW)
    for trouble in (None, Trouble.UNSCHEDULABLE):
        let_go = after(one, 5000, phase=Phase.UNSCHEDULED, error="no room" if trouble else "", trouble=trouble)
        assert (let_go.trouble, let_go.phase_since) == (trouble, NOW + 5000)


@pytest.mark.parametrize("phase", [Phase.PULLING, Phase.STARTING, Phase.REGISTERING])
def test_one_that_gets_on_is_stuck_no_more(phase):
    one = replace(after(instance(S.ALLOCATED), 1, **PULL), stuck_since=NOW + 31)
    well = after(one, 40, phase=phase, detail="pod p on node n")
    assert (well.trouble, well.stuck_since, well.detail) == (None, None, "pod p on node n")
    joined = fold(one, row("n1"))
    assert (joined.status, joined.trouble, joined.stuck_since) == (S.RUNNING, None, None)


@pytest.mark.parametrize("status", [S.RUNNING, S.DRAINING, S.TERMINATING, S.REJOINING])
def test_trouble_is_of_launches_only(status):
    one = after(instance(status, detail="as before"), 1, **PULL)
    assert (one.trouble, one.detail) == (None, "as before")


@pytest.mark.parametrize("status", [S.ALLOCATED, S.RUNNING, S.DRAINING, S.REJOINING])
def test_an_end_that_others_announce_is_noted_and_may_be_taken_back(status):
    one = after(instance(status), 1, ends_at=NOW + 120, error="spot notice")
    assert (one.status, one.ends_at, one.ends_why) == (status, NOW + 120, "spot notice")
    sooner = after(one, 2, phase=Phase.ENDING, ends_at=NOW + 30, detail="deleted")
    assert (sooner.ends_at, sooner.ends_why) == (NOW + 30, "deleted")
    assert after(one, 3).ends_at is None


def test_an_end_of_our_own_is_announced_by_nobody_else():
    assert after(instance(S.TERMINATING), 1, phase=Phase.ENDING, ends_at=NOW + 60).ends_at is None


@pytest.mark.parametrize(
    ("status", "end", "reason"),
    [
        (S.REQUESTED, S.LAUNCH_FAILED, Reason.EXITED),
        (S.ALLOCATED, S.LAUNCH_FAILED, Reason.EXITED),
        (S.RUNNING, S.TERMINATED, Reason.EXITED),
        (S.DRAINING, S.TERMINATED, Reason.EXITED),
        (S.TERMINATING, S.TERMINATED, Reason.IDLE),
    ],
    ids=lambda each: each.name,
)
def test_a_gone_instance_ends_with_the_executors_words_and_an_asked_end_keeps_its_reason(status, end, reason):
    after = observe.observation(instance(status, reason=Reason.IDLE), seen(Phase.GONE, error="exit code 1"), NOW)
    assert after is not None
    assert (after.status, after.reason, after.detail) == (end, reason, "exit code 1")


@pytest.mark.parametrize("status", [S.TERMINATED, S.LAUNCH_FAILED])
@pytest.mark.parametrize("phase", [Phase.STARTING, Phase.GONE])
def test_an_ended_instance_is_not_revived_by_an_observation(status, phase):
    before = instance(status)
    assert observe.observation(before, seen(phase), NOW) is before


# complete lists


@pytest.mark.parametrize("status", LIVE)
def test_what_a_complete_list_lacks_is_gone(status):
    after = observe.full_list({"i": instance(status)}, [], frozenset(), NOW)["i"]
    assert after.status is (S.LAUNCH_FAILED if status in (S.REQUESTED, S.ALLOCATED) else S.TERMINATED)
    if status is not S.TERMINATING:
        assert after.reason is Reason.DISAPPEARED


@pytest.mark.parametrize("status", LIVE)
def test_an_instance_whose_launch_was_under_way_may_be_lacking(status):
    before = {"i": instance(status)}
    assert observe.full_list(before, [], frozenset({"i"}), NOW) == before


def test_a_list_adopts_keeps_and_ends_at_once():
    known = {"i": instance(), "old": instance(instance_id="old"), "over": instance(S.TERMINATED, instance_id="over")}
    after = observe.full_list(known, [seen(Phase.STARTING), seen(Phase.STARTING, instance_id="new")], frozenset(), NOW)
    assert {key: each.status for key, each in after.items()} == {
        "i": S.RUNNING,
        "old": S.TERMINATED,
        "over": S.TERMINATED,
        "new": S.ALLOCATED,
    }


# drains


def test_an_accepted_drain_is_noted_and_proves_nothing_more():
    after = observe.drain_result(instance(S.DRAINING), accepted=True, detail="", now=NOW, retry_after_s=5)
    assert (after.status, after.drain_accepted, after.node_dead_since) == (S.DRAINING, True, None)


def test_a_refused_drain_leads_back_to_running_and_the_next_one_waits():
    before = instance(S.DRAINING, drain_accepted=True)
    after = observe.drain_result(before, accepted=False, detail="no longer idle", now=NOW, retry_after_s=5)
    assert (after.status, after.drain_accepted, after.drain_not_before) == (S.RUNNING, False, NOW + 5)
    assert (after.reason, after.detail) == (Reason.DRAIN_REFUSED, "no longer idle")


@pytest.mark.parametrize("accepted", [True, False])
@pytest.mark.parametrize("status", [each for each in S if each is not S.DRAINING])
def test_a_late_word_on_a_drain_changes_nothing(status, accepted):
    before = instance(status)
    assert observe.drain_result(before, accepted=accepted, detail="", now=NOW, retry_after_s=5) is before


def test_an_instance_found_at_the_executor_is_the_host_that_it_was_launched_as():
    told = replace(seen(Phase.STARTING), replica="c-slice-3-r1", host=2)
    adopted = observe.observation(None, told, NOW)
    assert (adopted.replica, adopted.host) == ("c-slice-3-r1", 2)
    assert observe.observation(instance(S.REQUESTED), told, NOW).host == 2
    known = replace(instance(S.ALLOCATED), replica="c-slice-3-r0", host=1)
    assert observe.observation(known, replace(told, replica="", host=0), NOW).host == 1  # an executor that does not tell takes nothing away
