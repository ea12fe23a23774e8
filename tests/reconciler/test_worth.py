"""What a change of an instance is worth: each of its fields is judged, so that none that a plan rests on is forgotten."""

from dataclasses import fields, replace

import pytest

from rayscaler.model.instance import Growing, Instance, InstanceStatus, Phase, Reason, Trouble
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.model.scheduling import GangScheduler, Membership
from rayscaler.reconciler.worth import Worth, worth

pytestmark = pytest.mark.tier("unit")

LAUNCHED = Instance("demo-small-1-0", "small", InstanceStatus.REQUESTED, since=1.0)
TOLD = {
    "since": 2.0,
    "requested_at": 2.0,
    "external_id": "pod",
    "phase": Phase.STARTING,
    "phase_since": 2.0,
    "reason": Reason.ALLOCATED,
    "detail": "on its way",
    "trouble_since": 2.0,
    "ends_why": "spot notice",
}
DECIDED = {
    "status": InstanceStatus.RUNNING,
    "ray_node_id": "ab",
    "node_dead_since": 2.0,
    "drain_accepted": True,
    "drain_not_before": 2.0,
    "made_as": NodeType("small", Resources.of(CPU=1)),
    "trouble": Trouble.UNSCHEDULABLE,
    "stuck_since": 2.0,
    "ends_at": 9.0,
    "growing": Growing(Resources.of(CPU=3), 2.0),
    "ungrown_until": 9.0,
    "replica": "demo-small-1-r0",
    "host": 1,
    "membership": Membership(GangScheduler.VOLCANO, "demo-g1-0"),
}


def test_every_field_is_judged():
    assert {*TOLD, *DECIDED, "instance_id", "node_type"} == {each.name for each in fields(Instance)}


@pytest.mark.parametrize(("name", "value"), TOLD.items(), ids=TOLD)
def test_how_a_launch_gets_on_is_only_told(name, value):
    assert worth(LAUNCHED, replace(LAUNCHED, **{name: value})) is Worth.TELLING


@pytest.mark.parametrize(("name", "value"), DECIDED.items(), ids=DECIDED)
def test_what_a_plan_rests_on_is_decided_on(name, value):
    assert worth(LAUNCHED, replace(LAUNCHED, **{name: value})) is Worth.DECIDING


def test_a_launch_that_the_executor_has_is_a_launch_as_before_and_what_was_not_known_is_new():
    assert worth(LAUNCHED, replace(LAUNCHED, status=InstanceStatus.ALLOCATED)) is Worth.TELLING
    assert worth(LAUNCHED, replace(LAUNCHED)) is Worth.NOTHING
    assert worth(None, LAUNCHED) is Worth.DECIDING
