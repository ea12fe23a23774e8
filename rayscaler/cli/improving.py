"""How commands ask the planner: with a budget in steps, so that the same files make the same plan on any machine."""

import inspect
from collections.abc import Callable

from rayscaler.model.plan import Plan
from rayscaler.model.state import ClusterState
from rayscaler.planner import plan as planner

_PLAN: Callable[..., Plan] = planner.plan
_TAKES_STEPS = "steps" in inspect.signature(planner.plan).parameters


def planned(state: ClusterState, steps: int) -> Plan:
    """Return the plan, its mix of launches improved for so many steps; 0 is the first plan."""
    return _PLAN(state, steps) if _TAKES_STEPS else _PLAN(state)
