"""Ray's own messages to the model: what a snapshot says (SPEC section 12). Owns Ray's quirks of encoding, and what is left out for them.

Any driver can name a resource as it likes: for one odd name the service must not lose sight of the whole cluster.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from operator import attrgetter

from rayscaler.api.gcs.v1 import gcs_pb2 as ray
from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.model.demand import (
    Bundle,
    Constraint,
    Demand,
    Gang,
    LabelCondition,
    LabelSelector,
    Locality,
    Operator,
    Snapshot,
    Strategy,
    are_parts_mixed,
)
from rayscaler.model.node import DeathReason, NodeStatus, RayNode
from rayscaler.model.raynames import GROUP_BYTES, HEAD_RESOURCE, INTERNAL_NAMESPACE, JOB_BYTES, SYNTHETIC_WITHIN, is_synthetic
from rayscaler.model.resources import UNIT, Resources, from_float
from rayscaler.rules import MAX_AMOUNT, MAX_AT, MAX_COUNT, MAX_DETAIL, MAX_GANG, MAX_JOBS, MAX_NAME, Rules, is_sayable

DETAILS = re.compile(r"(?P<id>[0-9a-f]+):(?P<strategy>[A-Z_]+)\|(?P<state>[A-Z]+)")
"""Form of a gang's `details`; the only place where PACK and SPREAD are told."""

STRICT_PACK = 2
"""Ray's number for it among its placement strategies."""

_STATUS = {
    ray.NODE_STATUS_RUNNING: NodeStatus.RUNNING,
    ray.NODE_STATUS_DEAD: NodeStatus.DEAD,
    ray.NODE_STATUS_IDLE: NodeStatus.IDLE,
    ray.NODE_STATUS_DRAINING: NodeStatus.DRAINING,
}
_DEATH = {
    1: DeathReason.EXPECTED,
    2: DeathReason.UNEXPECTED,
    3: DeathReason.DRAINED_PREEMPTED,
    4: DeathReason.DRAINED_IDLE,
}
_OPERATOR = {1: Operator.IN, 2: Operator.NOT_IN}


def snapshot(rules: Rules, taken: pb.Snapshot) -> Snapshot:
    """Return what a snapshot says, in an order that does not depend on the GCS's hash maps."""
    return _Reader(rules, taken).read()


