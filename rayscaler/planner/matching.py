"""Bundles to distinct nodes when first-fit has failed: exact, by augmenting paths over shapes and runs. Knows only who fits where."""

from collections import Counter, deque
from collections.abc import Callable, Sequence

from rayscaler.planner.sim import NodeRun, Shape

Fits = Callable[[Shape, NodeRun], bool]
Moves = dict[int, tuple[Shape, int | None]]
"""Into which run a shape may move, and out of which; None: it had no place yet."""


def match(
    wanted: Sequence[tuple[Shape, int]], runs: Sequence[NodeRun], fits: Fits, begin: Callable[[Shape], int]
) -> list[Counter[Shape]] | None:
    """Return how many of each shape go on each run, at most one per node; None when there is no such way. `begin` is the first run that may do."""
    homes: dict[Shape, list[int]] = {}
    for shape, count in wanted:
        homes[shape] = [position for position in range(begin(shape), len(runs)) if fits(shape, runs[position])]
        if sum(len(runs[position].members) for position in homes[shape]) < count:
            return None
    placed: list[Counter[Shape]] = [Counter() for _ in runs]
    for shape, count in wanted:
        for _ in range(count):
            if not _augment(shape, homes, placed, runs):
                return None
    return placed


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
