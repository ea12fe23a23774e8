"""First-fit-decreasing over shapes with counts: on what is there, then on launches. A shape costs one pass over runs, however many.

Owns the demand and constraint passes and the keeping of promises. Knows nothing of gangs' strategies.
"""

from collections.abc import Iterable, Mapping, Sequence

from rayscaler.model.demand import Gang, Strategy
from rayscaler.model.instance import Reason
from rayscaler.model.resources import MANY
from rayscaler.planner import refuse, replicas
from rayscaler.planner.choose import Memo, Wanted, choose
from rayscaler.planner.sim import Draft, Load, NodeRun, Shape, amounts, loaded, put, sizes, times

BLOCK = 64
"""Runs looked at together."""


def place(
    draft: Draft,
    runs: list[NodeRun],
    shape: Shape,
    count: int,
    *,
    gang_id: str = "",
    mark: str = "",
    per_node: int = MANY,
    is_apart: bool = False,
) -> int:
    """Put up to `count` on `runs` in their order, earlier label alternatives first; return how many are left.

    `mark` is a gang's label to leave on the nodes; `is_apart` keeps off nodes that carry it already.
    """
    put_on = Load(shape, per_node, gang_id)
    for rank in _ranks(shape):
        count = _place_by(draft, runs, put_on, count, rank, mark=mark, is_apart=is_apart)
    return count


def place_each(draft: Draft, wanted: Wanted) -> Wanted:
    """Put each of what is wanted on the draft's runs, as `place` does; return what is left of it.

    Of many runs most have no room for a shape: they are looked at by blocks, which have the most that any of theirs has of each kind.
    """
    blocks = [draft.runs[at : at + BLOCK] for at in range(0, len(draft.runs), BLOCK)]
    most = [_most(block) for block in blocks]
    left: Wanted = []
    for shape, count in wanted:
        rest = count
        for rank in _ranks(shape):
            for at, block in enumerate(blocks):
                if rest and all(most[at][index] >= amount for index, amount in shape.needs):
                    before, rest = rest, _place_by(draft, block, Load(shape, MANY), rest, rank)
                    most[at] = most[at] if rest == before else _most(block)
        left.append((shape, rest))
    draft.runs = [run for block in blocks for run in block]
    return left


def _ranks(shape: Shape) -> range:
    return range(max(1, len(shape.bundle.selectors)))


def _most(runs: Iterable[NodeRun]) -> tuple[int, ...]:
    return tuple(map(max, zip(*(amounts(run.room) for run in runs), strict=True)))


def _place_by(draft: Draft, runs: list[NodeRun], load: Load, count: int, rank: int, *, mark: str = "", is_apart: bool = False) -> int:
    """Put up to `count` where the label alternative of that rank holds, at most `load.each` per node; return how many are left."""
    shape, position = load.shape, draft.begin(load.shape) if runs is draft.runs else 0
    while count and position < len(runs):
        run = runs[position]
        position += 1
        most = times(run.room, shape.needs)
        if not most or draft.rank(shape, run.labels) != rank or (is_apart and mark in run.marks):
            continue
        parts, placed = put(run, load._replace(each=min(most, load.each, count)), count, mark)
        count -= placed
        runs[position - 1 : position] = parts
        position += len(parts) - 1
    return count


