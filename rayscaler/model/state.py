"""The whole input of `plan()`."""

from dataclasses import dataclass
from typing import NamedTuple

from rayscaler.model.demand import Constraint, Demand, Gang, Reserve
from rayscaler.model.instance import Instance, Reason
from rayscaler.model.node import RayNode
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.model.resources import Resources

MINUTE_S = 60.0
"""Over any so many seconds launches are counted, where the definition limits them (maxLaunchesPerMinute)."""


@dataclass(frozen=True)
class Expectation:
    """What an in-flight instance was launched for: counts as capacity until `until` (wall seconds)."""

    instance_id: str
    node_type: str
    until: float
    reserves: tuple[Reserve, ...] = ()
    gangs: tuple[str, ...] = ()


class Begun(NamedTuple):
    """So many launches of a node type that were begun at one moment (wall seconds), whatever has become of them."""

    at: float
    node_type: str
    launches: int


@dataclass(frozen=True)
class Backoff:
    """A node type that failed: no launch until `until`, then `probe` at a time until one succeeds."""

    node_type: str
    failures: int
    until: float
    detail: str
    probe: int = 1


class Misfit(NamedTuple):
    """A node that turned out not to have `amount` of a device resource, though the sum of what is free there is as much."""

    ray_node_id: str
    name: str
    amount: int


@dataclass(frozen=True)
class Hold:
    """What is kept after a head was lost: instances per node type, from `since` (wall seconds) for the type's idle timeout."""

    since: float
    targets: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class FloorOwners:
    """Who may want the floor: `jobs` are Ray's ids of the drivers that lived when it was first seen, None while that is not known.

    `unowned_s` is for how long nobody was seen who may want it, None while somebody lives; `is_over` is that this was too long.
    """

    jobs: frozenset[str] | None = None
    unowned_s: float | None = None
    is_over: bool = False


@dataclass(frozen=True)
class ClusterState:
    """Everything a plan depends on, `now` (wall seconds) included.

    `nodes` are the rows of the newest report (empty when there is none); their `available` is already free of double counting.
    `no_launch` and `no_end` say why nothing may be launched on demand, or drained and ended (design §2.7); None is clear sight.
    `begun` are the launches of the last minute, where the definition limits those.
    `held` is how many of a node type are kept as a minimum because a head was lost (design §2.8).
    `learned` is what a node of a type brings, where nodes of its make have joined with something else than the definition says.
    `unneeded_since` says since when an in-flight instance has not been needed; `is_landing` that work has just landed, so that some of
    the demand may be that work. `misfits` is what nodes turned out not to have, and `stayed` says of which packed gangs
    (by id) how often Ray did not make them though they had room on nodes that are there. `busiest` is the most that was in use on a node, by ray_node_id, where that was seen for its idle timeout at least since a consolidation.
    """

    now: float
    config: ClusterConfig
    instances: tuple[Instance, ...] = ()
    nodes: tuple[RayNode, ...] = ()
    demands: tuple[Demand, ...] = ()
    gangs: tuple[Gang, ...] = ()
    constraint: Constraint | None = None
    expectations: tuple[Expectation, ...] = ()
    backoffs: tuple[Backoff, ...] = ()
    begun: tuple[Begun, ...] = ()
    held: tuple[tuple[str, int], ...] = ()
    unneeded_since: tuple[tuple[str, float], ...] = ()
    misfits: tuple[Misfit, ...] = ()
    stayed: tuple[tuple[str, int], ...] = ()
    learned: tuple[tuple[str, Resources], ...] = ()
    busiest: tuple[tuple[str, Resources], ...] = ()
    is_landing: bool = False
    unneeded_grace_s: float = 10.0
    node_dead_grace_s: float = 5.0
    no_launch: Reason | None = None
    no_end: Reason | None = None
