"""What a state and a plan offer, as the independent judge of plans sees it: model only, sums redone from scratch."""

from collections import Counter, defaultdict

from rayscaler.model.demand import Bundle
from rayscaler.model.instance import ENDED, IN_FLIGHT, InstanceStatus
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import NodeType
from rayscaler.model.plan import Plan
from rayscaler.model.resources import UNIT, Resources
from rayscaler.model.state import ClusterState
from tests.properties import devices, wholes

GROWS = ("CPU", "memory")
"""What of a running worker may become more."""


class World:
    """What the state offers: per node its type, labels, free and total amounts, and gang labels."""

    def __init__(self, state: ClusterState, plan: Plan) -> None:
        self.state, self.plan = state, plan
        self.types = {each.name: each for each in state.config.node_types}
        self.instances = {each.instance_id: each for each in state.instances if each.status not in ENDED}
        self.live = Counter(each.node_type for each in self.instances.values())
        self.launched = Counter(each.node_type for each in plan.launches)
        self.free: dict[str, dict[str, int]] = {}
        self.total: dict[str, dict[str, int]] = {}
        self.labels: dict[str, dict[str, str]] = {}
        self.dynamic: dict[str, tuple[str, ...]] = defaultdict(tuple)
        known = {each.instance_id for each in state.instances}
        broken = wholes.broken(state)
        for row in state.nodes:
            if row.status not in (NodeStatus.RUNNING, NodeStatus.IDLE) or row.is_draining:
                continue
            instance = self.instances.get(row.instance_id)
            if row.is_head:
                name = f"head:{row.ray_node_id}"
            elif instance is not None:
                if instance.status is not InstanceStatus.RUNNING or instance.ray_node_id != row.ray_node_id or instance.ends_at is not None:
                    continue
                if instance.instance_id in broken:
                    continue
                name = instance.instance_id
            elif row.instance_id in known or (row.instance_id and row.node_type in self.types):
                continue
            else:
                name = f"ray:{row.ray_node_id}"
            free = dict(row.available)
            if instance is not None and instance.growing is not None:
                free |= self._more(row, instance.growing.resources)
            self._add(name, free, dict(row.total), dict(row.labels), row.dynamic_labels)
        for instance in self.instances.values():
            if (
                instance.status in IN_FLIGHT
                and instance.stuck_since is None
                and instance.ends_at is None
                and instance.node_type in self.types
                and instance.instance_id not in broken
            ):
                self._add_of_type(instance.instance_id, instance.made_as or self.types[instance.node_type])
        for index, launch in enumerate(plan.launches):
            self._add_of_type(f"new:{index}", self.types[launch.node_type])
        for growth in plan.growths:
            if growth.instance_id in self.free:
                self.free[growth.instance_id] |= self._more(self.row_of(growth.instance_id), growth.resources)

    def row_of(self, name: str) -> RayNode:
        """Return the living row of a worker that has joined."""
        node_id = self.instances[name].ray_node_id
        return next(each for each in self.state.nodes if each.ray_node_id == node_id and each.instance_id == name)

    def _more(self, row: RayNode, grown: Resources) -> dict[str, int]:
        """Return what is free of what may grow, once a node has grown to that; the constraint is planned on what it has now."""
        return {name: row.available.get(name, 0) + max(0, grown.get(name, 0) - row.total.get(name, 0)) for name in GROWS}

    def grown_total(self, name: str) -> dict[str, int]:
        """Return all that a node has, or will have once it has grown as it is growing now."""
        instance = self.instances.get(name)
        to = instance.growing.resources if instance is not None and instance.growing is not None else None
        return (
            self.total[name]
            if to is None
            else {**self.total[name], **{each: max(self.total[name].get(each, 0), to.get(each, 0)) for each in GROWS}}
        )

    def _add_of_type(self, name: str, found: NodeType) -> None:
        now = self.types[found.name]
        is_now = all(
            getattr(found, each) == getattr(now, each)
            for each in ("resources", "labels", "env", "start_params", "is_spot", "hosts_per_replica")
        )
        total = self.brings(found.name) if is_now else dict(found.resources)
        self._add(name, total, total, found.node_labels(), ())

    def brings(self, name: str) -> dict[str, int]:
        """Return what a node of a type brings once it joins: what others of it had, if that is known."""
        return dict(dict(self.state.learned).get(name, self.types[name].resources))

    def _add(self, name, free, total, labels, dynamic) -> None:
        self.free[name], self.total[name], self.labels[name], self.dynamic[name] = free, total, labels, dynamic

    def displaced(self) -> Counter[Bundle]:
        """Work on nodes that others are about to end: the plan may make room for it, and refuses it to nobody."""
        found: Counter[Bundle] = Counter()
        for row in self.state.nodes:
            instance = self.instances.get(row.instance_id)
            if instance is None or instance.ends_at is None or instance.ray_node_id != row.ray_node_id or row.status is NodeStatus.DEAD:
                continue
            free = dict(row.available)
            used = {name: amount - free.get(name, 0) for name, amount in row.total.items() if name != "object_store_memory"}
            used = {
                name: devices.least_amount(amount) if name in devices.DEVICES else amount
                for name, amount in used.items()
                if amount > 0 and not name.startswith("node:") and "_group_" not in name
            }
            if used:
                found[Bundle(Resources(used))] += 1
        return found

    def is_outdated(self, instance) -> bool:
        """Whether its type would now be launched otherwise than it was."""
        made, now = instance.made_as, self.types.get(instance.node_type)
        if made is None or now is None:
            return False
        return any(
            getattr(made, name) != getattr(now, name)
            for name in ("resources", "labels", "env", "start_params", "is_spot", "hosts_per_replica")
        )


