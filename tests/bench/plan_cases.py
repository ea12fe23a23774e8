"""The cases of `make bench-plan`: what is asked of the planner, and what its plans have to be.

The openb trace comes twice: with GPUs as a pool, as every other planner sees them (here a resource that is no device), and as the devices
that they are. All made-up demand is seeded.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from rayscaler.config import demandfile, native
from rayscaler.model.demand import Bundle, Demand, Gang, Strategy
from rayscaler.model.instance import Instance, InstanceStatus
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import UNIT, Resources
from rayscaler.model.state import ClusterState
from tests.bench import openb
from tests.bench.workload import GIB, NODE_TYPES, make

NOW = 1_000_000.0
POOL = "gpu_pool"
"""The GPUs of the trace under a name that is no device's."""
PRICE = {"CPU": 0.04, "memory": 0.005, "GPU": 0.6}
"""Made up: per CPU, GiB and GPU, in one hour."""
MANY = 1_000_000
"""Said, since a definition without a limit gets one."""


@dataclass(frozen=True)
class Goal:
    """A plan's targets: seconds it may take, and its cost beside the bound; None: told, with no target."""

    within_s: float | None = None
    ratio: float | None = None


@dataclass(frozen=True)
class Case:
    """What is planned for, by seed and size, and the goals: of the first plan, and of plans by the budget in seconds that they are given.

    `factor` is what a doubling of the size may multiply the time by, `rate` how many demands in a second the first plan has to do.
    `anchor_s` is how long Ray's planner is waited for, None: it is not asked; `anchor_size` what it is asked for where it would not come to an end
    with the largest size in that time.
    """

    state: Callable[[int, int], ClusterState]
    sizes: tuple[int, ...]
    first: Goal = field(default_factory=Goal)
    finals: Mapping[float, Goal] = field(default_factory=dict)
    factor: float | None = None
    rate: float | None = None
    anchor_s: float | None = None
    anchor_size: int | None = None


def renamed(state: ClusterState, old: str, new: str) -> ClusterState:
    """Return the same with a resource of types and demands under another name."""

    def other(resources: Resources) -> Resources:
        return Resources({new if name == old else name: amount for name, amount in resources.items_sorted})

    types = tuple(replace(each, resources=other(each.resources)) for each in state.config.node_types)
    demands = tuple(replace(each, bundle=replace(each.bundle, resources=other(each.bundle.resources))) for each in state.demands)
    return replace(state, config=replace(state.config, node_types=types), demands=demands)


def trace(_: int, pods: int) -> ClusterState:
    """The first pods of the openb trace by the time they came, on as many nodes of each kind as it has."""
    rows = sorted(openb.rows(openb.PODS), key=lambda row: int(row["creation_time"]))
    config = native.cluster(openb.cluster(openb.rows(openb.NODES)))
    return ClusterState(NOW, config, demands=demandfile.wanted(openb.demand(rows[:pods]), config).demands)


def pooled_trace(seed: int, pods: int) -> ClusterState:
    """The same with its GPUs as a pool."""
    return renamed(trace(seed, pods), "GPU", POOL)


def repeated(seed: int, demands: int) -> ClusterState:
    """A hundred shapes over three kinds of node."""
    made = make(seed, nodes=0, shapes=100, demands=demands)
    return ClusterState(NOW, _config(made.node_types), demands=made.demands)


def distinct(seed: int, demands: int) -> ClusterState:
    """As many shapes as demands, over three kinds of node."""
    rng = random.Random(seed)
    bundles: dict[Bundle, None] = {}
    while len(bundles) < demands:
        bundles[_odd(rng)] = None
    return ClusterState(NOW, _config(NODE_TYPES), demands=tuple(Demand(each, 1) for each in bundles))


def _odd(rng: random.Random) -> Bundle:
    gpu = {"GPU": rng.choice((0.25, 0.5, 1, 2))} if rng.random() < 0.2 else {}
    return Bundle(Resources.of(CPU=rng.randrange(25, 800) / 100, memory=rng.randrange(256, 16 << 10) << 20, **gpu))


def partly_used(seed: int, demands: int) -> ClusterState:
    """As many nodes as demands, of which most have room left for one or two."""
    made = make(seed, nodes=demands, shapes=100, demands=demands)
    instances = tuple(
        Instance(each.instance_id, each.node_type, InstanceStatus.RUNNING, NOW - 100, ray_node_id=each.ray_node_id) for each in made.nodes
    )
    return ClusterState(NOW, _config(made.node_types), instances, made.nodes, made.demands)


def groups(_: int, bundles: int) -> ClusterState:
    """So many groups of one bundle each, every one a node of its own."""
    wanted = Demand(Bundle(Resources.of(CPU=15)), 1)
    return _gangs(Gang(f"{index:036x}", Strategy.PACK, (wanted,)) for index in range(bundles))


