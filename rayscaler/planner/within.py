"""Gangs that lie within one value of a label, such as one zone or one slice (Ray's topology_strategy): which value it shall be.

Owns the choice of the value and what is said where none will do. Ray takes any value whose nodes have room, and never a node without the
label; so each value is tried with the nodes that are there and with launches of types that carry it, and the cheapest is taken.
"""

from collections.abc import Callable

from rayscaler.model.demand import Gang
from rayscaler.model.instance import NEVER, Reason
from rayscaler.planner.refuse import Verdict
from rayscaler.planner.sim import Draft, Labels

NAMED = 4
"""Values that are named with what is in their way; the rest is a number."""


def best(draft: Draft, gang: Gang, kept: set[str], placed: Callable[[str], Verdict | None]) -> Verdict | None:
    """Place a gang within the best value by `placed`, which begins anew each time; return None, or why it cannot be had within any.

    Best is what costs least to launch, then what launches least, then the first by name. Where nothing is to be launched no other is tried.
    """
    known, label = _values(draft, gang, kept), _label(gang)
    launched = len(draft.launching)
    found: list[tuple[int, int, str]] = []
    refused: dict[str, Verdict] = {}
    try:
        for value in known:
            draft.only = (label, value)
            verdict = placed(value)
            if verdict is not None:
                refused[value] = verdict
                continue
            launches = draft.launching[launched:]
            if not launches:
                return None
            found.append((sum(draft.price(each.node_type) for each in launches), len(launches), value))
        if found:
            value = min(found)[-1]
            draft.only = (label, value)
            return placed(value)
    finally:
        draft.only = None
    return _refusal(draft, gang, refused)


def values_of(draft: Draft, gang: Gang) -> set[str]:
    """Return within which values promises have put a gang; "" is without any."""
    label = _label(gang)
    return {dict(run.labels).get(label, "") for run in draft.runs if any(load.gang_id == gang.gang_id for load in run.load)}


def _label(gang: Gang) -> str:
    return gang.locality.label if gang.locality else ""


def _values(draft: Draft, gang: Gang, kept: set[str]) -> list[str]:
    """Return the values that nodes have, or types bring, where the gang may lie: first those where promises have put it, then with nodes there."""
    selector, label = gang.locality.selector if gang.locality else None, _label(gang)

    def values(those: set[Labels]) -> set[str]:
        known = [dict(labels) for labels in those]
        return {each[label] for each in known if each.get(label) and (selector is None or selector.holds(each))}

    there, brought = values({run.labels for run in draft.runs}), values({view.labels for view in draft.views})
    return sorted(there | brought, key=lambda value: (value not in kept, value not in there, value))


def _refusal(draft: Draft, gang: Gang, refused: dict[str, Verdict]) -> Verdict:
    label = _label(gang)
    where = f" where {gang.locality.selector}" if gang.locality and gang.locality.selector.conditions else ""
    if draft.state.no_launch is not None:
        return Verdict(draft.state.no_launch, f"waits: nothing is launched on demand now ({draft.state.no_launch.value})")
    if not refused:
        return Verdict(
            Reason.NO_TYPE_HAS_LABELS,
            f"cannot be launched: it shall lie within one {label}, and no node type's labels, and no node, have {label}{where}",
        )
    waiting = {value: each for value, each in refused.items() if each.reason not in NEVER}
    first = next(iter((waiting or refused).values()))
    texts = [f"within {label} {value} {each.text}" for value, each in (waiting or refused).items()]
    more = f"; and so in {len(texts) - NAMED} more" if len(texts) > NAMED else ""
    untils = [each.until for each in waiting.values() if each.until is not None]
    return Verdict(first.reason, "; ".join(texts[:NAMED]) + more, min(untils, default=None))
