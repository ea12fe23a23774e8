"""The pass for tasks and actors: room that is there or on its way first, then launches, in the cheapest mix that the budget finds.

Owns the way from the draft to the mix's problem and back.
"""

from collections import Counter
from dataclasses import replace

from rayscaler.model.instance import Reason
from rayscaler.model.plan import Mix
from rayscaler.model.resources import MANY
from rayscaler.planner import limits, refuse
from rayscaler.planner.choose import Wanted
from rayscaler.planner.mix.problem import Column, Problem, Solution, Used, judged, least_cost
from rayscaler.planner.packing import filled, launch_for, place_each
from rayscaler.planner.sim import Draft, Shape, TypeView, sizes, times

MOST_SHAPES = 1_000
"""A mix of more is not improved: its linear program would take seconds."""
MICRO = 1_000_000
"""Prices are in millionths."""


def serve(draft: Draft, steps: int = 0) -> None:
    """Serve what is asked for (SP-14); `steps` is the work that may go into a cheaper mix (0: none)."""
    left = place_each(draft, sizes(draft.demands.items()))
    refused = _launched(draft, [each for each in left if each[1]], steps)
    draft.infeasible.extend(refuse.bundle(draft, shape, count) for shape, count in refused)


def _launched(draft: Draft, wanted: Wanted, steps: int) -> Wanted:
    """Launch for what is wanted; return what no launch may serve."""
    mark, first = draft.mark(), len(draft.runs)
    asked = _Asked(draft, wanted) if _is_priced(draft, wanted) else None
    refused = launch_for(draft, wanted, Reason.DEMAND, layer=draft.runs)
    if asked is None or len(draft.runs) == first:
        return refused
    start = judged(asked.problem, asked.recipe_of(draft, first))
    found = start if start.unplaced else replace(start, bound=least_cost(asked.problem))
    if steps and len(wanted) <= MOST_SHAPES and draft.state.config.upscaling_speed is None:
        found = _improved(asked.problem, start, steps)
    if found.recipe != start.recipe:
        draft.reset(mark)
        refused = launch_for(draft, asked.carry_out(draft, found), Reason.DEMAND, layer=draft.runs)
        done = judged(asked.problem, asked.recipe_of(draft, first))
        if done.rank > start.rank:  # what the mix holds must hold here too: if it does not, the first plan is the better one
            draft.reset(mark)
            refused, done = launch_for(draft, wanted, Reason.DEMAND, layer=draft.runs), start
        found = replace(found, recipe=done.recipe, unplaced=done.unplaced, cost=done.cost)
    draft.mix = _told(asked, found)
    return refused


def _is_priced(draft: Draft, wanted: Wanted) -> bool:
    return bool(wanted) and all(view.node_type.cost is not None for view in draft.views)


def _improved(problem: Problem, start: Solution, steps: int) -> Solution:
    from rayscaler.planner.mix.solve import solve  # here, since the solver costs memory that a first plan does not need

    return solve(problem, start, steps)


class _Asked:
    """The mix's problem for a draft: of label alternatives and priorities the best that has room, as the first plan has it."""

    def __init__(self, draft: Draft, wanted: Wanted) -> None:
        self.shapes: list[Shape] = [shape for shape, _ in wanted]
        self.views: list[TypeView] = list(draft.views)
        rooms = [min(limits.room(draft, view), MANY) for view in self.views]
        allowed: list[set[int]] = [set() for _ in self.views]
        for index, shape in enumerate(self.shapes):
            able = [
                ((rank, -view.node_type.priority), kind)
                for kind, view in enumerate(self.views)
                if rooms[kind] and times(view.room, shape.needs) and (rank := draft.rank(shape, view.labels)) is not None
            ]
            best = min(able, default=((0, 0), 0))[0]
            for order, kind in able:
                if order == best:
                    allowed[kind].add(index)
        self.problem = Problem(
            needs=tuple(shape.needs for shape in self.shapes),
            counts=tuple(count for _, count in wanted),
            rooms=tuple(view.room for view in self.views),
            prices=tuple(draft.prices[view.name] for view in self.views),
            limits=tuple(rooms),
            allowed=tuple(map(frozenset, allowed)),
            total=limits.total_room(draft),
            money=limits.money(draft),
        )

    def recipe_of(self, draft: Draft, first: int) -> tuple[Used, ...]:
        """Return what the draft launches from its run `first` on."""
        kinds = {view.name: kind for kind, view in enumerate(self.views)}
        numbers = {shape: index for index, shape in enumerate(self.shapes)}
        nodes: Counter[Column] = Counter()
        for run in draft.runs[first:]:
            content: Counter[int] = Counter()
            for load in run.load:
                content[numbers[load.shape]] += load.each
            nodes[Column(kinds[run.node_type], tuple(sorted(content.items())))] += len(run.members)
        return tuple(Used(column, count) for column, count in sorted(nodes.items()))

    def carry_out(self, draft: Draft, found: Solution) -> Wanted:
        """Launch by a recipe, largest first; return what it leaves out."""
        left = list(self.problem.counts)
        for column, nodes in sorted(found.recipe, key=lambda each: (-each.nodes, each.column)):
            run = draft.launch(self.views[column.type], nodes, Reason.DEMAND)
            for index, each in column.content:
                shape = self.shapes[index]
                count = min(each, times(run.room, shape.needs))
                run = filled(run, [(shape, count)] if count else [])
                left[index] -= count * nodes
            draft.runs.append(run)
        return [(shape, count) for shape, count in zip(self.shapes, left, strict=True) if count > 0]


def _told(asked: _Asked, found: Solution) -> Mix:
    names = [asked.views[kind].name for kind in found.binds]
    binds = tuple(
        f"no more than {asked.problem.limits[kind]} of {name} may be launched now" for kind, name in zip(found.binds, names, strict=True)
    )
    return Mix(found.cost / MICRO, None if found.bound is None else found.bound / MICRO, found.steps, binds)
