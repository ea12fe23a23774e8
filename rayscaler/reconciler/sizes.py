"""How large instances are that may grow in place, as far as that is known, and what is under way about it. Values; reconciler/growing.py decides."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from rayscaler.model.command import ResizeCommand
from rayscaler.model.instance import Instance, InstanceObservation, Phase, Size
from rayscaler.model.nodetype import RESIZE_TIMEOUT_S, ClusterConfig, Resize
from rayscaler.model.resources import Resources


@dataclass
class Ask:
    """What the executor is to be asked for, again and again until its observations say so; `is_back` where a growth is taken back."""

    resources: Resources
    is_back: bool = False
    not_before: float = 0.0
    pause_s: float = 0.0


@dataclass
class Telling:
    """What a raylet is being told. Once it is answered it may be told again from `again_at` on, if Ray still shows something else."""

    instance_id: str
    command: ResizeCommand
    again_at: float | None = None
    is_refused: bool = False


@dataclass
class Sizes:
    """All by instance id: what the executor says, what it is to be asked for, whom it is being asked for now, and what raylets are told."""

    seen: dict[str, Size] = field(default_factory=dict)
    asks: dict[str, Ask] = field(default_factory=dict)
    calling: set[str] = field(default_factory=set)
    told: dict[str, Telling] = field(default_factory=dict)

    @property
    def commands(self) -> tuple[ResizeCommand, ...]:
        """What the head has still to do about it."""
        return tuple(each.command for each in self.told.values() if each.again_at is None)

    def take(self, seen: InstanceObservation) -> bool:
        """Take what an executor says, and return whether anything may be done about it."""
        before = self.seen.pop(seen.instance_id, None)
        if seen.phase is Phase.GONE or seen.size is None:
            return False
        self.seen[seen.instance_id] = seen.size
        return seen.size != before and (before is not None or seen.size.asked != seen.size.actual)

    def open_asks(self) -> Iterable[tuple[str, Ask]]:
        """Yield what the executor is to be asked for, as far as it does not say yet that it was, and is not being asked."""
        for instance_id, each in self.asks.items():
            seen = self.seen.get(instance_id)
            if instance_id not in self.calling and (seen is None or seen.asked != each.resources):
                yield instance_id, each

    def settle(self) -> None:
        """Drop what was taken back."""
        for instance_id in [key for key, each in self.asks.items() if each.is_back and key not in self.calling]:
            seen = self.seen.get(instance_id)
            if seen is not None and seen.asked == self.asks[instance_id].resources:
                del self.asks[instance_id]

    def moments(self, instances: Iterable[Instance], config: ClusterConfig) -> Iterable[float]:
        """Yield the wall seconds at which there may be more to do."""
        for each in instances:
            if each.growing is not None:
                yield each.growing.since + timeout_s(config, each.node_type)
            yield each.ungrown_until
        yield from (each.not_before for _, each in self.open_asks())
        yield from (each.again_at for each in self.told.values() if each.again_at is not None)

    def forget(self, instance_id: str) -> None:
        """Do no more about an instance that does not grow any more."""
        self.asks.pop(instance_id, None)
        self.told.pop(instance_id, None)

    def keep(self, instance_ids: Iterable[str]) -> None:
        """Forget all others."""
        for of_it in (self.seen, self.asks, self.told):
            for gone in of_it.keys() - instance_ids:
                of_it.pop(gone)


def resize_of(config: ClusterConfig, node_type: str) -> Resize | None:
    """Return how far workers of a type may grow, None for not at all."""
    found = config.node_type(node_type)
    return None if found is None else found.resize


def timeout_s(config: ClusterConfig, node_type: str) -> float:
    """Return for how long a worker of a type is waited for; of one that may not grow any more, the usual."""
    found = resize_of(config, node_type)
    return RESIZE_TIMEOUT_S if found is None else found.timeout_s
