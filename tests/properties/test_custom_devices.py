"""Resources that a definition calls devices are planned as Ray's own accelerators are."""

from dataclasses import fields, is_dataclass, replace

import pytest
from hypothesis import given, settings

from rayscaler.model.plan import NOWHERE
from rayscaler.model.resources import Resources
from rayscaler.planner.plan import plan
from tests.counts import counted
from tests.properties.states import cluster_states

pytestmark = pytest.mark.tier("property")

examples = settings(max_examples=max(settings().max_examples, counted(gate=100, full=2_000)))


def renamed(found):
    """Return anything with GPU called GPV, which comes at the same place in every order of names."""
    if type(found) is str:
        return found.replace("GPU", "GPV")
    if isinstance(found, Resources):
        return Resources({renamed(name): amount for name, amount in found.items()})
    if isinstance(found, tuple):
        parts = [renamed(each) for each in found]
        return type(found)(*parts) if hasattr(found, "_fields") else tuple(parts)
    if is_dataclass(found):
        return replace(found, **{each.name: renamed(getattr(found, each.name)) for each in fields(found) if each.init})
    return found


@examples
@given(cluster_states(device="GPU"))
def test_what_is_called_a_device_is_planned_as_gpus_are(state):
    other = renamed(state)
    found = plan(replace(other, config=replace(other.config, devices=("GPV",))))
    assert replace(found, placements=NOWHERE) == renamed(replace(plan(state), placements=NOWHERE))