def most_workers(config):
    """The cluster's maximum; a definition that sets none has the ceiling that the README tells of."""
    return 10_000 if config.max_workers < 0 else config.max_workers


def held(name: str, amounts: dict[str, int], total: dict[str, int]) -> int:
    if name in amounts:
        return amounts[name]
    implicit = name.startswith("node:__internal_implicit_resource_") and name not in total
    return UNIT if implicit else 0


def lacking(wanted: list[tuple[Bundle, int]], free: dict[str, int], total: dict[str, int]) -> list[str]:
    """Return of which resources a node that is otherwise free has not enough for all of these bundles at once, each by its count."""
    sums: Counter[str] = Counter()
    for bundle, count in wanted:
        sums.update({name: amount * count for name, amount in bundle.resources.items()})
    short = [name for name, amount in sums.items() if amount > held(name, free, total)]
    by_device = devices.wanted_of((bundle.resources, count) for bundle, count in wanted)
    return short + [
        name
        for name, amounts in by_device.items()
        if name not in short and not devices.pack(devices.items(amounts), devices.rooms(total.get(name, 0), held(name, free, total)))
    ]


def fits(bundle: Bundle, free: dict[str, int], total: dict[str, int]) -> bool:
    return not lacking([(bundle, 1)], free, total)


class Rest:
    """What a plan leaves free on a node. Which devices it takes the plan does not say, so there is room only where any way leaves it."""

    def __init__(self, free: dict[str, int], total: dict[str, int]) -> None:
        self.free, self.total, self.placed = free, total, list[tuple[Bundle, int]]()

    def holds(self, bundles: list[Bundle]) -> bool:
        """Whether all of these have room besides what is placed."""
        more = [(bundle, 1) for bundle in bundles]
        if lacking([*self.placed, *more], self.free, self.total):
            return False
        placed = devices.wanted_of((bundle.resources, count) for bundle, count in self.placed)
        for name, amounts in devices.wanted_of((bundle.resources, 1) for bundle in bundles).items():
            rooms = devices.rooms(self.total.get(name, 0), held(name, self.free, self.total))
            ways = devices.remainders(devices.items(placed.get(name, {})), rooms)
            if not all(devices.pack(devices.items(amounts), left) for left in ways):
                return False
        return True


def label_ok(bundle: Bundle, labels: dict[str, str]) -> bool:
    if not bundle.selectors:
        return True
    for selector in bundle.selectors:
        good = True
        for condition in selector.conditions:
            inside = labels.get(condition.key) in condition.values
            good = good and (inside if condition.operator == "in" else not inside)
        if good:
            return True
    return False
