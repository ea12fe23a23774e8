"""Where Ray sends the bundles of a gang that it packs, and whether the devices there hold them: what a plan may say is held.

Owns Ray's choice of nodes for PACK and STRICT_PACK, by sums (Ray 2.60, src/ray/raylet/scheduling/policy/bundle_scheduling_policy.cc and
scorer.cc; asked of real raylets in tests/ray/test_order_of_bundles.py). The rule:

- Bundles are sorted, those with most GPUs first, then by other resources, object_store_memory, memory and CPU.
- PACK: of the nodes on which the first of them has room by what is free in sum, the one with the highest score; it gets all others too that
  have room there in that order, and is not looked at again; so on with what is left. STRICT_PACK: all as one bundle, on the best node.
- The score is the sum, over what the bundle asks for, of the share of what is free there that it would leave (LeastResourceScorer): the
  node with more wins, whatever its devices. Of equal ones any may be taken, and another one the next time.
- SPREAD and STRICT_SPREAD choose by the same score a node for each, SPREAD again among those that it has used when there is no other: that
  deceives seldom, and is not looked at here.
- Each raylet then gives out devices one by one, in the order of the bundles' index. Where one finds none, all is taken back on all nodes,
  and Ray does the same again within a second, for ever.

So a launch helps only where Ray likes its nodes better than those that are there.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import Enum
from functools import cached_property
from typing import NamedTuple

from rayscaler.model.demand import Gang, Strategy
from rayscaler.model.resources import UNIT
from rayscaler.planner import order
from rayscaler.planner.choose import Wanted
from rayscaler.planner.devices import Devices, Several, devices
from rayscaler.planner.packing import filled
from rayscaler.planner.sim import HEAD, SETTLED, Draft, NodeRun, Room, Shape, after, amounts, less, times

JOINED = frozenset({HEAD, SETTLED})
"""Tiers that can take work now. The others change from one plan to the next; choosing freely among these only keeps plans steady."""
STEPS = 3_000
"""Nodes looked at for one gang; above nothing is told of it, and it is planned for as any other."""
MOST_LOOKS = 100_000
"""Runs and nodes looked at for all gangs of a plan; those that come after are planned for as any others, else thousands would take minutes."""
ALIKE = 1e-9
"""Scores that differ by less count as equal: Ray adds them up as floating numbers."""


class Fate(Enum):
    """What becomes of a gang. MADE and NEVER are so whatever Ray chooses and however used devices lie; NO_ROOM is that sums have none."""

    MADE = "made"
    NEVER = "never"
    NO_ROOM = "no room"
    MAYBE = "maybe"


class _Alike(NamedTuple):
    """Nodes that are equal to Ray and to us: what is free in sum, how many devices, which shapes may lie there, what is known to be free.

    `nodes` are (position of a run, how many nodes of it).
    """

    sums: tuple[int, ...]
    devices: Mapping[int, int]
    able: frozenset[Shape]
    room: Room
    nodes: tuple[tuple[int, int], ...]

    @property
    def number(self) -> int:
        return sum(number for _, number in self.nodes)


class _Fill(NamedTuple):
    """So many nodes of those at a place of the known ones get this content each."""

    which: int
    nodes: int
    content: tuple[tuple[Shape, int], ...]


class _Left(NamedTuple):
    """A choice half made: what is still wanted, in Ray's order, and what is taken."""

    wanted: tuple[tuple[Shape, int], ...]
    fills: tuple[_Fill, ...] = ()


def concerns(draft: Draft, gang: Gang) -> bool:
    """Whether Ray packs a gang that asks for parts of devices, so that a sum may have room where no device has.

    Of an idle node that is never so with parts of one size that fill a device; of these only those are looked at that have stayed.
    """
    if gang.strategy not in (Strategy.PACK, Strategy.STRICT_PACK) or not is_worth_a_look(draft):
        return False
    needs = {need for each in gang.bundles for need in draft.shapes[each.bundle].needs if need[0] in draft.device_kinds}
    parts = [need for need in needs if 0 < need[1] < UNIT]
    is_even = len({index for index, _ in parts}) == len(parts) and all(UNIT % amount == 0 for _, amount in parts)
    return bool(parts) and (not is_even or any(gang_id == gang.gang_id for gang_id, _ in draft.state.stayed))


def is_worth_a_look(draft: Draft) -> bool:
    """Whether anything is handed out one by one, and there has been less looking for it than time allows."""
    return bool(draft.device_kinds) and draft.looks < MOST_LOOKS


