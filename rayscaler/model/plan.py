"""What `plan()` says: launches, drains, terminations, and what stays pending and why."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import overload

from rayscaler.model.demand import Bundle, Gang, Reserve
from rayscaler.model.instance import NEVER, Reason
from rayscaler.model.resources import Resources


@dataclass(frozen=True)
class Launch:
    """Launch one instance of a node type; `reserves` is what it is launched for, so that the next plan puts it there again.

    It is in the order in which it was put there: that decides of which devices parts come. So the same bundle may come again later.
    """

    node_type: str
    reason: Reason
    detail: str
    reserves: tuple[Reserve, ...] = ()
    gangs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Growth:
    """Let a running instance grow in place, so that all it brings is `resources`.

    `reserves` is all that is to lie on it then, so that the next plan puts it there again: an Expectation of it, as for a launch.
    """

    instance_id: str
    ray_node_id: str
    resources: Resources
    detail: str
    reserves: tuple[Reserve, ...] = ()


@dataclass(frozen=True)
class Drain:
    """Ask Ray to stop using a node; idle drains are refused by Ray when work has come."""

    instance_id: str
    ray_node_id: str
    reason: Reason
    detail: str
    is_preemption: bool = False
    deadline_s: float | None = None


@dataclass(frozen=True)
class Termination:
    """End an instance."""

    instance_id: str
    reason: Reason
    detail: str


@dataclass(frozen=True)
class Infeasible:
    """Demand that no node holds and no launch will: `what` x `count`, why. `is_never` ones no definition of today can meet.

    `until` is the wall second at which it is tried again without anything's having to happen; None: not known.
    """

    what: Bundle | Gang
    count: int
    reason: Reason
    detail: str
    is_constraint: bool = False
    until: float | None = None

    @property
    def is_never(self) -> bool:
        """Whether only a changed definition helps."""
        return self.reason in NEVER


@dataclass(frozen=True, slots=True)
class Placement:
    """`count` of `bundle` (of gang `gang_id`, or "") put on `node`.

    `node` is an instance id, "head:<ray node id>", "ray:<ray node id>" (not ours) or "new:<index of launch>".
    """

    bundle: Bundle
    count: int
    node: str
    gang_id: str = ""
    is_constraint: bool = False


@dataclass(frozen=True, slots=True)
class Placed:
    """A Placement on each of `nodes`: their names, or the indices of the plan's launches."""

    bundle: Bundle
    count: int
    nodes: tuple[str, ...] | range
    gang_id: str = ""
    is_constraint: bool = False

    @property
    def names(self) -> Sequence[str]:
        """Names of the nodes as a Placement has them."""
        return [f"new:{index}" for index in self.nodes] if isinstance(self.nodes, range) else self.nodes


class Placements(Sequence[Placement]):
    """Where everything lies: kept by `runs` of equal nodes, told node by node when somebody asks, for a plan can be of 100,000 nodes."""

    def __init__(self, runs: tuple[Placed, ...] = ()) -> None:
        self.runs = runs

    @cached_property
    def _each(self) -> tuple[Placement, ...]:
        return tuple(Placement(run.bundle, run.count, name, run.gang_id, run.is_constraint) for run in self.runs for name in run.names)

    def __len__(self) -> int:
        return sum(len(run.nodes) for run in self.runs)

    def __iter__(self) -> Iterator[Placement]:
        return iter(self._each)

    @overload
    def __getitem__(self, index: int) -> Placement: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Placement]: ...
    def __getitem__(self, index: int | slice) -> Placement | Sequence[Placement]:
        return self._each[index]

    def __eq__(self, other: object) -> bool:
        return self._each == (other._each if isinstance(other, Placements) else other)

    def __hash__(self) -> int:
        return hash(self._each)


NOWHERE = Placements()
"""Nothing is placed."""


@dataclass(frozen=True)
class Mix:
    """How good the launches on demand are: `cost` is theirs in the definition's unit, times each type's costFactor, `bound` what no mix can be cheaper than, None: not reckoned.

    `steps` is how much work went into making it cheaper (0: the first answer), `binds` what keeps it from being cheaper, in words. Launches that are held back are among them.
    """

    cost: float
    bound: float | None = None
    steps: int = 0
    binds: tuple[str, ...] = ()

    @property
    def gap(self) -> float | None:
        """The share by which the cost is above the bound, 0.03 for 3 %; None where no bound is known."""
        return None if not self.bound else self.cost / self.bound - 1


@dataclass(frozen=True)
class Plan:
    """The output of the planner. `unneeded` names in-flight instances that nothing needs now, `mix` is None where no type launched on demand has a cost."""

    launches: tuple[Launch, ...] = ()
    growths: tuple[Growth, ...] = ()
    drains: tuple[Drain, ...] = ()
    terminations: tuple[Termination, ...] = ()
    infeasible: tuple[Infeasible, ...] = ()
    placements: Placements = field(default=NOWHERE, repr=False)
    unneeded: tuple[str, ...] = ()
    mix: Mix | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done."""
        return not (self.launches or self.growths or self.drains or self.terminations)
