"""How many nodes of a type may be launched now, and what is in the way; and the minimums.

Owns minimums, maxima, back-offs, the upscaling speed, the spend limit, and how many launches may be on their way or begun in a minute.
Knows nothing of demand.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rayscaler.model.instance import Reason
from rayscaler.model.nodetype import UNLIMITED, ClusterConfig, NodeType
from rayscaler.model.resources import MANY
from rayscaler.model.state import MINUTE_S
from rayscaler.model.words import counted
from rayscaler.planner import replicas
from rayscaler.planner.sim import Draft, TypeView

SPEED_FLOOR = 5
"""Launches of a type that may always be on their way, whatever the speed (Ray's UPSCALING_INITIAL_NUM_NODES)."""


MILLION = 1_000_000
"""Costs are compared as integers in millionths."""

_RATES = frozenset({Reason.MAX_LAUNCHES_PER_MINUTE, Reason.MAX_LAUNCHES_PER_MINUTE_OF_TYPE})
"""Limits that time alone lifts."""

SHARED = frozenset({Reason.MAX_WORKERS, Reason.SPEND_LIMIT})
"""Of what all types have a share: of the cluster's maximum, and of its spend limit."""

CEILING = 10_000
"""Workers of a cluster whose definition sets no maxWorkers: a report of absurd counts must not launch without end (SE-9)."""


def minimums(draft: Draft) -> None:
    """Launch what each type lacks of its minimum, or of what is held for it. A minimum needs no report; a hold is for the head that reports."""
    if draft.state.no_launch not in (None, Reason.NO_REPORT):
        return
    for view in draft.views:
        for least, reason in ((view.node_type.min_workers, Reason.MIN_WORKERS), (draft.least[view.name], Reason.HELD)):
            if reason is Reason.HELD and draft.state.no_launch is not None:
                continue
            count = min(least - draft.staying[view.name], room_of(draft, view))
            if count > 0:
                draft.prepared.append(draft.launch(view, count, reason, draft.prepared))


class Shared(NamedTuple):
    """What is left now of what all types share: nodes, and money per hour in millionths, None: any."""

    nodes: int
    money: int | None


def shared(draft: Draft) -> Shared:
    """Return what is left of what all types share; the next launch changes it."""
    limit = draft.state.config.spend_limit
    money = None if limit is None else max(0, round(limit * MILLION) - _spent(draft))
    return Shared(max(0, _left(_most(draft.state.config), draft.live.total())), money)


def room(draft: Draft, view: TypeView, left: Shared | None = None) -> int:
    """Return how many nodes of the type may be launched now on demand, the upscaling speed apart; `left` spares to add it up for each type."""
    return 0 if draft.state.no_launch is not None else room_of(draft, view, left)


def speed_room(draft: Draft, view: TypeView) -> int:
    """Return how many more of the type may be launched: max(5, speed x standing of it) on their way, with at least one standing (SP-1)."""
    speed = draft.state.config.upscaling_speed
    if speed is None:
        return MANY
    most = max(SPEED_FLOOR, int(speed * max(draft.standing[view.name], 1)))
    return replicas.begun(view.node_type, max(0, most - draft.launches[view.name]))


def room_of(draft: Draft, view: TypeView, left: Shared | None = None) -> int:
    """Return how many nodes of the type may be launched now for anything, the upscaling speed apart."""
    if view.name in draft.deceiving:
        return 0
    left = left or shared(draft)
    most = min(_left(view.node_type.max_workers, draft.live[view.name]), left.nodes, _affordable(draft, view, left.money))
    return max(0, min(replicas.whole(view.node_type, most), replicas.begun(view.node_type, _probes(draft, view))))


def _most(config: ClusterConfig) -> int:
    return CEILING if config.max_workers == UNLIMITED else config.max_workers


def _left(maximum: int, count: int) -> int:
    return MANY if maximum == UNLIMITED else maximum - count


def _probes(draft: Draft, view: TypeView) -> int:
    """Return how many tries are free: a type that failed waits, then is tried by a few at a time until one joins.

    What a gang lacks is one try, however many nodes that is: fewer would be no use to it.
    """
    backoff = draft.backoffs.get(view.name)
    if backoff is None:
        return MANY
    if backoff.until > draft.state.now:
        return 0
    left = backoff.probe - (draft.launches if draft.tried is None else draft.tried)[view.name]
    return left if draft.tried is None or left <= 0 else MANY


def _affordable(draft: Draft, view: TypeView, left: int | None) -> int:
    """Return how many more are paid for by what is left to spend. Whatever exists is paid for until it is gone."""
    price = draft.prices[view.name]
    return MANY if left is None or not price else left // price


def _spent(draft: Draft) -> int:
    return sum(count * draft.prices.get(name, 0) for name, count in draft.live.items())


def is_free(draft: Draft, view: TypeView) -> bool:
    """Whether nothing of the type's own keeps it from being launched now."""
    return replicas.whole(view.node_type, _left(view.node_type.max_workers, draft.live[view.name])) > 0 and _probes(draft, view) > 0


def is_full(draft: Draft, view: TypeView) -> bool:
    """Whether what all types share, the cluster's maximum or its spend limit, keeps the type from being launched now."""
    return _shared_obstacle(draft, view) is not None


def next_try(draft: Draft, views: Iterable[TypeView]) -> float | None:
    """Return the wall second at which the pause of one of the types ends so that a try is free; None where tries are under way."""
    known = [(view, draft.backoffs[view.name]) for view in views if view.name in draft.backoffs]
    pauses = [each.until for view, each in known if each.until > draft.state.now and each.probe > draft.launches[view.name]]
    return min(pauses, default=None)


def obstacle(draft: Draft, view: TypeView, *, is_speed_bound: bool) -> tuple[Reason, str] | None:
    """Return what keeps the type from being launched now, in words with its numbers; None when nothing does."""
    if draft.state.no_launch is not None:
        return draft.state.no_launch, f"nothing is launched now ({draft.state.no_launch.value})"
    found = _obstacle_of_type(draft, view) or _shared_obstacle(draft, view)
    if found is not None:
        return found
    if _probes(draft, view) <= 0:
        return Reason.BACKED_OFF, _backoff_text(draft, view)
    if is_speed_bound and speed_room(draft, view) <= 0:
        speed = f"{draft.state.config.upscaling_speed:g}"
        return (
            Reason.UPSCALING_SPEED,
            f"{view.name} has {draft.launches[view.name]} launches on their way, as many as upscaling speed {speed} allows",
        )
    return None


def _obstacle_of_type(draft: Draft, view: TypeView) -> tuple[Reason, str] | None:
    """Return what of the type's own is in the way, back-offs and the speed apart."""
    if view.name in draft.deceiving:
        text = f"Ray packs by the sum of a node's devices, and would send a node of type {view.name} more parts of them than they hold, "
        return Reason.PACKED_BY_SUM, f"{text}and never make it; spread over nodes, or on nodes with one device, it can be had"
    live = draft.live[view.name]
    left = _left(view.node_type.max_workers, live)
    if replicas.whole(view.node_type, left) > 0:
        return None
    tail = replicas.of_replica(view.node_type) if left > 0 else ""
    return Reason.MAX_WORKERS_OF_TYPE, f"{view.name} has {live} of at most {counted(view.node_type.max_workers, 'worker')}{tail}"


def _shared_obstacle(draft: Draft, view: TypeView) -> tuple[Reason, str] | None:
    """Return what of that which all types share is used up."""
    config, live, left = draft.state.config, draft.live.total(), shared(draft)
    if replicas.whole(view.node_type, left.nodes) <= 0:
        tail = replicas.of_replica(view.node_type) if left.nodes > 0 else ""
        hint = "; set spec.maxWorkers to have more" if config.max_workers == UNLIMITED else ""
        return Reason.MAX_WORKERS, f"the cluster has {live} of at most {counted(_most(config), 'worker')}{tail}{hint}"
    if replicas.whole(view.node_type, _affordable(draft, view, left.money)) <= 0:
        spent, price = _spent(draft) / MILLION, draft.prices[view.name] / MILLION
        tail = replicas.of_replica(view.node_type)
        return (
            Reason.SPEND_LIMIT,
            f"the cluster costs {spent:g} of at most {config.spend_limit:g} per hour, and {view.name} costs {price:g}{tail}",
        )
    return None


class Paced(NamedTuple):
    """Limits of launches that are reached: the first one's reason, in words, and the wall second at which there is room again by itself.

    `until` is None where some must join first. `is_shared` is that all types wait, not only one.
    """

    reason: Reason
    text: str
    until: float | None
    is_shared: bool


class _Pace(NamedTuple):
    """One limit of launches, of a type's own or (`of` is "") of all together: how many there may be, and how many there are."""

    reason: Reason
    most: int
    there: int
    of: str = ""

    @property
    def left(self) -> int:
        return MANY if self.most == UNLIMITED else max(0, self.most - self.there)


def pace_room(draft: Draft, view: TypeView, begun: Counter[str]) -> int:
    """Return how many nodes of the type, in whole replicas, may be begun now beside those that are: `begun` are this plan's (D4)."""
    return replicas.whole(view.node_type, min((each.left for each in _paces(draft, view, begun)), default=MANY))


def paced(draft: Draft, view: TypeView, begun: Counter[str]) -> Paced | None:
    """Return which limits of launches keep one more replica of the type from being begun beside `begun`; None when none does."""
    hosts = view.node_type.hosts_per_replica
    found = [each for each in _paces(draft, view, begun) if each.left < hosts]
    if not found:
        return None
    untils = [_room_at(draft, each, begun, hosts) if each.reason in _RATES else None for each in found]
    known = [each for each in untils if each is not None]
    texts = [_pace_text(draft, each, until, view.node_type) for each, until in zip(found, untils, strict=True)]
    return Paced(found[0].reason, "; ".join(texts), max(known) if len(known) == len(found) else None, any(not each.of for each in found))


def _paces(draft: Draft, view: TypeView, begun: Counter[str]) -> Iterator[_Pace]:
    config, name, own = draft.state.config, view.name, view.node_type
    if not config.is_paced:
        return
    flying, rate = draft.flying, _rate(draft)
    yield _Pace(Reason.MAX_CONCURRENT_LAUNCHES, config.max_concurrent_launches, flying.total() + begun.total())
    yield _Pace(Reason.MAX_LAUNCHES_PER_MINUTE, config.max_launches_per_minute, rate.total() + begun.total())
    yield _Pace(Reason.MAX_CONCURRENT_LAUNCHES_OF_TYPE, own.max_concurrent_launches, flying[name] + begun[name], name)
    yield _Pace(Reason.MAX_LAUNCHES_PER_MINUTE_OF_TYPE, own.max_launches_per_minute, rate[name] + begun[name], name)


def _rate(draft: Draft) -> Counter[str]:
    counts = Counter[str]()
    for each in draft.state.begun:
        counts[each.node_type] += each.launches if each.at + MINUTE_S > draft.state.now else 0
    return counts


def _room_at(draft: Draft, pace: _Pace, begun: Counter[str], hosts: int) -> float:
    """Return the wall second at which so many of the launches that count now are a minute old that a replica may be begun."""
    now, lacking = draft.state.now, pace.there + hosts - pace.most
    own = begun[pace.of] if pace.of else begun.total()
    for each in sorted(draft.state.begun):
        if each.at + MINUTE_S > now and pace.of in ("", each.node_type):
            lacking -= each.launches
            if lacking <= 0:
                return each.at + MINUTE_S
    return now + MINUTE_S if own else now  # it is the first that is begun in this minute


def _pace_text(draft: Draft, pace: _Pace, until: float | None, node_type: NodeType) -> str:
    tail = replicas.of_replica(node_type) if pace.left else ""
    if until is None:
        whose = f"{pace.of} has {pace.there} of at most {counted(pace.most, 'launch', 'launches')}" if pace.of else ""
        whose = whose or f"{pace.there} of at most {counted(pace.most, 'launch is', 'launches are')}"
        return f"{whose} on {'its' if pace.most == 1 else 'their'} way{tail}"
    whose = f" of {pace.of}" if pace.of else ""
    begun = f"{pace.there} of at most {counted(pace.most, 'launch', 'launches')}{whose} in 60 s {'was' if pace.most == 1 else 'were'} begun"
    return f"{begun}{tail}; the next can be in {max(0.0, until - draft.state.now):.0f} s"


def _backoff_text(draft: Draft, view: TypeView) -> str:
    backoff = draft.backoffs[view.name]
    failed = f"{view.name} failed {counted(backoff.failures, 'time')} ({backoff.detail})"
    if backoff.until > draft.state.now:
        return f"{failed} and is tried again in {backoff.until - draft.state.now:.0f} s"
    return f"{failed} and is being tried with {draft.launches[view.name]} at a time"
