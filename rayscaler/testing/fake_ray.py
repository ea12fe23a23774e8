"""What the fake Ray cluster is made of: tasks, gangs and nodes, and the messages in which Ray would tell of them."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.model.demand import Bundle, Operator, Strategy
from rayscaler.model.resources import UNIT, Resources, from_float


@dataclass
class FakeTask:
    """A task, or an actor if it has no end. `times_lost` counts the nodes that died under it."""

    task_id: int
    bundle: Bundle
    runtime_s: float | None
    submitted_at: float
    started_at: float | None = None
    ended_at: float | None = None
    node: "FakeNode | None" = None
    times_lost: int = 0

    def was_waiting(self, at: float) -> bool:
        """Whether it waited at that moment."""
        return self.submitted_at <= at and (self.started_at is None or self.started_at > at)


@dataclass
class FakeGang:
    """A placement group; `nodes` has one for each bundle once it is placed."""

    gang_id: str
    strategy: Strategy
    bundles: tuple[Bundle, ...]
    nodes: "tuple[FakeNode, ...]" = ()
    is_detached: bool = False

    @cached_property
    def whole(self) -> Resources:
        """All of its bundles together."""
        whole = Resources()
        for each, count in Counter(self.bundles).items():
            whole = whole.add(each.resources, count)
        return whole

    @cached_property
    def entry(self) -> gcs_pb2.GangResourceRequest:
        """Its entry in a snapshot while it waits: made once, for it may have thousands of bundles."""
        return gang_request(self)


@dataclass
class FakeNode:
    """A node; alive while `death` is None."""

    ray_node_id: str
    instance_id: str
    node_type: str
    total: Resources
    labels: dict[str, str]
    idle_since: float
    free: Resources
    is_head: bool = False
    uses: int = 0
    gangs: list[str] = field(default_factory=list)
    draining_until: float | None = None
    is_draining: bool = False
    death: gcs_pb2.NodeDeathInfo | None = None

    def holds(self, bundle: Bundle) -> bool:
        """Whether it can take it now."""
        return (
            self.death is None and not self.is_draining and bundle.label_rank(self.labels) is not None and bundle.resources.fits(self.free)
        )

    def take(self, resources: Resources) -> None:
        """Put something on it."""
        self.free = self.free.subtract(resources)
        self.uses += 1

    def resize(self, amounts: Mapping[str, int]) -> None:
        """Have so much of some resources in all."""
        more = {name: amount - self.total.get(name, 0) for name, amount in amounts.items()}
        self.total, self.free = self.total.add(Resources(more)), self.free.add(Resources(more))

    def give(self, resources: Resources, at: float) -> None:
        """Take something off it."""
        self.free = self.free.add(resources)
        self.uses -= 1
        self.idle_since = at


def node_state(node: FakeNode, now: float) -> gcs_pb2.NodeState:
    """Make its row: a dead one has neither resources nor labels."""
    row = gcs_pb2.NodeState(node_id=bytes.fromhex(node.ray_node_id), instance_id=node.instance_id, ray_node_type_name=node.node_type)
    if node.death is not None:
        row.status = gcs_pb2.NODE_STATUS_DEAD
        return row
    row.total_resources.update(_floats(node.total))
    row.available_resources.update(_floats(node.free))
    row.labels.update(node.labels)
    row.dynamic_labels.update({f"_PG_{gang_id}": "" for gang_id in node.gangs})
    if node.is_draining:
        row.status = gcs_pb2.NODE_STATUS_DRAINING
    elif node.uses:
        row.status = gcs_pb2.NODE_STATUS_RUNNING
        row.node_activity.append("Busy workers on node.")
    else:
        row.status = gcs_pb2.NODE_STATUS_IDLE
        row.idle_duration_ms = int((now - node.idle_since) * 1000)
    return row


def _floats(resources: Resources) -> dict[str, float]:
    return {name: amount / UNIT for name, amount in resources.items_sorted}


def resource_request(bundle: Bundle) -> gcs_pb2.ResourceRequest:
    """Make a request as Ray does: one empty selector where there is no wish."""
    request = gcs_pb2.ResourceRequest(resources_bundle=_floats(bundle.resources))
    for selector in bundle.selectors:
        made = request.label_selectors.add()
        for each in selector.conditions:
            made.label_constraints.add(label_key=each.key, operator=1 if each.operator is Operator.IN else 2, label_values=each.values)
    if not bundle.selectors:
        request.label_selectors.add()
    return request


def bundle(request: gcs_pb2.ResourceRequest) -> Bundle:
    """Make a bundle of a constraint's request, which has no label wishes."""
    return Bundle(Resources({name: from_float(amount) for name, amount in request.resources_bundle.items()}))


def by_count(bundle: Bundle, count: int) -> gcs_pb2.ResourceRequestByCount:
    """Make a shape with its count."""
    return gcs_pb2.ResourceRequestByCount(request=resource_request(bundle), count=count)


def gang_request(gang: FakeGang) -> gcs_pb2.GangResourceRequest:
    """Make a waiting placement group's entry."""
    requests = [resource_request(bundle) for bundle in gang.bundles]
    label = f"_PG_{gang.gang_id}"
    for request in requests:
        if gang.strategy is Strategy.STRICT_PACK:
            request.placement_constraints.add(affinity=gcs_pb2.AffinityConstraint(label_name=label))
        elif gang.strategy is Strategy.STRICT_SPREAD:
            request.placement_constraints.add(anti_affinity=gcs_pb2.AntiAffinityConstraint(label_name=label))
    return gcs_pb2.GangResourceRequest(
        requests=requests,
        details=f"{gang.gang_id}:{gang.strategy.value}|PENDING",
        bundle_selectors=[gcs_pb2.BundleSelector(resource_requests=requests)],
    )
