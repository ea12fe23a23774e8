"""Gangs: all or none, by strategy. A gang that cannot be had launches nothing and stands in nobody's way (I1).

STRICT_PACK: one node. STRICT_SPREAD: a node each, and none that carries a bundle of the gang already. PACK: on joined nodes as few as
will do; else room that is on its way; else one new node; else room and launches. SPREAD: a node each where existing room allows; else
existing room shared; else new nodes, one each as far as limits allow; else as PACK.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence

from rayscaler.model.demand import Gang, Strategy
from rayscaler.model.instance import Reason
from rayscaler.model.resources import MANY
from rayscaler.model.words import counted
from rayscaler.planner import apart, order, packed, refuse, sent, trying, within
from rayscaler.planner.choose import Memo, Wanted, choose
from rayscaler.planner.packing import filled, gang_counts, launch_for, place
from rayscaler.planner.sent import JOINED
from rayscaler.planner.sim import Draft, Load, Needs, NodeRun, Room, Shape, after, amounts, least_of, less, sizes, times

CLOSE = frozenset({Strategy.PACK, Strategy.STRICT_PACK})
"""Strategies by which Ray puts all on one node where the sum of it has room."""

LAST = {Strategy.PACK: trying.place, Strategy.SPREAD: trying.place, Strategy.STRICT_SPREAD: apart.matched_and_launched}
"""What places all where no attempt does. PACK and SPREAD are wishes only: where Ray has no other room it puts bundles anywhere."""

Attempt = Callable[[Draft, Gang, Wanted], refuse.Verdict | None]
"""Places what is wanted of a gang; returns None, or why it could not."""

FEW = 64
"""Runs that may be looked at for each gang, whether they have room or not."""


def place_all(draft: Draft) -> None:
    """Place each gang whole or not at all, the most constrained and largest first."""
    wanted = {*draft.demands, *(draft.shapes[each.bundle] for gang in draft.gangs for each in gang.bundles)}
    least = least_of([shape.needs for shape in wanted], draft.device_kinds)
    full: list[NodeRun] = []
    many = FEW
    for position, gang in enumerate(draft.gangs):
        rest = sizes(draft.gang_left[position].items())
        place = _placed_as_sent if sent.concerns(draft, gang) else _placed_in_order if gang.gang_id in draft.ordered else _placed
        _pass_by(draft, [draft.shapes[each.bundle] for each in gang.bundles])
        draft.deceiving, draft.tried = order.deceiving(draft, gang), _tried(draft, gang)
        found = place(draft, gang, rest) if gang.locality is None else _placed_within(draft, gang, rest, place)
        if found is not None:
            draft.infeasible.append(refuse.gang(gang, found))
        if len(draft.runs) > many:
            _set_aside(draft, least, full)
            draft.passed.clear()
            many = FEW + 2 * len(draft.runs)
    draft.runs, draft.deceiving, draft.tried = full + draft.runs, frozenset(), None
    draft.passed.clear()


def _tried(draft: Draft, gang: Gang) -> Counter[str]:
    """Return how many launches of each type there are but the gang's own: those wait for what it lacks, and are no other try."""
    if not draft.backoffs or gang.gang_id not in draft.kept:
        return draft.launches
    members = {member for run in _runs_of(draft, gang) for member in run.members}
    own = Counter(each.node_type for each in draft.instances if each.is_launching and each.instance_id in members)
    return Counter({name: count - own[name] for name, count in draft.launches.items()})


def _pass_by(draft: Draft, shapes: Iterable[Shape]) -> None:
    """Note how many of the first runs have no room for each of these."""
    for shape in shapes:
        position = draft.passed.get(shape, 0)
        while position < len(draft.runs) and not draft.can_hold(draft.runs[position], shape):
            position += 1
        draft.passed[shape] = position


def _placed(draft: Draft, gang: Gang, rest: Wanted) -> refuse.Verdict | None:
    """Place a gang of which promises have left `rest`; return None, or why it cannot be had."""
    whole = sizes(gang_counts(draft, gang).items())
    found = _try(draft, gang, rest, BESIDE.get(gang.strategy, ()) if rest != whole else ())
    if found is not None and rest != whole:
        _release(draft, gang)
        found = _try(draft, gang, whole)
    if found is None or (gang.strategy in LAST and LAST[gang.strategy](draft, gang, whole)):
        return None
    return _worst(draft, gang, whole, found)