class _Reader:
    """Reads one snapshot; what is asked of each row is looked up once."""

    def __init__(self, rules: Rules, taken: pb.Snapshot) -> None:
        self._rules = rules
        self._taken = taken
        self._ended = {row.node_id: row for row in taken.ended}
        self._draining = {row.node_id: row.draining_deadline_timestamp_ms for row in taken.draining}
        self._live_jobs = {row.job_id for row in taken.jobs if not row.is_dead}
        self._left = {row.placement_group_id for row in taken.groups if row.creator_actor_dead and not row.is_detached}
        self._own: dict[str, bool] = {}

    def read(self) -> Snapshot:
        state = self._taken.state
        path = "snapshot.state"
        users = frozenset(
            row.job_id.hex() for row in self._taken.jobs if not row.is_dead and not row.config.ray_namespace.startswith(INTERNAL_NAMESPACE)
        )
        gangs = [
            self._gang(f"{path}.pending_gang_resource_requests[{i}]", each) for i, each in enumerate(state.pending_gang_resource_requests)
        ]
        nodes = [self._node(f"{path}.node_states[{i}]", each) for i, each in enumerate(state.node_states)]
        return Snapshot(
            nodes=tuple(sorted(nodes, key=attrgetter("ray_node_id"))),
            demands=self._demands(f"{path}.pending_resource_requests", state.pending_resource_requests),
            gangs=tuple(sorted((gang for gang in gangs if gang is not None), key=attrgetter("gang_id"))),
            constraint=self._constraint(f"{path}.cluster_resource_constraints", state.cluster_resource_constraints),
            live_jobs=len(users),
            live_job_ids=users if len(users) <= MAX_JOBS else frozenset(),
            live_detached_actors=self._rules.natural("snapshot.live_detached_actors", self._taken.live_detached_actors),
            head_ip=next((row.node_ip_address for row in state.node_states if HEAD_RESOURCE in row.total_resources), ""),
            gcs_version=self._rules.natural(f"{path}.cluster_resource_state_version", state.cluster_resource_state_version),
        )

    # nodes

    def _node(self, path: str, row: ray.NodeState) -> RayNode:
        self._rules.need(f"{path}.node_id", bool(row.node_id), "is required")
        status = _STATUS.get(row.status, NodeStatus.RUNNING)  # one yet unknown is not idle and not dead
        is_dead = status is NodeStatus.DEAD
        info = self._ended.get(row.node_id) if is_dead else None
        deadline_ms = self._draining.get(row.node_id, 0)
        return RayNode(
            ray_node_id=row.node_id.hex(),
            instance_id=self._rules.name(f"{path}.instance_id", row.instance_id),
            node_type=self._rules.name(f"{path}.ray_node_type_name", row.ray_node_type_name),
            status=status,
            total=self._own_amounts(f"{path}.total_resources", row.total_resources),
            available=self._own_amounts(f"{path}.available_resources", row.available_resources),
            labels=tuple(sorted(row.labels.items())),
            dynamic_labels=tuple(sorted(row.dynamic_labels)),
            idle_s=self._rules.duration_s(f"{path}.idle_duration_ms", row.idle_duration_ms / 1000),
            activity=_activity(row) if status in (NodeStatus.RUNNING, NodeStatus.DRAINING) else (),  # old texts stand on idle nodes
            is_head=HEAD_RESOURCE in row.total_resources if info is None else info.is_head_node,
            death=None if info is None else _DEATH.get(info.death_info.reason, DeathReason.UNKNOWN),
            death_detail="" if info is None else info.death_info.reason_message[:MAX_DETAIL],
            is_draining=not is_dead and (row.node_id in self._draining or status is NodeStatus.DRAINING),
            draining_until=deadline_ms / 1000 if not is_dead and 0 < deadline_ms <= MAX_AT * 1000 else None,
        )

    def _own_amounts(self, path: str, resources: Mapping[str, float]) -> Resources:
        """Amounts of a node without what Ray cut out of them for placed groups."""
        return Resources(self._amounts(path, {name: amount for name, amount in resources.items() if self._is_own(name)}))

    def _is_own(self, name: str) -> bool:
        found = self._own.get(name)
        if found is None:
            found = self._own[name] = is_sayable(name) and not is_synthetic(name)
        return found

    def _amounts(self, path: str, resources: Mapping[str, float]) -> dict[str, int]:
        units = {}
        for name, amount in resources.items():
            if 0 < amount <= MAX_AMOUNT // UNIT:
                units[name] = from_float(amount)
            elif not amount <= 0:  # NaN, too
                self._rules.need(f"{path}[{name[:40]!r}]", holds=False, rule=f"{amount} is not an amount up to {MAX_AMOUNT // UNIT}")
        return units

    # what waits

    def _bundle(self, path: str, request: ray.ResourceRequest) -> Bundle:
        selectors = tuple(map(_selector, request.label_selectors))
        if selectors == (LabelSelector(),):
            selectors = ()  # Ray's way to say that there is no wish
        return Bundle(Resources(self._amounts(f"{path}.resources_bundle", request.resources_bundle)), selectors)

    def _demands(self, path: str, requests: Iterable[ray.ResourceRequestByCount]) -> tuple[Demand, ...]:
        """Equal bundles as one demand. Tasks inside a placed group are left out: the group is the demand."""
        counts: dict[Bundle, int] = {}
        for index, each in enumerate(requests):
            if each.count > 0 and all(map(self._is_own, each.request.resources_bundle)):
                self._rules.need(f"{path}[{index}].count", each.count <= MAX_COUNT, f"{each.count} is not a count up to {MAX_COUNT}")
                bundle = self._bundle(f"{path}[{index}].request", each.request)
                counts[bundle] = counts.get(bundle, 0) + each.count
        return _sorted(counts)

    def _constraint(self, path: str, constraints: Iterable[ray.ClusterResourceConstraint]) -> Constraint | None:
        """None where nobody has asked; that of all entries together otherwise, also an empty one."""
        found = list(constraints)
        return Constraint(self._demands(path, [each for entry in found for each in entry.resource_requests])) if found else None

    def _gang(self, path: str, request: ray.GangResourceRequest) -> Gang | None:
        """One gang, or None for the empty entries that Ray shows of groups in transition, and for one that cannot be told whole."""
        requests = request.bundle_selectors[0].resource_requests if request.bundle_selectors else request.requests
        details = DETAILS.fullmatch(request.details)
        gang_id = details["id"] if details else request.details or "unnamed"
        keys = [each.SerializeToString(deterministic=True) for each in requests]
        shapes = {key: ray.ResourceRequest.FromString(key) for key in dict.fromkeys(keys)}  # one of hundreds, as a rule
        if (
            not requests
            or not is_sayable(gang_id)
            or not all(self._is_own(name) for each in shapes.values() for name in each.resources_bundle)
        ):
            return None
        self._rules.need(path, len(requests) <= MAX_GANG, f"{len(requests)} bundles are more than {MAX_GANG}")
        return Gang(
            gang_id,
            _strategy(details["strategy"] if details else "", requests[0]),
            _in_order(keys, {key: self._bundle(path, each) for key, each in shapes.items()}),
            is_rescheduling=details is not None and details["state"] == "RESCHEDULING",
            is_orphaned=self._is_orphaned(gang_id),
            locality=_locality(request.bundle_selectors[0].locality_requirement) if request.bundle_selectors else None,
        )

    def _is_orphaned(self, gang_id: str) -> bool:
        """Whether its row has nobody left and its job does not live; without a row, or with an odd id, somebody may wait."""
        try:
            group_id = bytes.fromhex(gang_id)
        except ValueError:
            return False
        return len(group_id) == GROUP_BYTES and group_id in self._left and group_id[-JOB_BYTES:] not in self._live_jobs


