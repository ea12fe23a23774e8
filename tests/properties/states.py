"""Random cluster states, small enough to be full of collisions."""

from dataclasses import replace

from hypothesis import strategies as st

from rayscaler.model.demand import Bundle, Constraint, Demand, Gang, LabelCondition, LabelSelector, Operator, Reserve, Strategy
from rayscaler.model.instance import Growing, Instance, InstanceStatus, Reason
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import GROWS, NEVER, UNLIMITED, ClusterConfig, NodeType, Resize, UpdatePolicy
from rayscaler.model.resources import UNIT, Resources
from rayscaler.model.state import Backoff, Begun, ClusterState, Expectation

NOW = 1000.0
IMPLICIT = "node:__internal_implicit_resource_app"
TYPE_NAMES = ("ant", "bee", "cow")

amounts = {
    "CPU": st.sampled_from([1, 2, 3, 4, 8]),
    "GPU": st.sampled_from([1, 2, 4]),
    "TPU": st.sampled_from([1, 4]),
    "memory": st.sampled_from([1, 3, 5, 8]),
    "blob": st.sampled_from([1, 2]),
}

DEVICES = ("GPU", "TPU")
FRACTIONS = st.sampled_from([6_000, 6_000, 5_000, 3_000, 2_500, 4_000, 15_000])
"""Of one device, and once more than one but not whole, which request_resources takes and Ray never gives."""
USED = st.sampled_from([0, 0, 2_500, 6_000, 10_000, 13_000, 15_000, 20_000])