def _placed_as_sent(draft: Draft, gang: Gang, rest: Wanted) -> refuse.Verdict | None:
    """Place a gang that Ray may send where it can't be."""
    is_ordered = gang.gang_id in draft.ordered
    launches = (_new_node,) if is_ordered else (_new_node, packed.new_nodes)
    by = packed.By(_placed_in_order if is_ordered else _placed, launches, _release, _freed)
    return packed.place(draft, gang, rest, by)


def _placed_within(draft: Draft, gang: Gang, rest: Wanted, place: Attempt) -> refuse.Verdict | None:
    """Place a gang within the one value of its label where that costs least; what promises keep elsewhere is placed anew."""
    kept, before = within.values_of(draft, gang), draft.mark()
    _release(draft, gang)
    anew, whole = draft.mark(), sizes(gang_counts(draft, gang).items())

    def placed(value: str) -> refuse.Verdict | None:
        is_kept = kept == {value}
        draft.reset(before if is_kept else anew)
        return place(draft, gang, rest if is_kept else whole)

    found = within.best(draft, gang, kept, placed)
    if found is not None:
        draft.reset(anew)
    return found


def _placed_in_order(draft: Draft, gang: Gang, rest: Wanted) -> refuse.Verdict | None:
    """Place a gang whose order decides; kept promises count where they hold all of it in order, else all is placed anew."""
    wanted = order.wanted_of(draft, gang)
    is_plain, is_strict = order.is_plain(wanted), gang.strategy is Strategy.STRICT_PACK
    if not rest and order.is_sure(draft, gang) and not (is_strict and _nodes_of(draft, gang) > 1):
        return None
    if not is_strict and rest and _is_completed(draft, gang, order.rest_of(wanted, rest)):
        return None
    _release(draft, gang)
    in_the_way = order.in_the_way(draft, gang, wanted) if gang.strategy in CLOSE else None
    attempts = [each for each in ATTEMPTS[gang.strategy] if in_the_way is None or each is not _close_launches]
    found = _try(draft, gang, wanted, attempts) if is_plain or is_strict else _try_mixed(draft, gang, wanted, attempts)
    return None if found is None else in_the_way or _worst(draft, gang, wanted, found)


def _is_completed(draft: Draft, gang: Gang, rest: Wanted) -> bool:
    """Place what promises have left of a gang where the order on each node can be told, or does not matter; change nothing where that can't be."""
    if gang.gang_id not in draft.kept:
        return False
    kept = {member for run in _runs_of(draft, gang) for member in run.members}
    mark, whole, plain = draft.mark(), order.wanted_of(draft, gang), [rest] if order.is_plain(rest) else []
    safe = order.safe(draft, rest, whole)
    for wanted in (*plain, safe) if order.is_plain(whole) else (safe, *plain):  # first as it was, as part of the whole
        if _try(draft, gang, wanted, BESIDE.get(gang.strategy, ())) is None:
            draft.runs = [order.as_asked(draft, run, gang) for run in draft.runs]
            mixed = [run for run in _runs_of(draft, gang) if wanted is rest or not kept.isdisjoint(run.members)]
            if order.is_any(draft, mixed, gang) or order.is_in_turn(draft, gang):
                return True
            draft.reset(mark)
    return False


def _try_mixed(draft: Draft, gang: Gang, wanted: Wanted, attempts: Sequence[Attempt]) -> refuse.Verdict | None:
    """Place a gang of which nobody can tell in which order a part of it comes to a node: all on one, or so that any order will do."""
    if gang.strategy is Strategy.PACK and _try(draft, gang, wanted, [_one_node]) is None:
        return None
    found = _try(draft, gang, order.safe(draft, wanted), attempts)
    if found is None:
        draft.runs = [order.as_asked(draft, run, gang) for run in draft.runs]
    return found


def _set_aside(draft: Draft, least: Needs, full: list[NodeRun]) -> None:
    """Move runs without room for anything that is wanted to `full`, so that they are not looked at again and again.

    Those that promises were kept on stay: a gang may have to be taken off there. So do those that have room by sums: Ray may choose them.
    """
    open_runs: list[NodeRun] = []
    for run in draft.runs:
        is_open = run.promises or times(run.room, least) or (sent.is_worth_a_look(draft) and times(amounts(run.room), least))
        (open_runs if is_open else full).append(run)
    draft.runs = open_runs


