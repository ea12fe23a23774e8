"""The kinds of node a definition offers, and the definition as a whole. Validated in `config`, trusted here."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property

from rayscaler.model.resources import DEVICES, Resources
from rayscaler.model.scheduling import GangScheduling

UNLIMITED = -1
"""A maximum that is not set."""
NEVER = float("inf")
"""An idle timeout that never comes."""
IDLE_TIMEOUT_S = 300.0
"""Where the definition says nothing."""
RESIZE_TIMEOUT_S = 60.0
"""Likewise: a machine that has room gives it to a worker that grows within seconds."""
FLOOR_AFTER_DRIVER_S = 30.0
"""Likewise: so long a floor outlives the drivers that may have asked for it, which gives one that is started again time to ask."""


GROWS = ("CPU", "memory")
"""Resources of a running node that may become more."""


class UpdatePolicy(StrEnum):
    """What becomes of a type's instances that were launched with another make than it has now; new ones always have the new one."""

    ON_DELETE = "OnDelete"
    """They stay until they end for another reason."""
    ROLLING = "Rolling"
    """They go as they fall idle, of what is to stay one at a time."""
    RECREATE = "Recreate"
    """They are all drained at once; each ends with its work."""


@dataclass(frozen=True)
class Resize:
    """How far a running worker may grow in place: to `resources` at most, of which only CPU and memory differ from the type's own.

    One that has not grown after `timeout_s` is let be as it was.
    """

    resources: Resources
    timeout_s: float = RESIZE_TIMEOUT_S


@dataclass(frozen=True)
class NodeType:
    """A kind of node: what it brings, how many there may be. `idle_timeout_s` None means the cluster's, NEVER none at all.

    `cost_factor` is what its cost is multiplied by where types are compared. `headroom` is how many are kept ready beside those that something is put on. `hosts_per_replica` nodes come and go together; whatever counts of the type counts nodes. `resize` None means that its workers keep their size. `template` is a pod template as JSON text, "" where there is none: or what a plugin takes it for; where no pods are made it means nothing else.
    """

    name: str
    resources: Resources
    labels: tuple[tuple[str, str], ...] = ()
    min_workers: int = 0
    max_workers: int = UNLIMITED
    cost: float | None = None
    cost_factor: float = 1.0
    priority: int = 0
    headroom: int = 0
    hosts_per_replica: int = 1
    max_concurrent_launches: int = UNLIMITED
    max_launches_per_minute: int = UNLIMITED
    is_spot: bool = False
    idle_timeout_s: float | None = None
    env: tuple[tuple[str, str], ...] = ()
    start_params: tuple[tuple[str, str], ...] = ()
    update_policy: UpdatePolicy = UpdatePolicy.ROLLING
    template: str = ""
    resize: Resize | None = None

    @property
    def weighed_cost(self) -> float | None:
        """What it is compared by with other types; what is spent is its cost."""
        return None if self.cost is None else self.cost * self.cost_factor

    def is_made_like(self, other: "NodeType") -> bool:
        """Whether a worker launched as one could as well have been launched as the other; limits, prices, timeouts and policies are no part of it."""
        return self is other or self._make() == other._make()

    def _make(self) -> tuple[object, ...]:
        dicts = (dict(self.labels), dict(self.env), dict(self.start_params))
        return (self.name, self.resources, *dicts, self.is_spot, self.template, self.hosts_per_replica)

    def node_labels(self) -> dict[str, str]:
        """Return the labels its nodes will carry: the definition's and those that Ray derives from our environment."""
        market = {"ray.io/market-type": "spot"} if self.is_spot else {}
        return {"ray.io/node-group": self.name, **market, **dict(self.labels)}


@dataclass(frozen=True)
class Head:
    """The user's head; not planned, but its room counts."""

    resources: Resources = field(default_factory=Resources)
    start_params: tuple[tuple[str, str], ...] = ()
    env: tuple[tuple[str, str], ...] = ()
    template: str = ""


