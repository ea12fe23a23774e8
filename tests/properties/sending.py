"""What Ray makes of a packed gang, as the independent judge of plans sees it: its choice of nodes by sums, then the raylets' devices.

Written apart from the planner, node by node and bundle by bundle; where Ray likes nodes equally all are tried.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction

from rayscaler.model.demand import Bundle, Gang, Strategy
from tests.properties import devices
from tests.properties.giving import given_out

KINDS_LAST = ("object_store_memory", "memory", "CPU")


@dataclass(frozen=True)
class Node:
    """What is free on a node in sum, and of each of its devices."""

    free: dict[str, int]
    devices: dict[str, tuple[int, ...]]


def fates(gang: Gang, nodes: Sequence[Node]) -> Iterator[str]:
    """Yield what may become of a gang: "made", "taken back", or "waits" where Ray finds no room."""
    bundles = [each.bundle for each in gang.bundles for _ in range(each.count)]
    for chosen in _chosen(gang, bundles, nodes):
        if chosen is None:
            yield "waits"
        else:
            yield (
                "made"
                if all(_is_given(node, [bundles[i] for i in sorted(here)]) for node, here in zip(nodes, chosen, strict=True))
                else "taken back"
            )


def _chosen(gang: Gang, bundles: Sequence[Bundle], nodes: Sequence[Node]) -> Iterator[list[list[int]] | None]:
    """Yield which bundles go to each node, in each way."""
    others = sorted({name for each in bundles for name in each.resources} - {"GPU", *KINDS_LAST})
    queue = sorted(range(len(bundles)), key=lambda i: [-bundles[i].resources.get(name, 0) for name in ("GPU", *others, *KINDS_LAST)])
    if gang.strategy is Strategy.STRICT_PACK:
        whole: dict[str, int] = {}
        for each in bundles:
            for name, amount in each.resources.items():
                whole[name] = whole.get(name, 0) + amount
        best = _best(whole, [each.free for each in nodes], set(range(len(nodes))))
        yield from ([queue if at == one else [] for at in range(len(nodes))] for one in best)
        if not best:
            yield None
        return
    yield from _packed(bundles, queue, [dict(each.free) for each in nodes], set(range(len(nodes))), [[] for _ in nodes])


def _packed(bundles, queue, free, untouched, sent) -> Iterator[list[list[int]] | None]:
    if not queue:
        yield [list(each) for each in sent]
        return
    best = _best(bundles[queue[0]].resources, free, untouched)
    if not best:
        yield None
    for one in best:
        left, here, later = dict(free[one]), [], []
        for index in queue:
            amounts = bundles[index].resources
            if all(left.get(name, 0) >= amount for name, amount in amounts.items()):
                left |= {name: left[name] - amount for name, amount in amounts.items()}
                here.append(index)
            else:
                later.append(index)
        yield from _packed(bundles, later, [*free[:one], left, *free[one + 1 :]], untouched - {one}, [*sent[:one], here, *sent[one + 1 :]])


def _best(wanted, free, among) -> list[int]:
    scores = {
        at: sum(Fraction(free[at][name] - amount, free[at][name]) for name, amount in wanted.items() if amount)
        for at in sorted(among)
        if all(free[at].get(name, 0) >= amount for name, amount in wanted.items())
    }
    return [at for at, score in scores.items() if score == max(scores.values())]


def _is_given(node: Node, bundles: Sequence[Bundle]) -> bool:
    return all(
        given_out([each.resources.get(name, 0) for each in bundles], node.devices.get(name, ())) is not None for name in devices.DEVICES
    )