class Choice:
    """All that Ray may choose for a gang on the nodes of some tiers of `runs`, which are as they are without it."""

    def __init__(self, draft: Draft, gang: Gang, runs: Sequence[NodeRun], tiers: frozenset[int]) -> None:
        self.draft, self.gang = draft, gang
        draft.looks += len(runs)
        self.in_turn = order.wanted_of(draft, gang)
        self.is_strict = gang.strategy is Strategy.STRICT_PACK
        self.shapes = _sorted(self.in_turn, self.is_strict)
        self.known = _alike(draft, runs, [shape for shape, _ in self.shapes or ()], tiers)
        self.held: dict[_Fill, bool | None] = {}
        self.ways = None if self.shapes is None or draft.is_more_there else self._ways()

    @cached_property
    def fate(self) -> Fate:
        """What becomes of it."""
        if self.ways is None:
            return Fate.MAYBE
        fates = {self._fate(way) for way in self.ways}
        return fates.pop() if len(fates) == 1 else Fate.NEVER if fates == {Fate.NEVER, Fate.NO_ROOM} else Fate.MAYBE

    def put(self) -> None:
        """Put it, if it is surely made, where Ray does: on the draft's runs, which must be those asked of."""
        at = {position: which for which, each in enumerate(self.known) for position, _ in each.nodes}
        fills: dict[int, list[_Fill]] = {}
        for fill in self.ways[0].fills if self.ways else ():
            fills.setdefault(fill.which, []).append(fill)
        runs = enumerate(self.draft.runs)
        self.draft.runs = [part for position, run in runs for part in self._parted(run, fills.get(at.get(position, -1), []))]
        self.draft.passed.clear()

    @cached_property
    def has_deceiver(self) -> bool:
        """Whether some node surely has no devices for all that it would get if it were liked best: else any place for a gang is good."""
        left = _Left(tuple(self.shapes or ()))
        able = [which for which, each in enumerate(self.known) if left.wanted and self._has_room(each, left)]
        return any(self._is_held(self._sent(left, which, is_alone=False).fills[0]) is False for which in able)

    def _parted(self, run: NodeRun, fills: list[_Fill]) -> Iterator[NodeRun]:
        """Yield the parts of a run with what Ray puts there, and take that from the fills."""
        members = run.members
        while fills and members:
            fill, number = fills[0], min(fills[0].nodes, len(members))
            yield filled(run._replace(members=members[:number]), order.rest_of(self.in_turn, list(fill.content)), self.gang)
            members = members[number:]
            fills[:1] = [fill._replace(nodes=fill.nodes - number)] if fill.nodes > number else []
        if members:
            yield run._replace(members=members)

    def _ways(self) -> list[_Left] | None:
        """Return all that Ray may do, as far as it differs, with what it finds no room for; None if there is too much."""
        found, left, steps = list[_Left](), [_Left(tuple(self.shapes or ()))], STEPS
        while left:
            now = left.pop()
            steps -= len(self.known)
            self.draft.looks += len(self.known)
            if steps < 0:
                return None
            best = self._best(now) if now.wanted else []
            if not best:
                found.append(now)
            left += [self._sent(now, index, is_alone=len(best) == 1) for index in best]
        return found

    def _best(self, left: _Left) -> list[int]:
        """Return which nodes Ray may like best for what comes first: several where it likes them equally."""
        needs, taken = _added(self._first(left)), Counter[int]()
        for fill in left.fills:
            taken[fill.which] += fill.nodes
        scores: dict[int, float] = {}
        for index, each in enumerate(self.known):
            if taken[index] < each.number and self._has_room(each, left):
                scores[index] = sum((each.sums[kind] - amount) / each.sums[kind] for kind, amount in needs.items() if amount)
        best = max(scores.values(), default=0.0)
        return [index for index, score in scores.items() if score >= best - ALIKE]

    def _first(self, left: _Left) -> tuple[tuple[Shape, int], ...]:
        """Return what Ray chooses a node for."""
        return left.wanted if self.is_strict else ((left.wanted[0][0], 1),)

    def _has_room(self, each: _Alike, left: _Left) -> bool:
        wanted = self._first(left)
        has_room = all(each.sums[kind] >= amount for kind, amount in _added(wanted).items())
        return has_room and all(shape in each.able for shape, _ in wanted)

    def _sent(self, left: _Left, index: int, *, is_alone: bool) -> _Left:
        """Return what is left once one of these nodes has got all that it has room for; all of them at once that get the same."""
        each, content = self.known[index], list[tuple[Shape, int]]()
        pool: Room = each.sums
        for shape, count in left.wanted:
            sent = count if self.is_strict else min(count, times(pool, shape.needs)) if shape in each.able else 0
            if sent:
                pool = less(pool, shape.needs, sent)
                content.append((shape, sent))
        counts = dict(left.wanted)
        taken = sum(fill.nodes for fill in left.fills if fill.which == index)
        nodes = min(each.number - taken, *(counts[shape] // sent for shape, sent in content)) if is_alone else 1
        for shape, sent in content:
            counts[shape] -= sent * nodes
        return _Left(tuple((shape, count) for shape, count in counts.items() if count), (*left.fills, _Fill(index, nodes, tuple(content))))

    def _fate(self, way: _Left) -> Fate:
        held = {self._is_held(fill) for fill in way.fills}
        if False in held:
            return Fate.NEVER  # nor where it finds no room for the rest, which lies elsewhere in a plan
        return Fate.NO_ROOM if way.wanted else Fate.MAYBE if None in held else Fate.MADE

    def _is_held(self, fill: _Fill) -> bool | None:
        """Whether the devices of a node hold what it gets; None where that can't be told."""
        key = fill._replace(nodes=1)
        if key not in self.held:
            each, content = self.known[fill.which], order.rest_of(self.in_turn, list(fill.content))
            is_in_turn = all(count == dict(self.shapes or ())[shape] or self._comes_once(shape) for shape, count in fill.content)
            found = {
                _gives(each.devices[kind], each.sums[kind], parts, is_in_turn=is_in_turn)
                for kind in self.draft.device_kinds
                if (parts := [(amount, count) for shape, count in content for index, amount in shape.needs if index == kind])
            }
            is_known = after(each.room, content) is not None
            self.held[key] = False if False in found else None if None in found or not is_known else True
        return self.held[key]

    def _comes_once(self, shape: Shape) -> bool:
        return sum(each is shape for each, _ in self.in_turn) == 1


def _added(wanted: Iterable[tuple[Shape, int]]) -> Counter[int]:
    needs = Counter[int]()
    for shape, count in wanted:
        for kind, amount in shape.needs:
            needs[kind] += amount * count
    return needs


def _gives(number: int, free: int, parts: Sequence[tuple[int, int]], *, is_in_turn: bool) -> bool | None:
    """Whether so many devices with so much free in sum give all these parts, in this turn if that is known; None where that can't be told."""
    whole = sum(amount // UNIT * count for amount, count in parts if amount >= UNIT)
    sizes = {amount for amount, _ in parts if amount < UNIT}
    if any(sum(count for amount, count in parts if size <= amount < UNIT) > (number - whole) * (UNIT // size) for size in sizes if size):
        return False  # not even of devices that nobody uses
    if number > 1 and free < number * UNIT:
        return None
    there = devices(number * UNIT, free)
    if is_in_turn or len(sizes) < 2 or number == 1:
        return there // Several.of(parts) > 0
    largest = [(max(sizes) if amount < UNIT else amount, count) for amount, count in parts]
    return True if there // Several.of(largest) else None


def _sorted(wanted: Wanted, is_strict: bool) -> Wanted | None:
    """Return what is wanted as Ray sorts it; None where nobody knows how, or which nodes its labels leave."""
    counts = Counter[Shape]()
    for shape, count in wanted:
        counts[shape] += count
    others = {name for shape in counts for name in shape.bundle.resources}.difference(order.FIRST, order.LAST)
    names = (*order.FIRST, *sorted(others), *order.LAST)
    keys = {shape: tuple(-shape.bundle.resources.get(name, 0) for name in names) for shape in counts}
    is_told = len(counts) < 2 or (len(others) < 2 and len(set(keys.values())) == len(keys))
    if not is_told or any(len(shape.bundle.selectors) > (not is_strict) for shape in counts):
        return None
    return [(shape, counts[shape]) for shape in sorted(counts, key=lambda each: keys[each])]


def _alike(draft: Draft, runs: Sequence[NodeRun], shapes: Sequence[Shape], tiers: frozenset[int]) -> list[_Alike]:
    """Return the nodes by what matters, in the order of the runs."""
    kinds = sorted({index for shape in shapes for index, _ in shape.needs})
    everything, is_any = frozenset(shapes), draft.only is None and not any(shape.bundle.selectors for shape in shapes)
    found: dict[object, tuple[_Alike, list[tuple[int, int]]]] = {}
    for position, run in enumerate(runs):
        if run.tier not in tiers:
            continue
        able = everything if is_any else frozenset(shape for shape in shapes if draft.rank(shape, run.labels) is not None)
        if able:
            sums, numbers = _seen(draft, run)
            key = (able, *[(sums[index], numbers.get(index), run.room[index]) for index in kinds])
            if key not in found:
                found[key] = _Alike(sums, numbers, able, run.room, ()), []
            found[key][1].append((position, len(run.members)))
    return [each._replace(nodes=tuple(nodes)) for each, nodes in found.values()]


def _seen(draft: Draft, run: NodeRun) -> tuple[tuple[int, ...], dict[int, int]]:
    """Return what Ray sees of each node of a run, which is the sum of its devices too, and how many of these it has of each kind."""
    known = draft.seen.get(id(run))
    if known is not None and known[0] is run:
        return known[1], known[2]
    sums, numbers = list(amounts(run.room)), dict[int, int]()
    row = None if isinstance(run.members, range) or not run.members else draft.shown.get(run.members[0])
    for index in draft.device_kinds:
        held = run.bare[index] if run.bare else run.room[index]
        if row is None:
            numbers[index] = sum(number for _, number in held) if isinstance(held, Devices) else 0
            continue
        name = draft.names[index]  # what has been learned of its devices is nothing to Ray
        placed = sum(load.each * amount for load in run.load for kind, amount in load.shape.needs if kind == index)
        sums[index] = max(0, row.available.get(name, 0) - placed)
        numbers[index] = row.total.get(name, 0) // UNIT
    draft.seen[id(run)] = run, tuple(sums), numbers
    return tuple(sums), numbers
