"""Waiting for a cheaper mix: which launches on demand are worth it, for how long, and what is taken of what comes back.

Owns the wait of one cluster. Knows nothing of who improves: `Improver` is the door, to one process for all clusters of a service.
"""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

from rayscaler.errors import RayscalerError
from rayscaler.model.instance import PACED, Reason
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.model.plan import NOWHERE, Mix, Plan
from rayscaler.model.state import ClusterState
from rayscaler.planner.mix.library import library
from rayscaler.planner.mix.problem import NEAR

STEPS_PER_S = 700 if library().exists() else 60
"""Steps of the planner that fit into a second of the budget, with compiled code (a step is about a millisecond) and without; a fifth of the time
is for the way there and back."""

PATIENCE = 2.0
"""Budgets that an answer is waited for, where the machine or another cluster keeps it: a first plan may cost a tenth more for as long as its
nodes live, which is worth a moment's delay."""

MOST_NODES = 1000
"""Of a cluster with more, first plans are carried out as they are: to send its state would keep the event loop from all others too long."""


class Improver(Protocol):
    """Who looks for a cheaper mix. One question of each cluster is open at most."""

    async def improve(self, state: ClusterState, steps: int) -> Plan:
        """Return `plan(state, steps)`; raises Unavailable. Who asks sets the deadline, and takes an answer no longer after it."""
        ...

    def prepare(self) -> None:
        """Take note that questions may come: the first one should find all ready."""
        ...


class Wait:
    """One cluster's launches on demand that wait: `decide` says what of a first plan is carried out now."""

    def __init__(self, improver: Improver | None, budget_s: float, wake: Callable[[], None]) -> None:
        self._improver = improver
        self._budget_s = budget_s
        self._wake = wake
        self._until: float | None = None
        self._asked: asyncio.Task[Plan | None] | None = None
        self._facts: object = None
        self._first: Plan | None = None
        self.outcome = ""
        """How the last wait went, for the log: "" while there was none in this cycle."""

    @property
    def is_on(self) -> bool:
        """Whether launches on demand wait now."""
        return self._until is not None

    def planned(self, state: ClusterState) -> Plan | None:
        """Return the first plan that was asked about, if this state still is the one: a big cluster's takes long, and all others wait meanwhile."""
        return self._first if self._asked is not None and facts(state) == self._facts else None

    def decide(self, state: ClusterState, first: Plan) -> Plan:
        """Return the plan to carry out: the first one, what of it does not wait, or the improved one if the state is the one asked about."""
        self.outcome = ""
        steps = steps_of(self._budget_s)
        if self._improver is None or steps < 1 or len(state.nodes) + len(state.instances) > 2 * MOST_NODES:
            return first
        if sum(each.cost is not None for each in state.config.node_types) > 1:
            self._improver.prepare()
        if not pays(first, state.config):
            return self._over(first, "needed no more" if self.is_on else "")
        if self._asked is None:
            return self._begin(self._improver, state, first, steps)
        if first is not self._first:
            return self._over(first, "state changed")
        return self._take(self._asked.result(), first) if self._asked.done() else _held_back(first)

    def _begin(self, improver: Improver, state: ClusterState, first: Plan, steps: int) -> Plan:
        now = asyncio.get_running_loop().time()
        if self._until is None:
            self._until = now + self._budget_s * PATIENCE
        elif now >= self._until:
            return self._over(first, "out of time")
        rest = _held_back(first)
        if rest.is_empty:
            self._facts, self._first = facts(state), first
            self._asked = asyncio.create_task(self._ask(improver, state, steps, self._until), name=f"improve {state.config.name}")
        else:
            self._wake()  # its own acts change the state: asked after them
        return rest

    def _take(self, found: Plan | None, first: Plan) -> Plan:
        if found is None:
            return self._over(first, "no answer in time")
        if not is_better(found, first):
            return self._over(first, "no cheaper mix found")
        return self._over(replace(found, drains=first.drains, terminations=first.terminations), "improved")

    def end(self) -> None:
        """Wait for nothing any more."""
        if self._asked is not None:
            self._asked.cancel()
        self._until = self._asked = self._facts = self._first = None

    def _over(self, plan: Plan, outcome: str) -> Plan:
        self.outcome = outcome
        self.end()
        return plan

    async def _ask(self, improver: Improver, state: ClusterState, steps: int, until: float) -> Plan | None:
        try:
            async with asyncio.timeout_at(until):
                return await improver.improve(state, steps)
        except (TimeoutError, RayscalerError):
            return None
        finally:
            # Not at once: the task must be over when the cycle looks.
            asyncio.get_running_loop().call_soon(self._wake)


def steps_of(budget_s: float) -> int:
    """Return the planner's steps that a budget is worth."""
    return int(budget_s * STEPS_PER_S)


def pays(first: Plan, config: ClusterConfig) -> bool:
    """Whether a better mix is to be hoped for: something waits that other nodes could hold, or the cost is well above the bound.

    The cost of the cheapest node is a bound too, since the other one counts shares of larger nodes: so one launch of the cheapest type never waits
    by itself, nor does anything where types have no cost.
    """
    if first.mix is None or not any(each.reason is Reason.DEMAND for each in first.launches):
        return False
    if any(each.reason is not Reason.NO_TYPE_FITS and each.reason not in PACED for each in first.infeasible):
        return True
    costs = [each.weighed_cost for each in config.node_types if each.weighed_cost is not None]
    bound = max(first.mix.bound or 0.0, min(costs, default=first.mix.cost))
    return first.mix.cost > bound * (1 + NEAR)


def is_better(found: Plan, first: Plan) -> bool:
    """Whether a plan leaves less waiting than the first one, or as much at a lower cost."""
    return (_waiting(found), _cost(found.mix)) < (_waiting(first), _cost(first.mix))


def facts(state: ClusterState) -> object:
    """Return what launches on demand depend on, free of all that only passes with time: two states that are alike in it have the same mix."""
    return replace(
        state,
        now=0.0,
        instances=(),
        nodes=tuple(replace(each, idle_s=0.0) for each in state.nodes),
        expectations=tuple(replace(each, until=0.0) for each in state.expectations),
        unneeded_since=(),
        busiest=(),
    ), tuple((each.instance_id, each.node_type, each.status, each.growing, each.ungrown_until) for each in state.instances)


def _held_back(first: Plan) -> Plan:
    launches = tuple(each for each in first.launches if each.reason is not Reason.DEMAND)
    return replace(first, launches=launches, placements=NOWHERE)


def _waiting(plan: Plan) -> int:
    return sum(each.count for each in plan.infeasible if each.reason not in PACED)  # which part of a mix is begun first says nothing of it


def _cost(mix: Mix | None) -> float:
    return float("inf") if mix is None else mix.cost
