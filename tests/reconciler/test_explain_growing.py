"""`rayscaler explain` of nodes that may grow in place (J4)."""

import pytest

from rayscaler.model.demand import Snapshot
from rayscaler.model.instance import Growing, Reason
from rayscaler.model.nodetype import NEVER
from rayscaler.model.plan import Plan
from rayscaler.model.resources import Resources
from rayscaler.reconciler.explain.whole import explain
from rayscaler.reconciler.state import build_state
from tests.reconciler.builders import NOW, instance, memory, row

pytestmark = pytest.mark.tier("unit")


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"growing": Growing(Resources.of(CPU=4), NOW)}, "grows to {CPU: 4}; uses CPU 1 of 1"),
        ({"ungrown_until": NOW + 240}, "could not grow, and is not asked to for 240 s; uses CPU 1 of 1"),
        ({"ungrown_until": NEVER}, "could not grow, and is not asked to; uses CPU 1 of 1"),
        ({}, "uses CPU 1 of 1"),
    ],
)
def test_j4_a_node_says_that_it_grows_or_could_not(fields, words):
    known = memory(instance(ray_node_id="n1", **fields), snapshot=Snapshot(nodes=(row(used=1),)), contact_at=NOW - 1)
    (found,) = explain(known, build_state(known, NOW), Plan()).nodes
    assert (found.because.reason, found.because.detail) == (Reason.BUSY, words)