def _try(draft: Draft, gang: Gang, wanted: Wanted, attempts: Sequence[Attempt] = ()) -> refuse.Verdict | None:
    if not wanted:
        return apart.FULL if gang.strategy is Strategy.STRICT_PACK and _nodes_of(draft, gang) > 1 else None
    found: refuse.Verdict | None = apart.FULL
    for attempt in attempts or ATTEMPTS[gang.strategy]:
        mark = draft.mark()
        found = attempt(draft, gang, wanted)
        if found is None:
            return None
        launches = len(draft.launching) - mark.launching
        draft.reset(mark)
        if launches:
            found = found._replace(text=f"{found.text} (counting the launch of {counted(launches, 'node')} for it)")
    return found


def _nodes_of(draft: Draft, gang: Gang) -> int:
    """Return on how many nodes promises have put the gang."""
    return gang.gang_id in draft.kept and sum(len(run.members) for run in _runs_of(draft, gang))


def _runs_of(draft: Draft, gang: Gang) -> list[NodeRun]:
    label = gang.label
    return [run for run in draft.runs if label in run.marks and any(load.gang_id == gang.gang_id for load in run.load)]


def _release(draft: Draft, gang: Gang) -> None:
    """Take back what promises had put of the gang."""
    if gang.gang_id not in draft.kept:
        return

    draft.runs = [_freed(run, gang) for run in draft.runs]
    draft.kept -= {gang.gang_id}
    draft.passed.clear()


def _freed(run: NodeRun, gang: Gang) -> NodeRun:
    """Return the run without the gang."""
    others = tuple(load for load in run.load if load.gang_id != gang.gang_id)
    return run if others == run.load else run._replace(room=_room_of(run, others), load=others, marks=run.marks - {gang.label})


def _room_of(run: NodeRun, loads: Iterable[Load]) -> Room:
    """Return the run's room with these of its loads alone, in their order; as it is where devices cannot be shared out anew."""
    room = after(run.bare, ((load.shape, load.each) for load in loads))
    return run.room if room is None else room


def _worst(draft: Draft, gang: Gang, whole: Wanted, found: refuse.Verdict) -> refuse.Verdict:
    """Return the verdict that matters most: what can never be had, before what only larger nodes would hold, before what waits."""
    shapes = [order.merged(draft, whole)] if gang.strategy is Strategy.STRICT_PACK else [shape for shape, _ in whole]
    worst = (each for why in (refuse.never, refuse.smaller) for shape in shapes if (each := why(draft, shape)) is not None)
    return next(worst, found)


def _one_node(draft: Draft, gang: Gang, wanted: Wanted) -> refuse.Verdict | None:
    """Put all on one node that is there or on its way, else on a new one."""
    whole = order.merged(draft, wanted)
    position = _best(draft, whole)
    if position is not None:
        run = draft.runs[position]
        _split(draft, position, _at_once(run._replace(members=run.members[:1]), whole, wanted, gang))
        return None
    return _new_node(draft, gang, wanted)


def _best(draft: Draft, whole: Shape) -> int | None:
    """Return the first run with room for all at once whose labels are liked best."""
    if draft.only is None:
        _pass_by(draft, [whole])
    best, found = MANY, None
    for position in range(draft.begin(whole), len(draft.runs)):
        run = draft.runs[position]
        if times(run.room, whole.needs) and (rank := draft.rank(whole, run.labels)) is not None and rank < best:
            best, found = rank, position
            if not rank:
                break
    return found


def _strict_pack(draft: Draft, gang: Gang, wanted: Wanted) -> refuse.Verdict | None:
    if _nodes_of(draft, gang):
        return apart.FULL  # promises kept a part only: not one node any more, so all is placed anew
    return _one_node(draft, gang, wanted)


def _put_on_first(draft: Draft, gang: Gang, position: int, content: Wanted) -> None:
    run = draft.runs[position]
    _split(draft, position, filled(run._replace(members=run.members[:1]), content, gang))


def _split(draft: Draft, position: int, first: NodeRun) -> None:
    """Put `first` in the place of the first member of a run."""
    run = draft.runs[position]
    draft.runs[position : position + 1] = [first, *([run._replace(members=run.members[1:])] if len(run.members) > 1 else [])]


def _at_once(run: NodeRun, whole: Shape, wanted: Wanted, gang: Gang) -> NodeRun:
    """Return the run with all of a gang on each node: its devices are given out together, in the order in which that was found to do."""
    loads = (Load(shape, count, gang.gang_id) for shape, count in wanted)
    return run._replace(
        room=less(run.room, whole.needs, 1), load=(*run.load, *loads), marks=run.marks | {gang.label}, bare=run.bare or run.room
    )


