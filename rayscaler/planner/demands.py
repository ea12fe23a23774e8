"""The pass for tasks and actors: room that is there or on its way first, then nodes that grow, then launches, in the cheapest mix that the budget finds.

Owns when a mix is looked for, and what is taken of it.
"""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from rayscaler.model.instance import Reason
from rayscaler.model.plan import Mix
from rayscaler.model.replicas import hosts_of
from rayscaler.planner import grow, limits, refuse
from rayscaler.planner.asked import Asked, Limits
from rayscaler.planner.choose import Wanted
from rayscaler.planner.limits import MILLION
from rayscaler.planner.mix.problem import Problem, Solution, judged, least_cost
from rayscaler.planner.packing import launch_for, place_each
from rayscaler.planner.sim import Draft, Mark, sizes, times

MOST_SHAPES = 1_000
"""A mix of more is not improved: its linear program would take seconds."""
MOST_THERE = 50
"""Different nodes that are there, or on their way, of which the mix is told; of more only what first fit leaves over."""


def serve(draft: Draft, steps: int = 0) -> None:
    """Serve what is asked for (SP-14); `steps` is the work that may go into a cheaper mix (0: none)."""
    wanted, limited = grow.serve(draft, sizes(draft.demands.items())), Limits.of(draft)
    begun, there = draft.mark(), draft.runs
    left = [each for each in place_each(draft, wanted) if each[1]]
    placed = draft.mark()
    refused = launch_for(draft, left, Reason.DEMAND, layer=draft.runs)
    if left and all(view.node_type.cost is not None for view in draft.views):
        asked = Asked(draft, left, limited)
        first = judged(asked.problem, asked.recipe_of(draft, begun))
        if first.nodes:
            draft.mix = _told(draft, asked, first if first.unplaced else replace(first, bound=least_cost(asked.problem)))
        if steps and len(wanted) <= MOST_SHAPES and _is_mixed(draft, placed):
            least, mix, plain = _left_at_last(draft, refused), draft.mix, limited.of_one_host(draft)
            able = [run for run in there if any(times(run.room, shape.needs) for shape, _ in wanted)]
            if len(able) <= MOST_THERE:
                refused = _improved(draft, Asked(draft, wanted, plain, able), begun, refused, steps)
            else:
                asked = asked if plain == limited else Asked(draft, left, plain)
                refused = _improved(draft, asked, placed, refused, steps)
            if _left_at_last(draft, refused) > least:  # the mix knows of no node that grows, and took its place
                draft.reset(begun)
                refused, draft.mix = launch_for(draft, place_each(draft, wanted), Reason.DEMAND, layer=draft.runs), mix
    draft.infeasible.extend(refuse.bundle(draft, shape, count) for shape, count in grow.serve_rest(draft, refused))


def _left_at_last(draft: Draft, refused: Wanted) -> int:
    """Return how many of those that no launch may serve are left once nodes grow for them; that is tried only."""
    mark, grown = draft.mark(), dict(draft.grown)
    left = sum(count for _, count in grow.serve_rest(draft, refused))
    draft.reset(mark)
    draft.grown = grown
    return left


def _is_mixed(draft: Draft, placed: Mark) -> bool:
    """Whether the mix knows every limit.

    It knows no upscaling speed, nor whole replicas: where the first plan launched some, it stands; where not, the mix leaves such types alone.
    """
    config = draft.state.config
    if any(hosts_of(config, each.node_type) > 1 for each in draft.launching[placed.launching :]):
        return False
    return config.upscaling_speed is None


def _improved(draft: Draft, asked: Asked, begun: Mark, refused: Wanted, steps: int) -> Wanted:
    """Make the mix cheaper where that is found; return what no launch may serve then."""
    start = judged(asked.problem, asked.recipe_of(draft, begun))
    found, left = (_mixed_in_turn if asked.is_beyond(start) else _mixed)(draft, asked, begun, start, steps)
    if left is not None:
        refused = launch_for(draft, left, Reason.DEMAND, layer=draft.runs)
        done = judged(asked.problem, asked.recipe_of(draft, begun))
        if done.rank > start.rank:  # what the mix holds must hold here too: if it does not, the first plan is the better one
            draft.reset(begun)
            refused = launch_for(draft, place_each(draft, asked.wanted), Reason.DEMAND, layer=draft.runs)
            done = start
        found = replace(found, recipe=done.recipe, unplaced=done.unplaced, cost=done.cost, nodes=done.nodes)
    if found.nodes:
        draft.mix = _told(draft, asked, found)
    return refused


def _mixed(draft: Draft, asked: Asked, begun: Mark, start: Solution, steps: int) -> tuple[Solution, Wanted | None]:
    """Launch the best mix; return it, and what it leaves, None where it is the first plan's."""
    found = _solved(asked.problem, start, steps)
    return found, None if found.recipe == start.recipe else _placed(draft, asked, found, begun)


def _mixed_in_turn(draft: Draft, asked: Asked, begun: Mark, start: Solution, steps: int) -> tuple[Solution, Wanted]:
    """Launch one mix after the other, each of the types that are liked best of those that have room; return what was done, and what is left.

    How cheap all of them together could be is not reckoned.
    """
    used, left = 0, asked.wanted
    while left and used < steps:
        found = _solved(asked.problem, judged(asked.problem, ()), steps - used)
        left, used = _placed(draft, asked, found, begun), used + found.steps
        if not found.nodes:
            break
        begun, asked = draft.mark(), Asked(draft, left, Limits.of(draft).of_one_host(draft))
    return replace(start, steps=used), left


def _solved(problem: Problem, start: Solution, steps: int) -> Solution:
    from rayscaler.planner.mix.solve import solve  # here, since the solver costs memory that a first plan does not need

    return solve(problem, start, steps)


def _placed(draft: Draft, asked: Asked, found: Solution, begun: Mark) -> Wanted:
    """Launch what a mix launches, and place the rest first fit; only where that leaves anything, all of it as the mix has it. Return what is left.

    First fit uses the busiest nodes first, so that idle ones may go.
    """
    draft.reset(begun)
    left = [each for each in place_each(draft, asked.launched(draft, found)) if each[1]]
    if left and asked.there:
        draft.reset(begun)
        left = asked.placed(draft, found, asked.launched(draft, found))
        left = [each for each in place_each(draft, left) if each[1]]
    return left


def _told(draft: Draft, asked: Asked, found: Solution) -> Mix:
    bound = None if found.bound is None else found.bound / MILLION
    return Mix(found.cost / MILLION, bound, found.steps, tuple(dict.fromkeys(_binding(draft, asked, found))))


def _binding(draft: Draft, asked: Asked, found: Solution) -> Iterator[str]:
    """Yield what keeps the mix from being cheaper, or from placing more; of types that are closed, those less dear than what was taken in their place."""
    prices, closed = asked.problem.prices, asked.closed(draft)
    dearest = max((prices[used.column.type] for used in found.recipe), default=0)
    obstacle = partial(limits.obstacle, draft, is_speed_bound=False)
    for kind in sorted({*found.binds, *(kind for kind in closed if prices[kind] < dearest)}):
        least = f"no more than {asked.problem.limits[kind]} of {asked.views[kind].name} may be launched now"
        yield least if (each := obstacle(asked.views[kind])) is None else each[1]
    if found.is_full:
        yield from (each[1] for each in map(obstacle, asked.views) if each is not None and each[0] in limits.SHARED)