def jobs(_: int, groups: int) -> ClusterState:
    """So many groups as jobs have them, of unlike bundles, by all strategies: each leaves something free on nodes that others might take."""
    driver, trainer, share = (Bundle(Resources.of(**each)) for each in ({"CPU": 1}, {"CPU": 4, "GPU": 1}, {"CPU": 1, "GPU": 0.3}))
    kinds = [(Demand(driver, 1), Demand(trainer, 3)), (Demand(trainer, 1), Demand(share, 2)), (Demand(driver, 5), Demand(share, 1))]
    wanted = [(strategy, bundles) for bundles in kinds for strategy in Strategy]
    types = [NodeType(f"g{gpus}", Resources.of(CPU=9 * gpus, memory=32 * gpus * GIB, GPU=gpus)) for gpus in (1, 4, 8)]
    gangs = tuple(Gang(f"{index:036x}", *wanted[index % len(wanted)]) for index in range(groups))
    return ClusterState(NOW, _config((NodeType("plain", Resources.of(CPU=16, memory=64 * GIB)), *types)), gangs=gangs)


def spread(_: int, bundles: int) -> ClusterState:
    """One group of so many bundles, all apart."""
    return _gangs([Gang("0" * 36, Strategy.STRICT_SPREAD, (Demand(Bundle(Resources.of(CPU=15)), bundles),))])


def _gangs(gangs) -> ClusterState:
    config = _config((NodeType("worker", Resources.of(CPU=16, memory=64 * GIB)),))
    return ClusterState(NOW, config, gangs=tuple(gangs))


def many(seed: int, demands: int) -> ClusterState:
    """Two hundred shapes over fifty kinds of node."""
    made = make(seed, nodes=0, shapes=200, demands=demands)
    return ClusterState(NOW, _config(_kinds()), demands=made.demands)


def _kinds() -> tuple[NodeType, ...]:
    """Return fifty kinds: five sizes at three ratios of memory, and seven sizes at five numbers of GPUs."""
    plain = [(cpus, cpus * ratio, 0) for cpus in (8, 16, 32, 64, 96) for ratio in (2, 4, 8)]
    accelerated = [(cpus, cpus * 4, gpus) for cpus in (8, 16, 24, 32, 48, 64, 96) for gpus in (1, 2, 4, 6, 8)]
    return tuple(
        NodeType(f"c{cpus}-m{gib}-g{gpus}", Resources.of(CPU=cpus, memory=gib * GIB, **({"GPU": gpus} if gpus else {})))
        for cpus, gib, gpus in (*plain, *accelerated)
    )


def _config(node_types: tuple[NodeType, ...]) -> ClusterConfig:
    return ClusterConfig("bench", tuple(replace(each, cost=_price(each)) for each in node_types), max_workers=MANY)


def _price(node_type: NodeType) -> float:
    per = {"CPU": UNIT, "memory": UNIT * GIB, "GPU": UNIT}
    return round(sum(PRICE[name] * amount / per[name] for name, amount in node_type.resources.items_sorted), 4)


CASES = {
    "openb-all": Case(pooled_trace, (8152,), Goal(0.030), {0.7: Goal(0.7, 1.015)}, anchor_s=180),
    "openb-2000": Case(pooled_trace, (2000,), Goal(), {0.1: Goal(None, 1.03), 0.4: Goal(0.4, 1.012)}, anchor_s=60),
    "openb-500": Case(pooled_trace, (500,), Goal(), {0.1: Goal(None, 1.03), 0.25: Goal(0.25, 1.012)}, anchor_s=60),
    "openb-all-devices": Case(trace, (8152,), Goal(), {0.7: Goal()}),
    "openb-2000-devices": Case(trace, (2000,), Goal(), {0.4: Goal()}),
    "openb-500-devices": Case(trace, (500,), Goal(), {0.25: Goal()}),
    "million": Case(repeated, (1_000_000,), Goal(0.050), {0.3: Goal(0.3, 1.05)}),
    "distinct": Case(distinct, (10_000,), Goal(1.0, 1.15), anchor_s=60, anchor_size=1000),
    "partly-used": Case(partly_used, (10_000,), Goal(0.100)),
    "gangs": Case(groups, tuple(1024 << step for step in range(5)), Goal(2.0), factor=2.3, anchor_s=60, anchor_size=256),
    "jobs": Case(jobs, tuple(625 << step for step in range(5)), Goal(2.0), factor=2.3),
    "gang": Case(spread, tuple(1024 << step for step in range(5)), Goal(2.0), factor=2.3, anchor_s=60, anchor_size=1024),
    "many": Case(many, (100_000,), Goal(), rate=100_000),
}
"""By name, as the table of targets has them."""