def launch_for(draft: Draft, wanted: Wanted, reason: Reason, *, layer: list[NodeRun], gang: Gang | None = None) -> Wanted:
    """Launch nodes for what is wanted, in its order; return what no launch may serve.

    A chosen node's fill is repeated for as long as it would come out the same, so the number of rounds goes with the shapes.
    `layer` gets the nodes with their load; where that is the floor, the draft's runs get them empty. Gangs and the constraint are
    not bound by the upscaling speed.
    """
    is_demand = reason is Reason.DEMAND
    refused: Wanted = []
    left = {shape: count for shape, count in wanted if count > 0}
    memo = Memo(left, draft.device_kinds)
    while left:
        pick = choose(draft, left, memo, is_speed_bound=is_demand, is_close=gang is not None)
        if pick is None or pick.room <= 0:
            shape = next(iter(left))
            refused.append((shape, left.pop(shape)))
            memo.drop(shape)
            continue
        count = replicas.at_once(pick.view.node_type, min(pick.room, *(left[shape] // each for shape, each in pick.content)))
        begun = len(layer)
        run = draft.launch(pick.view, count, reason, *_both(draft, layer))
        rest = layer[begun:]
        if layer is not draft.runs:
            draft.runs.insert(len(draft.runs) - len(rest), run)  # used before the rest of its replica
        layer[begun:] = [filled(run, pick.content, gang)]
        taken = {shape: left[shape] - each * count for shape, each in pick.content}
        if rest:
            taken |= _taken_by_rest(draft, rest, {**left, **taken}, gang)
            layer += rest
        _lower(left, taken, memo)
    return refused


def _both(draft: Draft, layer: list[NodeRun]) -> list[list[NodeRun]]:
    return [layer] if layer is draft.runs else [draft.runs, layer]


def _lower(left: dict[Shape, int], counts: Mapping[Shape, int], memo: Memo) -> None:
    """Set what is left of some shapes."""
    for shape, count in counts.items():
        left[shape] = count
        if not count:
            del left[shape]
            memo.drop(shape)


def _taken_by_rest(draft: Draft, rest: list[NodeRun], left: Mapping[Shape, int], gang: Gang | None) -> dict[Shape, int]:
    """Put what is left on hosts that come only since their replica is whole; return what is left then of what they took."""
    gang_id, mark = (gang.gang_id, gang.label) if gang else ("", "")
    after = {shape: place(draft, rest, shape, count, gang_id=gang_id, mark=mark) for shape, count in left.items() if count}
    return {shape: count for shape, count in after.items() if count != left[shape]}


def filled(run: NodeRun, content: Wanted, gang: Gang | None = None) -> NodeRun:
    """Return the run with `content` on every node."""
    gang_id, mark = (gang.gang_id, gang.label) if gang else ("", "")
    for shape, each in content:
        run = loaded(run, run.members, Load(shape, each, gang_id), mark)
    return run


def keep_promises(draft: Draft) -> None:
    """Put what in-flight nodes were launched for on them again, as far as it is still wanted.

    It goes there in the order of the plan that launched them, for that decides of which devices parts come: so there is room for all of it.
    """
    draft.gang_left = {i: gang_counts(draft, gang) for i, gang in enumerate(draft.gangs)}
    position_of: dict[str, int] = {}
    for i, gang in enumerate(draft.gangs):
        position_of.setdefault(gang.gang_id, i)
    kept: list[NodeRun] = []
    promised: set[int] = set()
    for run in draft.runs:
        parts = [run]
        for promise in run.promises:
            if promise.is_constraint:
                continue
            if promise.gang_id and promise.gang_id not in position_of:
                continue
            position = position_of[promise.gang_id] if promise.gang_id else None
            owner = None if position is None else draft.gangs[position]
            left = draft.demands if position is None else draft.gang_left[position]
            promised.update(() if position is None else (position,))
            parts = _keep(draft, parts, Load(promise.shape, promise.each, promise.gang_id), left, owner)
        kept.extend(parts)
    draft.runs = kept
    draft.kept = frozenset(draft.gangs[i].gang_id for i in promised if draft.gang_left[i] != gang_counts(draft, draft.gangs[i]))


def _keep(draft: Draft, parts: list[NodeRun], load: Load, left: dict[Shape, int], gang: Gang | None = None) -> list[NodeRun]:
    after: list[NodeRun] = []
    is_apart = gang is not None and gang.strategy is Strategy.STRICT_SPREAD
    for part in parts:
        count = left.get(load.shape, 0)
        most = min(load.each, times(part.room, load.shape.needs), 1 if is_apart else count, count)
        if most <= 0 or draft.rank(load.shape, part.labels) is None or (gang and is_apart and gang.label in part.marks):
            after.append(part)
            continue
        pieces, placed = put(part, load._replace(each=most), count, gang.label if gang else "")
        left[load.shape] = count - placed
        after.extend(pieces)
    return after


def gang_counts(draft: Draft, gang: Gang) -> dict[Shape, int]:
    """Return how often a gang wants each shape."""
    counts: dict[Shape, int] = {}
    for each in gang.bundles:
        shape = draft.shapes[each.bundle]
        counts[shape] = counts.get(shape, 0) + each.count
    return counts


def constraint(draft: Draft) -> None:
    """Keep room for the constraint on totals, whatever is used now: plan the part that can be, say why not of the rest (SP-15)."""
    draft.runs.extend(draft.prepared)
    if not draft.constraint:
        draft.floor.clear()
        return
    draft.floor.extend(draft.prepared)
    wanted = dict(draft.constraint)
    kept: list[NodeRun] = []
    for run in draft.floor:
        parts = [run]
        for promise in run.promises:
            if promise.is_constraint:
                parts = _keep(draft, parts, Load(promise.shape, promise.each), wanted)
        kept.extend(parts)
    draft.floor = kept
    left = [(shape, place(draft, draft.floor, shape, count)) for shape, count in sizes(wanted.items())]
    refused = launch_for(draft, left, Reason.CONSTRAINT, layer=draft.floor)
    draft.infeasible.extend(refuse.bundle(draft, shape, count, is_constraint=True) for shape, count in refused)


def loaded_members(*layers: Sequence[NodeRun]) -> set[str]:
    """Return the names of existing nodes with anything on them."""
    return {member for layer in layers for run in layer if run.load and not isinstance(run.members, range) for member in run.members}
