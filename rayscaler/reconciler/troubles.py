"""Which node types are in trouble, and what is to be told outward of it, once per change. Pure, but for what it keeps.

What stands is in the record before it is told, and what was told soon after: another life of the service goes on from there. Where nobody is
to be told, nothing is kept.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from rayscaler.lifecycle import backoff
from rayscaler.model.instance import Instance, Reason
from rayscaler.model.state import Backoff
from rayscaler.model.trouble import Announcement, NodeTypeTrouble, TroubleState

LONGEST = 300
"""Characters of a detail: the record has it too."""
OVER = "nothing: its launches get through again, or none is wanted any more"


@dataclass
class Troubles:
    """What one cluster's task knows of it. `failures` counts launches by node type and cause; `untold` says what could not be told, "" if all could."""

    is_told: bool = False
    failures: Counter[tuple[str, str]] = field(default_factory=Counter)
    standing: dict[str, NodeTypeTrouble] = field(default_factory=dict)
    untold: str = ""
    _news: list[Instance] = field(default_factory=list)

    @property
    def kept(self) -> tuple[NodeTypeTrouble, ...]:
        """What the record is to have."""
        return tuple(self.standing[name] for name in sorted(self.standing))

    def take(self, kept: Iterable[NodeTypeTrouble]) -> None:
        """Go on from what an earlier life has left."""
        self.standing = {each.node_type: each for each in kept} if self.is_told else {}

    def count(self, instance: Instance) -> None:
        """Count a launch that has failed, or does not get on."""
        self.failures[instance.node_type, backoff.cause(instance)] += 1
        # One that did not get on, and is now given up for it, was counted and told with its cause.
        if self.is_told and not (instance.stuck_since is not None and instance.reason is Reason.OVERDUE):
            self._news.append(instance)

    def follow(
        self, backoffs: Mapping[str, Backoff], live: Collection[Instance], launches: Iterable[str], now: float, *, over_s: float
    ) -> None:
        """Take what has happened since the last cycle; `launches` are the node types that are about to be launched.

        A trouble lasts while a launch does not get on, and else as long as the type pauses, and is tried after that. It is over when a launch has got
        through, and also once `over_s` after the pause none is on its way, as nothing wants one any more.
        """
        news, self._news = self._news, []
        for each in news:
            self.standing[each.node_type] = _worse(self.standing.get(each.node_type), each, now)
        coming = {*launches, *(each.node_type for each in live if each.is_launching)}
        stuck = {each.node_type for each in live if each.is_launching and each.stuck_since is not None}
        for name, trouble in self.standing.items():
            known = backoffs.get(name)
            lasts = name in stuck or (known is not None and (name in coming or now < known.until + over_s))
            if not lasts and trouble.ended_at is None:
                self.standing[name] = replace(trouble, ended_at=now)

    def due(self, cluster: str, written: Iterable[NodeTypeTrouble], backoffs: Mapping[str, Backoff], now: float) -> Iterator[Announcement]:
        """Yield what is to be told: of what is written, so that another life tells it as the same."""
        for kept in written:
            trouble = self.standing.get(kept.node_type)
            if trouble is None or not trouble.is_same(kept):
                continue
            state, known = trouble.due, backoffs.get(kept.node_type)
            if state is TroubleState.ENDED:
                yield Announcement(cluster, state, trouble, OVER)
            elif state is not None:
                again = OVER if known is None else backoff.again(known, now)
                yield Announcement(cluster, state, trouble, again, None if known is None else known.until)

    def ends(self, cluster: str, now: float) -> Iterator[Announcement]:
        """Yield the end of all that stands, for the cluster is no more; that it began may be on its way outward."""
        for each in self.kept:
            yield Announcement(cluster, TroubleState.ENDED, replace(each, ended_at=each.ended_at or now), OVER)

    def take_told(self, announced: Announcement, untold: str, now: float) -> None:
        """Take that something was told, or, where `untold` says why not, that it never will be."""
        self.untold = untold
        trouble = self.standing.get(announced.trouble.node_type)
        if trouble is None or trouble.since != announced.trouble.since:
            return
        if announced.state is not TroubleState.ENDED:
            self.standing[trouble.node_type] = replace(trouble, told=announced.trouble.cause)
        elif trouble.ended_at is not None:
            del self.standing[trouble.node_type]
        else:  # it has come back meanwhile, which is another one to whoever was told of its end
            self.standing[trouble.node_type] = replace(trouble, since=now, told="", changes=0)


def _worse(known: NodeTypeTrouble | None, failed: Instance, now: float) -> NodeTypeTrouble:
    """Return a trouble after another launch that failed or does not get on."""
    cause, detail = backoff.cause(failed), failed.detail[:LONGEST]
    if known is None:
        return NodeTypeTrouble(failed.node_type, cause, now, detail, launches=1)
    changes = known.changes + (cause != known.cause)
    return replace(known, cause=cause, detail=detail, launches=known.launches + 1, changes=changes, ended_at=None)