def _new_node(draft: Draft, gang: Gang, wanted: Wanted) -> refuse.Verdict | None:
    whole = order.merged(draft, wanted)
    pick = choose(draft, {whole: 1}, Memo([whole], draft.device_kinds), is_speed_bound=False)
    if pick is None:
        return apart.refusal(draft, whole)
    draft.runs.append(_at_once(draft.launch(pick.view, 1, Reason.GANG), whole, wanted, gang))
    return None


def _shared(draft: Draft, gang: Gang, wanted: Wanted) -> refuse.Verdict | None:
    """Put bundles on existing nodes, apart as far as that goes, then evenly."""
    left = (_place_evenly(draft, gang, shape, apart.place(draft, gang, shape, count)) for shape, count in wanted)
    return apart.FULL if any(left) else None


def _place_evenly(draft: Draft, gang: Gang, shape: Shape, count: int) -> int:
    before = count + 1
    while 0 < count < before:
        before = count
        count = place(draft, draft.runs, shape, count, gang_id=gang.gang_id, mark=gang.label, per_node=1)
    return count


def _spread_launches(draft: Draft, gang: Gang, wanted: Wanted) -> refuse.Verdict | None:
    """Launch a node for each bundle that has none of its own as far as limits allow; the rest shares."""
    for shape, count in wanted:
        left = apart.launch(draft, gang, shape, apart.place(draft, gang, shape, count))
        if _place_evenly(draft, gang, shape, left):
            return apart.refusal(draft, shape)
    return None


def _few_joined(draft: Draft, gang: Gang, wanted: Wanted) -> refuse.Verdict | None:
    """Put all on joined nodes, always the one that takes most of what is left."""
    left = list(wanted)
    while left:
        best, content = 0, Wanted()
        for position in range(min(draft.begin(shape) for shape, _ in left), len(draft.runs)):
            if draft.runs[position].tier not in JOINED:
                break  # they come first
            taken = _content(draft, draft.runs[position], left)
            if sum(count for _, count in taken) > sum(count for _, count in content):
                best, content = position, taken
        if not content:
            return apart.FULL
        _put_on_first(draft, gang, best, content)
        less_of = dict(content)
        left = [(shape, count - less_of.get(shape, 0)) for shape, count in left if count > less_of.get(shape, 0)]
    return None


def _content(draft: Draft, run: NodeRun, wanted: Wanted) -> Wanted:
    room, content = run.room, Wanted()
    for shape, count in wanted:
        taken = min(count, times(room, shape.needs))
        if taken and draft.rank(shape, run.labels) is not None:
            room = less(room, shape.needs, taken)
            content.append((shape, taken))
    return content


def _first_fit(draft: Draft, gang: Gang, wanted: Wanted) -> Iterator[tuple[Shape, int]]:
    """Put each where there is room first, and yield what is left of it."""
    for shape, count in wanted:
        left = place(draft, draft.runs, shape, count, gang_id=gang.gang_id, mark=gang.label)
        if left:
            yield shape, left


def _existing(draft: Draft, gang: Gang, wanted: Wanted) -> refuse.Verdict | None:
    return apart.FULL if next(_first_fit(draft, gang, wanted), None) else None


def _close_launches(draft: Draft, gang: Gang, wanted: Wanted) -> refuse.Verdict | None:
    """Put on existing nodes what they hold and launch for the rest, on as few nodes as will do."""
    left = list(_first_fit(draft, gang, wanted))
    refused = launch_for(draft, left, Reason.GANG, layer=draft.runs, gang=gang)
    return apart.refusal(draft, refused[0][0]) if refused else None


ATTEMPTS: dict[Strategy, tuple[Attempt, ...]] = {
    Strategy.STRICT_PACK: (_strict_pack,),
    Strategy.STRICT_SPREAD: (apart.existing, apart.matched, apart.launched),
    Strategy.PACK: (_few_joined, _existing, _new_node, _close_launches),
    Strategy.SPREAD: (apart.existing, _shared, _spread_launches, _close_launches),
}
"""What is tried for each strategy, in order; each starts from the same draft."""

BESIDE: dict[Strategy, tuple[Attempt, ...]] = {Strategy.PACK: (_existing, _few_joined, _new_node, _close_launches)}
"""The same for what promises have left: where some of a gang was launched for, the rest was put on nodes first fit, and goes there again."""
