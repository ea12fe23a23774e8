"""What `plan()` says: launches, drains, terminations, and what stays pending and why."""

from dataclasses import dataclass, field

from rayscaler.model.demand import Bundle, Gang, Reserve
from rayscaler.model.instance import NEVER, Reason


@dataclass(frozen=True)
class Launch:
    """Launch one instance of a node type; `reserves` is what it is launched for, so that the next plan puts it there again."""

    node_type: str
    reason: Reason
    detail: str
    reserves: tuple[Reserve, ...] = ()
    gangs: tuple[str, ...] = ()


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


@dataclass(frozen=True)
class Mix:
    """How good the launches on demand are: `cost` is theirs in the definition's unit, `bound` what no mix can be cheaper than, None: not reckoned.

    `steps` is how much work went into making it cheaper (0: the first answer), `binds` what keeps it from being cheaper, in words.
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
    drains: tuple[Drain, ...] = ()
    terminations: tuple[Termination, ...] = ()
    infeasible: tuple[Infeasible, ...] = ()
    placements: tuple[Placement, ...] = field(default=(), repr=False)
    unneeded: tuple[str, ...] = ()
    mix: Mix | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be done."""
        return not (self.launches or self.drains or self.terminations)