@dataclass(frozen=True)
class ClusterConfig:
    """One cluster's definition. `upscaling_speed` and `spend_limit` (per hour, in the unit of costs) None are unlimited, `floor_after_driver_s` NEVER keeps floors until they are taken back.

    `devices` are resources that Ray hands out one by one here, beside those that it always does.
    `consolidation` lets idle nodes go before their timeout where others could have done their work too.
    `max_concurrent_launches` and `max_launches_per_minute` are of all types together; a type may have its own beside them.
    `gang_scheduling` None leaves the scheduling of pods to whom their templates say.
    `executor` is the name of one that is built in, a plugin's address, or `exec` for a plugin that is started by its `command`.
    """

    name: str
    node_types: tuple[NodeType, ...]
    max_workers: int = UNLIMITED
    upscaling_speed: float | None = None
    spend_limit: float | None = None
    max_concurrent_launches: int = UNLIMITED
    max_launches_per_minute: int = UNLIMITED
    idle_timeout_s: float = IDLE_TIMEOUT_S
    floor_after_driver_s: float = FLOOR_AFTER_DRIVER_S
    consolidation: bool = False
    devices: tuple[str, ...] = ()
    executor: str = "local"
    command: tuple[str, ...] = ()
    head: Head = field(default_factory=Head)
    gang_scheduling: GangScheduling | None = None

    def node_type(self, name: str) -> NodeType | None:
        """Return the node type of that name, or None if the definition has none (any more)."""
        return self._of_name.get(name)

    @cached_property
    def device_names(self) -> frozenset[str]:
        """All resources that Ray hands out one by one."""
        return DEVICES.union(self.devices)

    @cached_property
    def is_paced(self) -> bool:
        """Whether anything limits how many launches are on their way, or begun in a minute."""
        limits = [(self.max_concurrent_launches, self.max_launches_per_minute)]
        limits += [(each.max_concurrent_launches, each.max_launches_per_minute) for each in self.node_types]
        return any(limit != UNLIMITED for each in limits for limit in each)

    def unpaced(self) -> "ClusterConfig":
        """Return the definition without limits of launches."""
        types = tuple(replace(each, max_concurrent_launches=UNLIMITED, max_launches_per_minute=UNLIMITED) for each in self.node_types)
        return replace(self, node_types=types, max_concurrent_launches=UNLIMITED, max_launches_per_minute=UNLIMITED)

    @cached_property
    def _of_name(self) -> dict[str, NodeType]:
        return {each.name: each for each in reversed(self.node_types)}

    def is_outdated(self, made_as: NodeType | None) -> bool:
        """Whether the definition now makes another worker of that type; one of unknown make, or of a type that is gone, is not outdated."""
        found = None if made_as is None else self.node_type(made_as.name)
        return made_as is not None and found is not None and not made_as.is_made_like(found)

    def update_policy_of(self, node_type: str) -> UpdatePolicy:
        """Return what becomes of a type's outdated instances; of a type that is gone, the usual."""
        found = self.node_type(node_type)
        return UpdatePolicy.ROLLING if found is None else found.update_policy

    def idle_timeout_of(self, node_type: str) -> float:
        """Return seconds of idleness after which a node of that type may end."""
        found = self.node_type(node_type)
        return self.idle_timeout_s if found is None or found.idle_timeout_s is None else found.idle_timeout_s

    def hold_of(self, node_type: str) -> float:
        """Return seconds for which workers of that type are held after their head was lost: the idle timeout, the usual one where it is NEVER."""
        return _finite(self.idle_timeout_of(node_type))

    @property
    def floor_hold_s(self) -> float:
        """Seconds for which a constraint outlives the cluster it was asked in."""
        return _finite(self.idle_timeout_s)


def _finite(timeout_s: float) -> float:
    return IDLE_TIMEOUT_S if timeout_s == NEVER else timeout_s