def resources(*, names=tuple(amounts), scale=1, least=0, device=""):
    """Return amounts of up to three kinds, and of a device resource for sure where one is named."""

    def made(found: dict[str, int]) -> Resources:
        return Resources({name: amount * UNIT // scale for name, amount in found.items()})

    def drawn(chosen: list[str]):
        return st.fixed_dictionaries({name: amounts[name] for name in {**dict.fromkeys(chosen), **({device: None} if device else {})}})

    return st.lists(st.sampled_from(names), min_size=least, max_size=3, unique=True).flatmap(drawn).map(made)


conditions = st.builds(
    LabelCondition, st.sampled_from(["zone", "disk"]), st.sampled_from(Operator), st.sampled_from([("a",), ("b",), ("a", "b")])
)
selectors = st.lists(st.builds(LabelSelector, st.lists(conditions, max_size=2).map(tuple)), max_size=2).map(tuple)


@st.composite
def bundles(draw, device=""):
    """Return something to ask for; where a device resource is named mostly that, and little else, so that most nodes have it."""
    if device and draw(st.sampled_from([True, True, True, False])):
        wanted = {device: draw(st.one_of(amounts[device].map(lambda each: each * UNIT), FRACTIONS, FRACTIONS))}
        wanted |= draw(st.sampled_from([{}, {}, {"CPU": UNIT}, {"CPU": UNIT // 2}]))
        return Bundle(Resources(wanted), draw(st.one_of(*[st.just(())] * 4, selectors)))
    wanted = dict(draw(resources(scale=draw(st.sampled_from([1, 1, 2])))))
    special = draw(st.sampled_from(["", "", "", "", "", "", IMPLICIT, "node:10.0.0.1", "object_store_memory"]))
    if special:
        wanted[special] = UNIT // 2
    return Bundle(Resources(wanted), draw(st.one_of(st.just(()), st.just(()), selectors)))


labels = st.lists(st.sampled_from([("zone", "a"), ("zone", "b"), ("disk", "a")]), max_size=2, unique_by=lambda each: each[0]).map(
    lambda each: tuple(sorted(each))
)
maxima = st.sampled_from([UNLIMITED, UNLIMITED, 0, 1, 2, 3, 5])


@st.composite
def resizes(draw, brings: Resources):
    """How far a node of a type may grow, of half the types that may: nothing for the others."""
    kinds = [name for name in ("CPU", "memory") if name in brings]
    if not kinds or draw(st.booleans()):
        return None
    return Resize(Resources({**brings, **{name: brings[name] + draw(st.sampled_from([0, 1, 2, 6])) * UNIT for name in kinds}}))


@st.composite
def sizes(draw, known: NodeType | None, made: NodeType | None, total: Resources):
    """Return what a joined node has, which may be more than it was launched with, to what it is growing, and until when it is not asked to."""
    if known is None or known.resize is None or made is None or made.resources != known.resources:
        return total, None, 0.0
    kinds = [name for name in ("CPU", "memory") if known.resize.resources.get(name, 0) > total.get(name, 0)]
    now = {name: draw(st.integers(total[name], known.resize.resources[name]).map(lambda each: each // UNIT * UNIT)) for name in kinds}
    later = {name: draw(st.integers(now[name], known.resize.resources[name]).map(lambda each: each // UNIT * UNIT)) for name in kinds}
    has = Resources({**total, **now}) if draw(st.booleans()) else total
    growing = Growing(Resources({**has, **later}), NOW - 1) if draw(st.sampled_from([False, False, True])) else None
    return has, growing, draw(st.sampled_from([0.0, 0.0, 0.0, NOW - 1, NOW + 9]))


@st.composite
def paces(draw, hosts: int, *, is_paced: bool):
    """Return limits of launches, of the cluster or a type, that a replica of so many hosts gets below; mostly there are none."""
    most = st.sampled_from([*[UNLIMITED] * 3, hosts, hosts + 1, hosts + 4]) if is_paced else st.just(UNLIMITED)
    return {"max_concurrent_launches": draw(most), "max_launches_per_minute": draw(most)}


@st.composite
def node_types(draw, name: str, costs=(None, 0.5, 2.0), device="", *, is_paced=False):
    hosts = draw(st.sampled_from([1, 1, 1, 2, 3]))
    minimum = draw(st.sampled_from([0, 0, 0, 1, 2])) * hosts
    maximum = draw(maxima.map(lambda each: each if each == UNLIMITED else each * hosts))
    brings = draw(resources(least=1, device=device))
    return NodeType(
        name,
        brings,
        draw(labels),
        min_workers=minimum if maximum == UNLIMITED else min(minimum, maximum),
        max_workers=maximum,
        cost=draw(st.sampled_from(costs)),
        cost_factor=draw(st.sampled_from([1.0, 1.0, 1.0, 1.5, 0.5])),
        headroom=draw(st.sampled_from([0, 0, 0, 1, 2])) * hosts,
        hosts_per_replica=hosts,
        priority=draw(st.sampled_from([0, 0, 1])),
        idle_timeout_s=draw(st.sampled_from([None, 10.0, NEVER])),
        update_policy=draw(st.sampled_from([UpdatePolicy.ROLLING, *UpdatePolicy])),
        **draw(paces(hosts, is_paced=is_paced)),
        resize=draw(resizes(brings)) if hosts == 1 else None,
    )


@st.composite
def configs(draw, *, is_steady: bool, device="", least=0, is_paced: bool | None = None):
    names = draw(st.lists(st.sampled_from(TYPE_NAMES), min_size=least, max_size=3, unique=True))
    costs = draw(st.sampled_from([(None, 0.5, 2.0), (0.5, 1.0, 2.0, 3.5)]))
    is_paced = not is_steady and draw(st.sampled_from([False, False, True])) if is_paced is None else is_paced
    types = tuple(draw(node_types(name, costs, draw(st.sampled_from([device, device, ""])), is_paced=is_paced)) for name in names)
    fewest = sum(each.min_workers for each in types)
    maximum = draw(st.sampled_from([UNLIMITED, UNLIMITED, 0, 1, 3, 6, 10]))
    return ClusterConfig(
        "c",
        types,
        max_workers=maximum if maximum == UNLIMITED else max(maximum, fewest),
        upscaling_speed=None if is_steady else draw(st.sampled_from([None, None, 1.0])),
        **draw(paces(max([1, *(each.hosts_per_replica for each in types)]), is_paced=is_paced)),
        idle_timeout_s=60.0,
        consolidation=draw(st.booleans()),
        spend_limit=draw(st.sampled_from([None, None, None, 3.0, 8.0])) if all(each.cost is not None for each in types) else None,
    )


def joined_with(kind: NodeType):
    """Return what nodes of a type may have joined with; what one has grown by is no part of it (reconciler/learned.py)."""

    def ungrown(found: Resources) -> Resources:
        most = kind.resources.amounts if kind.resize else {}
        return Resources({name: min(amount, most.get(name, amount)) if name in GROWS else amount for name, amount in found.items()})

    return resources().map(ungrown)


@st.composite
def rows(draw, *, node_id, instance_id, node_type, total, node_labels, status, **more):
    free = {name: amount * draw(st.sampled_from([0, 1, 2, 2])) // 2 for name, amount in total.items()}
    free.update({name: max(0, total[name] - draw(USED)) for name in DEVICES if name in total})
    is_idle = status is NodeStatus.IDLE
    return RayNode(
        node_id,
        instance_id,
        node_type,
        status,
        total,
        total if is_idle else Resources(free),
        node_labels,
        dynamic_labels=draw(st.sampled_from([(), (), ("_PG_g0",)])),
        idle_s=draw(st.sampled_from([0.0, 5.0, 30.0, 100.0])) if is_idle else 0.0,
        **more,
    )


@st.composite
def makes(draw, known: NodeType):
    """What a worker of a type was launched as: nobody knows, as the definition has it, as it had it with other limits, or another make."""
    kind = draw(st.sampled_from(["unknown", "same", "same", "limits", "resources", "labels", "env"]))
    if kind == "unknown":
        return None
    changes = {
        "limits": {"max_workers": 9, "cost": 7.0, "priority": 3, "idle_timeout_s": 1.0},
        "resources": {"resources": draw(resources(least=1))},
        "labels": {"labels": draw(labels)},
        "env": {"env": (("COLOR", "red"),)},
    }
    return replace(known, **changes.get(kind, {}))


@st.composite
def fleets(draw, config: ClusterConfig):
    """Instances of all statuses with their rows, and now and then one of a type that is gone. Hosts of a replica mostly stand alike."""
    instances, found, open_replicas = [], [], {}
    names = [each.name for each in config.node_types] + ["dodo"]
    for i in range(draw(st.integers(0, 6))):
        node_type = draw(st.sampled_from(names))
        known = config.node_type(node_type)
        status = draw(st.sampled_from([*[InstanceStatus.RUNNING] * 4, *list(InstanceStatus)]))
        made_as = draw(makes(known)) if known else None
        requested_at = draw(st.sampled_from([1.0, 2.0, 3.0]))
        replica, host = "", 0
        if known and known.hosts_per_replica > 1:
            mates = open_replicas.setdefault(node_type, [])
            if len(mates) == known.hosts_per_replica:
                mates.clear()
            host, replica = len(mates), mates[0].replica if mates else f"r{i}"
            if mates:
                made_as, requested_at = mates[0].made_as, mates[0].requested_at
                status = draw(st.sampled_from([*[mates[0].status] * 4, status]))
        has_node = status in (InstanceStatus.RUNNING, InstanceStatus.DRAINING, InstanceStatus.TERMINATING)
        dead = has_node and draw(st.sampled_from([False] * 5 + [True]))
        instances.append(
            Instance(
                f"i{i}",
                node_type,
                status,
                0.0,
                requested_at=requested_at,
                ray_node_id=f"n{i}" if has_node else "",
                node_dead_since=NOW - draw(st.sampled_from([1.0, 50.0])) if dead else None,
                drain_not_before=draw(st.sampled_from([0.0, 0.0, NOW + 5])),
                made_as=made_as,
                ends_at=draw(st.sampled_from([None] * 5 + [NOW + 30])),
                stuck_since=draw(st.sampled_from([None, None, NOW - 1]))
                if status in (InstanceStatus.REQUESTED, InstanceStatus.ALLOCATED)
                else None,
                drain_accepted=status is InstanceStatus.DRAINING and draw(st.booleans()),
                replica=replica,
                host=host,
            )
        )
        if replica:
            open_replicas[node_type].append(instances[-1])
        if has_node and draw(st.sampled_from([True] * 6 + [False])):
            live = draw(st.sampled_from([NodeStatus.RUNNING, NodeStatus.IDLE, NodeStatus.IDLE, NodeStatus.DRAINING]))
            made = made_as or known
            total = made.resources if made else Resources.of(CPU=4)
            if status is InstanceStatus.RUNNING and not dead:
                total, growing, until = draw(sizes(known, made, total))
                instances[-1] = replace(instances[-1], growing=growing, ungrown_until=until)
            node_labels = tuple(sorted(made.node_labels().items())) if made else ()
            shown = NodeStatus.DEAD if dead else live
            found.append(
                draw(rows(node_id=f"n{i}", instance_id=f"i{i}", node_type=node_type, total=total, node_labels=node_labels, status=shown))
            )
    return tuple(instances), tuple(found)


@st.composite
def others(draw, device=""):
    """Return the head, sometimes a node of the user's own, sometimes a ghost of ours."""
    found = []
    if draw(st.booleans()):
        total = draw(resources(device=device))
        head = rows(node_id="h", instance_id="", node_type="head", total=total, node_labels=(), status=NodeStatus.RUNNING, is_head=True)
        found.append(draw(head))
    for i, (instance_id, node_type) in enumerate(draw(st.lists(st.sampled_from([("", ""), ("mine", "own"), ("gone", "ant")]), max_size=2))):
        total = Resources({**draw(resources(device=device)), "node:10.0.0.1": UNIT})
        found.append(
            draw(
                rows(node_id=f"x{i}", instance_id=instance_id, node_type=node_type, total=total, node_labels=(), status=NodeStatus.RUNNING)
            )
        )
    return tuple(found)


@st.composite
def cluster_states(draw, *, is_steady: bool = False, device: str | None = None, is_paced: bool | None = None):
    """Return a state; where a device resource is named, one in which it is surely asked for and mostly there."""
    least = 0 if device is None else 1
    device = draw(st.sampled_from(["", "", "GPU", "GPU", "TPU"])) if device is None else device
    config = draw(configs(is_steady=is_steady, device=device, least=least, is_paced=is_paced))
    instances, found = draw(fleets(config))
    pool = draw(st.lists(bundles(device), min_size=1 + 2 * least, max_size=4))
    demands = st.builds(Demand, st.sampled_from(pool), st.sampled_from([1, 2, 3, 7, 40]))
    few = st.builds(Demand, st.sampled_from(pool), st.sampled_from([0, 1, 1, 2, 3]))
    gangs = tuple(
        Gang(f"g{i}", strategy, draw(st.lists(few, min_size=1, max_size=2).map(tuple)))
        for i, strategy in enumerate(draw(st.lists(st.sampled_from(Strategy), max_size=3)))
    )
    blind = None if is_steady else draw(st.sampled_from([None] * 8 + [Reason.NO_REPORT, Reason.REPORT_TOO_OLD]))
    return ClusterState(
        now=NOW,
        config=config,
        instances=instances,
        nodes=(*found, *draw(others(device))),
        demands=tuple(draw(st.lists(demands, min_size=2 * least, max_size=4))),
        gangs=gangs,
        constraint=draw(st.one_of(st.none(), st.lists(few, max_size=2).map(lambda each: Constraint(tuple(each))))),
        backoffs=() if is_steady else draw(backoffs),
        begun=draw(begun) if config.is_paced else (),
        expectations=tuple(draw(expectations(each, pool, len(gangs))) for each in instances if draw(st.booleans())),
        unneeded_since=tuple((each.instance_id, NOW - draw(st.sampled_from([1.0, 60.0]))) for each in instances if each.is_in_flight),
        held=draw(st.sampled_from([(), (), (("ant", 3),), (("ant", 1), ("bee", 4), ("gone", 2))])),
        learned=tuple((each.name, draw(joined_with(each))) for each in config.node_types if draw(st.sampled_from([False] * 4 + [True]))),
        busiest=draw(peaks(found)),
        is_landing=False if is_steady else draw(st.booleans()),
        no_launch=blind,
        no_end=blind or (None if is_steady else draw(st.sampled_from([None] * 8 + [Reason.SETTLING]))),
    )


@st.composite
def peaks(draw, nodes: tuple[RayNode, ...]):
    """Return what was in use at most on some nodes: no less than is now."""
    found = []
    for row in nodes:
        if draw(st.booleans()):
            least = {name: amount - row.available.get(name, 0) for name, amount in row.total.items()}
            share = draw(st.sampled_from([0, 0, 1, 2, 4]))
            found.append((row.ray_node_id, Resources({name: max(least[name], amount * share // 4) for name, amount in row.total.items()})))
    return tuple(found)


@st.composite
def expectations(draw, instance: Instance, pool: list[Bundle], gangs: int):
    """Return what an instance was launched for, as it may look when demand, gang or node have changed since."""
    owners = st.sampled_from([("", False), ("", True), *[(f"g{i}", False) for i in range(gangs + 1)]])
    reserves = [
        Reserve(bundle, draw(st.sampled_from([1, 2, 5])), *draw(owners))
        for bundle in draw(st.lists(st.sampled_from([*pool, Bundle(Resources.of(CPU=1))]), max_size=3))
    ]
    return Expectation(instance.instance_id, instance.node_type, NOW + draw(st.sampled_from([-1, 60])), tuple(reserves))


begun = st.lists(
    st.builds(
        Begun,
        st.sampled_from([NOW - 70, NOW - 60, NOW - 59, NOW - 10, NOW]),
        st.sampled_from([*TYPE_NAMES, "gone"]),
        st.sampled_from([1, 1, 2, 5]),
    ),
    max_size=3,
).map(tuple)
backoffs = st.lists(
    st.builds(Backoff, st.sampled_from(TYPE_NAMES), st.just(2), st.sampled_from([NOW - 1, NOW + 30]), st.just("no quota")),
    max_size=2,
    unique_by=lambda each: each.node_type,
).map(tuple)
