"""Bundles to distinct nodes when first-fit has failed: exact, by augmenting paths over shapes and runs. Knows only who fits where."""

from collections import Counter, deque
from collections.abc import Callable, Sequence

from rayscaler.planner.sim import NodeRun, Shape

Fits = Callable[[Shape, NodeRun], bool]
Moves = dict[int, tuple[Shape, int | None]]
"""Into which run a shape may move, and out of which; None: it had no place yet."""


def match(
    wanted: Sequence[tuple[Shape, int]],
    runs: Sequence[NodeRun],
    fits: Fits,
    begin: Callable[[Shape], int],
    spare: Sequence[NodeRun] = (),
) -> list[Counter[Shape]] | None:
    """Return how many of each shape go on each run, at most one per node; None when there is no such way. `begin` is the first run that may do.

    Runs of `spare`, which come after the others, take only what has no place there.
    """
    whole = [*runs, *spare]
    fit: dict[Shape, list[int]] = {}
    for shape, count in wanted:
        fit[shape] = [position for position in range(begin(shape), len(whole)) if fits(shape, whole[position])]
        if sum(len(whole[position].members) for position in fit[shape]) < count:
            return None
    placed: list[Counter[Shape]] = [Counter() for _ in whole]
    left = list(wanted)
    for end in sorted({len(runs), len(whole)}):
        homes = {shape: [position for position in positions if position < end] for shape, positions in fit.items()}
        left = [(shape, count) for shape, each in left if (count := _without_home(shape, each, homes, placed, whole))]
        if not left:
            return placed
    return None


def _without_home(shape: Shape, count: int, homes: dict[Shape, list[int]], placed: list[Counter[Shape]], runs: Sequence[NodeRun]) -> int:
    """Place up to so many of a shape; return how many have no place: what has none once never gets one."""
    while count and _augment(shape, homes, placed, runs):
        count -= 1
    return count


def _augment(shape: Shape, homes: dict[Shape, list[int]], placed: list[Counter[Shape]], runs: Sequence[NodeRun]) -> bool:
    """Find room for one more of `shape`, moving others out of its way."""
    moves: Moves = dict.fromkeys(homes[shape], (shape, None))
    queue = deque(homes[shape])
    while queue:
        position = queue.popleft()
        if placed[position].total() < len(runs[position].members):
            _shift(moves, position, placed)
            return True
        for other in [each for each, count in placed[position].items() if count]:
            for home in homes[other]:
                if home not in moves:
                    moves[home] = (other, position)
                    queue.append(home)
    return False


def _shift(moves: Moves, last: int, placed: list[Counter[Shape]]) -> None:
    position: int | None = last
    while position is not None:
        shape, source = moves[position]
        placed[position][shape] += 1
        if source is not None:
            placed[source][shape] -= 1
        position = source
