"""Launches of the last minute, whatever has become of them: what the definition may limit (maxLaunchesPerMinute). Pure.

They are in the record before they are sent, so that a restart of the service begins no second burst. Where nothing is limited nothing is kept.
"""

from collections import Counter
from collections.abc import Iterable

from rayscaler.model.nodetype import UNLIMITED, ClusterConfig
from rayscaler.model.state import MINUTE_S, Begun

Known = tuple[Begun, ...]

STEP_S = 1.0
"""Launches of one type within so long are one entry, of the time of the last one: the record stays small, and no minute is cut short."""


def current(known: Known, now: float) -> Known:
    """Return those that count now."""
    return tuple(each for each in known if each.at + MINUTE_S > now)


def after(known: Known, config: ClusterConfig, node_types: Iterable[str], now: float) -> Known:
    """Return what is known once a launch of each of these types is begun; old ones are forgotten when others come.

    What seems to come later than now was begun before the clock was set back: its minute begins anew, and is no longer than that.
    """
    known = tuple(each if each.at <= now else each._replace(at=now) for each in known)
    counts = Counter(name for name in node_types if _is_limited(config, name))
    if not counts:
        return known
    found = {(each.at // STEP_S, each.node_type): each for each in sorted(current(known, now))}
    for name, count in counts.items():
        before = found.get((now // STEP_S, name))
        found[now // STEP_S, name] = Begun(now, name, count + (before.launches if before else 0))
    return tuple(sorted(found.values()))


def sent_late(known: Known, config: ClusterConfig, node_type: str, requested_at: float, now: float) -> Known:
    """Return what is known once a launch is sent that had to wait for its turn: its minute begins when the executor is asked."""
    if not _is_limited(config, node_type):
        return known
    counted = next((each for each in known if (each.at // STEP_S, each.node_type) == (requested_at // STEP_S, node_type)), None)
    if counted is not None:
        others = [each for each in known if each is not counted]
        known = (*others, *([counted._replace(launches=counted.launches - 1)] if counted.launches > 1 else []))
    return after(known, config, [node_type], now)


def _is_limited(config: ClusterConfig, name: str) -> bool:
    found = config.node_type(name)
    return config.max_launches_per_minute != UNLIMITED or (found is not None and found.max_launches_per_minute != UNLIMITED)
