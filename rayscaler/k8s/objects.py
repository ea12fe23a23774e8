"""Kubernetes objects, with only the fields that are read: decoded straight from the API server's bytes.

A field that is absent has its zero value, as in Kubernetes itself. What thousands of objects say alike is kept once.
"""

import sys
from functools import lru_cache
from typing import Any, Generic, TypeVar

import msgspec

from rayscaler.model.scheduling import GangScheduler

T = TypeVar("T")

KEPT = 1024
"""So many different amounts of containers are kept once: most pods of a type ask for the same."""


class _Object(msgspec.Struct, rename="camel", gc=False):
    """Base: JSON names in camelCase; objects have no cycles, so the garbage collector need not look at them."""


class Labels(_Object):
    """Our labels."""

    cluster: str = msgspec.field(name="rayscaler.io/cluster", default="")
    node_type: str = msgspec.field(name="rayscaler.io/node-type", default="")
    role: str = msgspec.field(name="rayscaler.io/role", default="")
    replica_index: str = msgspec.field(name="ray.io/worker-group-replica-index", default="")

    def __post_init__(self) -> None:
        self.cluster, self.node_type = sys.intern(self.cluster), sys.intern(self.node_type)


class Annotations(_Object):
    """Our annotations."""

    instance_id: str = msgspec.field(name="rayscaler.io/instance-id", default="")
    spec_hash: str = msgspec.field(name="rayscaler.io/spec-hash", default="")
    made_as: str = msgspec.field(name="rayscaler.io/made-as", default="")
    terminate_by: str = msgspec.field(name="rayscaler.io/terminate-by", default="")
    replica: str = msgspec.field(name="rayscaler.io/replica", default="")
    host: str = msgspec.field(name="rayscaler.io/host", default="")
    scheduler: str = msgspec.field(name="rayscaler.io/gang-scheduler", default="")
    pod_group: str = msgspec.field(name="rayscaler.io/pod-group", default="")
    gangs: str = msgspec.field(name="rayscaler.io/gangs", default="")

    def __post_init__(self) -> None:
        self.made_as, self.gangs = sys.intern(self.made_as), sys.intern(self.gangs)


class Meta(_Object):
    """Metadata of any object; times are RFC 3339."""

    name: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    deletion_timestamp: str = ""
    finalizers: tuple[str, ...] = ()
    labels: Labels = msgspec.field(default_factory=Labels)
    annotations: Annotations = msgspec.field(default_factory=Annotations)


class Named(_Object):
    """Any object of which only the metadata is read."""

    metadata: Meta = msgspec.field(default_factory=Meta)


class Waiting(_Object):
    """Why a container does not run yet."""

    reason: str = ""
    message: str = ""


class Terminated(_Object):
    """How a container ended."""

    exit_code: int = 0
    signal: int = 0
    reason: str = ""
    message: str = ""


class Running(_Object):
    """A container runs."""


class ContainerState(_Object):
    """One of three."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class Amounts(_Object):
    """What a container asks for, or has; as the API server spells quantities."""

    requests: dict[str, str] = {}
    limits: dict[str, str] = {}

    def __post_init__(self) -> None:
        self.requests, self.limits = _once(tuple(self.requests.items())), _once(tuple(self.limits.items()))


@lru_cache(maxsize=KEPT)
def _once(amounts: tuple[tuple[str, str], ...]) -> dict[str, str]:
    return dict(amounts)


class ContainerStatus(_Object):
    """What kubelet says of a container; `started` is False only while a startup probe has not succeeded. `resources` are what it really has."""

    name: str = ""
    started: bool | None = None
    state: ContainerState = msgspec.field(default_factory=ContainerState)
    resources: Amounts | None = None


class Condition(_Object):
    """A condition of a pod."""

    type: str = ""
    status: str = ""
    last_transition_time: str = ""
    observed_generation: int = 0
    reason: str = ""
    message: str = ""


class Container(_Object):
    """A container's name, and what it asks for."""

    name: str = ""
    resources: Amounts = msgspec.field(default_factory=Amounts)


class PodSpec(_Object):
    """Where a pod is, its containers in their order, and how long it may take to end."""

    node_name: str = ""
    containers: list[Container] | None = None
    """Null in the bookmarks of a watch."""
    termination_grace_period_seconds: int = 30


class PodStatus(_Object):
    """What became of a pod."""

    phase: str = ""
    reason: str = ""
    message: str = ""
    conditions: list[Condition] = []
    container_statuses: list[ContainerStatus] = []
    init_container_statuses: list[ContainerStatus] = []


class Pod(Named):
    """A pod."""

    spec: PodSpec = msgspec.field(default_factory=PodSpec)
    status: PodStatus = msgspec.field(default_factory=PodStatus)


class ConfigMap(Named):
    """A ConfigMap; of binary data only the keys are read."""

    data: dict[str, str] = {}
    binary_data: dict[str, msgspec.Raw] = {}


class Secret(Named):
    """A Secret; its data travel in base64."""

    data: dict[str, bytes] = {}


class OwnerReference(_Object):
    """What an object belongs to."""

    uid: str = ""