def _selector(selector: ray.LabelSelector) -> LabelSelector:
    conditions = []
    for each in selector.label_constraints:
        key = _key(each.label_key)
        # An operator that a newer Ray has: nothing is launched on a guess, the condition holds nowhere.
        values = tuple(sorted(each.label_values)) if each.operator in _OPERATOR else ()
        conditions.append(LabelCondition(key, _OPERATOR.get(each.operator, Operator.IN), values))
    return LabelSelector(tuple(sorted(conditions)))


def _key(told: str) -> str:
    """Return a label's name. No node has a label with an odd one: in quotes it is none that could be, and can be said."""
    return told if is_sayable(told) else repr(told)[:MAX_NAME]


def _locality(found: ray.LocalityRequirement) -> Locality | None:
    constraint = found.locality_constraint
    if not constraint.label_name or constraint.placement_strategy != STRICT_PACK:
        return None
    return Locality(_key(constraint.label_name), _selector(found.label_selector))


def _in_order(keys: Sequence[bytes], bundles: Mapping[bytes, Bundle]) -> tuple[Demand, ...]:
    """Return a gang's bundles, equal ones as one demand; where their order decides what has room, only neighbours, in Ray's order."""
    if are_parts_mixed(bundles.values()):
        return tuple(Demand(bundle, len(list(alike))) for bundle, alike in groupby(bundles[key] for key in keys))
    counts: Counter[Bundle] = Counter()
    for key, count in Counter(keys).items():
        counts[bundles[key]] += count
    return _sorted(counts)


def _sorted(counts: Mapping[Bundle, int]) -> tuple[Demand, ...]:
    bundles = sorted(counts, key=lambda each: (each.resources.items_sorted, each.selectors))
    return tuple(Demand(bundle, counts[bundle]) for bundle in bundles)


def _activity(row: ray.NodeState) -> tuple[str, ...]:
    return tuple(sorted(text for text in row.node_activity if not SYNTHETIC_WITHIN.search(text)))


def _strategy(told: str, first: ray.ResourceRequest) -> Strategy:
    """Tell from the constraints, where `details` has a form or a word that is not known here."""
    if told in Strategy.__members__:
        return Strategy(told)
    if any(each.HasField("affinity") for each in first.placement_constraints):
        return Strategy.STRICT_PACK
    if any(each.HasField("anti_affinity") for each in first.placement_constraints):
        return Strategy.STRICT_SPREAD
    return Strategy.PACK
