"""What `ray status` is told: versions that grow for ever, and never more infeasible than what can never run (WC-12.4, WC-12.5)."""

from dataclasses import replace

import pytest

from rayscaler.model.command import FailedLaunch
from rayscaler.model.demand import Bundle, Gang, Snapshot, Strategy
from rayscaler.model.instance import NEVER, InstanceStatus, Phase, Reason
from rayscaler.model.nodetype import Resize
from rayscaler.model.plan import Infeasible, Launch, Plan
from rayscaler.model.resources import Resources
from rayscaler.reconciler import publish
from tests.reconciler.builders import CPU, NOW, config, instance, memory, node_type, tasks

pytestmark = pytest.mark.tier("unit")

S = InstanceStatus
BUNDLE, GANG = Bundle(CPU), Gang("g", Strategy.PACK, tasks(2))


def publish_again(known, last, now):
    state = publish.autoscaling_state(known, last, now)
    known.state_version = state.version
    return state


def test_wc_12_5_an_unchanged_state_keeps_its_version_and_a_changed_one_gets_a_higher_one():
    known = memory(instance(status=S.ALLOCATED))
    first = publish_again(known, None, NOW)
    assert publish_again(known, first, NOW + 5) is first
    known.snapshot = Snapshot(gcs_version=77)  # differs on every read: no change
    assert publish_again(known, first, NOW + 5) is first
    known.instances["i"] = instance()
    changed = publish_again(known, first, NOW + 5)
    assert changed.version > first.version
    assert changed.gcs_version == 77


def test_wc_12_5_versions_grow_though_the_clock_stands_or_goes_back():
    known, last, versions = memory(), None, []
    for step in range(20):
        known.failed = [FailedLaunch("small", f"failure {step}", NOW, NOW)]
        last = publish_again(known, last, NOW - step * 100)
        versions.append(last.version)
    assert versions == sorted(set(versions))


def test_wc_12_5_the_first_version_of_a_life_is_above_what_an_earlier_life_reserved():
    known = memory()
    known.take_record(replace(known.record, state_version=10**15))
    assert publish.autoscaling_state(known, None, NOW).version > 10**15


@pytest.mark.parametrize("reason", Reason)
def test_wc_12_4_only_what_no_definition_of_today_can_meet_is_called_infeasible(reason):
    known = memory(pending=(Infeasible(BUNDLE, 3, reason, ""), Infeasible(GANG, 1, reason, "")))
    state = publish.autoscaling_state(known, None, NOW)
    wanted = ((BUNDLE,), (GANG,)) if reason in NEVER else ((), ())
    assert (state.infeasible, state.infeasible_gangs) == wanted


def test_wc_12_4_a_constraint_is_never_called_infeasible_for_it_is_no_task():
    known = memory(pending=(Infeasible(BUNDLE, 1, Reason.NO_TYPE_FITS, "", is_constraint=True),))
    assert publish.autoscaling_state(known, None, NOW).infeasible == ()


def test_each_instance_in_flight_is_one_entry_and_others_are_none():
    known = memory(
        instance("r", S.REQUESTED),
        instance("a", S.ALLOCATED, phase=Phase.STARTING, requested_at=NOW - 9),
        *(instance(status.value, status) for status in (S.RUNNING, S.DRAINING, S.TERMINATING, S.TERMINATED, S.LAUNCH_FAILED)),
    )
    state = publish.autoscaling_state(known, None, NOW)
    assert [(each.instance_id, each.node_type, each.since) for each in state.requested] == [("", "small", NOW)]
    assert [(each.instance_id, each.detail, each.since) for each in state.pending] == [("a", "starting", NOW - 9)]


def test_status_tells_the_age_of_what_was_said_and_why_nothing_is_decided():
    clear = publish.status(memory(instance("b"), instance("a"), fresh_at=NOW - 3), 5.0, NOW)
    assert (clear.report_age_s, clear.blind, clear.blind_since) == (3, None, None)
    assert [each.instance_id for each in clear.instances] == ["a", "b"]
    blind = publish.status(memory(fresh_at=NOW - 30), NOW - 20, NOW)
    assert (blind.blind, blind.blind_since) == (Reason.REPORT_TOO_OLD, NOW - 20)
    assert publish.status(memory(fresh_at=None), None, NOW).report_age_s is None


def test_a_plans_summary_counts_equal_launches():
    launches = (Launch("small", Reason.DEMAND, "x"),) * 3 + (Launch("small", Reason.GANG, "y"),)
    assert publish.summary(Plan(launches))["launches"] == {"small (DEMAND)": 3, "small (GANG)": 1}


def test_j4_what_the_cluster_can_become_has_its_workers_as_large_as_they_may_grow():
    small = node_type("small", 1, min_workers=1, max_workers=3, resize=Resize(Resources.of(CPU=4)))
    made = publish.reachable(config(small))
    assert (made.min_resources, made.max_resources) == (Resources.of(CPU=1), Resources.of(CPU=12))
    assert [each.resources for each in made.groups] == [Resources.of(CPU=4)]