class HeadLabels(Labels):
    """Our labels of heads and their Services."""

    manager: str = msgspec.field(name="app.kubernetes.io/managed-by", default="")
    epoch: str = msgspec.field(name="rayscaler.io/head-epoch", default="")


class HeadMeta(Meta):
    """Metadata of heads and their Services, with owners; workers, of which there are thousands, are read without."""

    labels: HeadLabels = msgspec.field(default_factory=HeadLabels)
    owner_references: list[OwnerReference] = []


class HeadPod(Pod):
    """A head's pod."""

    metadata: HeadMeta = msgspec.field(default_factory=HeadMeta)


class ServiceSpec(_Object):
    """What a Service selects, and its ports with all their fields."""

    selector: dict[str, str] = {}
    ports: list[dict[str, Any]] = []
    publish_not_ready_addresses: bool = False


class Service(Named):
    """A Service."""

    metadata: HeadMeta = msgspec.field(default_factory=HeadMeta)
    spec: ServiceSpec = msgspec.field(default_factory=ServiceSpec)


class RecordData(_Object):
    """What a record's ConfigMap says: the record, and the leader that wrote it last."""

    record: str = msgspec.field(name="record.json", default="")
    holder: str = ""
    epoch: str = ""


class RecordBinary(_Object):
    """The definition as it was good last, compressed."""

    definition: bytes = msgspec.field(name="definition.yaml.gz", default=b"")


class Record(Named):
    """A ConfigMap that holds a cluster's record."""

    data: RecordData = msgspec.field(default_factory=RecordData)
    binary_data: RecordBinary = msgspec.field(default_factory=RecordBinary)


class LeaseSpec(_Object):
    """Who leads, and for how long without a word. Its times are for people."""

    holder_identity: str = ""
    lease_duration_seconds: int = 0
    lease_transitions: int = 0


class Lease(Named):
    """A Lease."""

    spec: LeaseSpec = msgspec.field(default_factory=LeaseSpec)


class PodGroupSpec(_Object):
    """How many pods are bound all or none."""

    min_member: int = 0


class PodGroup(Named):
    """A gang scheduler's PodGroup."""

    spec: PodGroupSpec = msgspec.field(default_factory=PodGroupSpec)


class PageMeta(_Object):
    """Where a list stands: its version, and the token of the next page, if any."""

    resource_version: str = ""
    continue_: str = msgspec.field(name="continue", default="")


class Page(_Object, Generic[T]):
    """A page of a list."""

    metadata: PageMeta = msgspec.field(default_factory=PageMeta)
    items: list[T] = []


class Event(_Object):
    """An event of a watch; `object` is decoded by its type."""

    type: str = ""
    object: msgspec.Raw = msgspec.Raw(b"{}")


class FailureDetails(_Object):
    """More about a refusal."""

    kind: str = ""
    retry_after_seconds: float = 0.0


class Failure(_Object):
    """The API server's `Status`: why it did not do it."""

    code: int = 0
    reason: str = ""
    message: str = ""
    details: FailureDetails | None = None


class Kind(Generic[T]):
    """A kind of object: where it stands in the API, and how it is read."""

    def __init__(self, group: str, plural: str, one: type[T], page: type[Page[T]]) -> None:
        """Take the API group and version as in `api/v1` or `apis/coordination.k8s.io/v1`."""
        self.group = group
        self.plural = plural
        self.one = msgspec.json.Decoder(one)
        self.page = msgspec.json.Decoder(page)


class Rule(_Object):
    """Some verbs on some resources; without names on all of them."""

    verbs: list[str] = []
    api_groups: list[str] = []
    resources: list[str] = []
    resource_names: list[str] = []


class RulesStatus(_Object):
    """What may be done in a namespace; `incomplete` where some authorizer of the API server cannot tell."""

    resource_rules: list[Rule] = []
    incomplete: bool = False
    evaluation_error: str = ""


class RulesReview(_Object):
    """An answer to the question what one may do."""

    status: RulesStatus = msgspec.field(default_factory=RulesStatus)


PODS = Kind("api/v1", "pods", Pod, Page[Pod])
CONFIG_MAPS = Kind("api/v1", "configmaps", ConfigMap, Page[ConfigMap])
EVENTS = Kind("api/v1", "events", Named, Page[Named])
SECRETS = Kind("api/v1", "secrets", Secret, Page[Secret])
HEAD_PODS = Kind("api/v1", "pods", HeadPod, Page[HeadPod])
SERVICES = Kind("api/v1", "services", Service, Page[Service])
RECORDS = Kind("api/v1", "configmaps", Record, Page[Record])
LEASES = Kind("apis/coordination.k8s.io/v1", "leases", Lease, Page[Lease])
RULES_REVIEWS = Kind("apis/authorization.k8s.io/v1", "selfsubjectrulesreviews", RulesReview, Page[RulesReview])
GROUPS = {
    GangScheduler.VOLCANO: Kind("apis/scheduling.volcano.sh/v1beta1", "podgroups", PodGroup, Page[PodGroup]),
    GangScheduler.SCHEDULER_PLUGINS: Kind("apis/scheduling.x-k8s.io/v1alpha1", "podgroups", PodGroup, Page[PodGroup]),
}
