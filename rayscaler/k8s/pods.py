"""Manifests of Ray's pods: a template with what rayscaler owns put in, and the workers' in particular. Pure.

Owned: name, labels and annotations of ours, owner, restartPolicy, the command of Ray's container and the variables by which its node
says who it is. Filled in only where the template is silent: grace, shared memory, /tmp under a read-only root, other variables.
The entry is rejoin.py from a ConfigMap, so any image with Ray will do; nothing here needs root, a writable root or an init container.
Workers get no probe: the supervisor sees to the raylet, and a liveness probe would kill a worker that waits for its next head.
"""

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Self

from rayscaler import rejoin
from rayscaler.config import podtemplate
from rayscaler.errors import InvalidRequest
from rayscaler.executor import raystart
from rayscaler.executor.base import LaunchSpec
from rayscaler.executor.record import make_document, spec_hash
from rayscaler.k8s import labels
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import OBJECT_STORE_BYTES, UNIT, Resources
from rayscaler.model.scheduling import GangScheduler

Manifest = dict[str, Any]

GRACE_S = 60
"""Ray drains a busy node for up to 30 s after SIGTERM and then ends its processes; the default of Kubernetes, 30 s, cuts that off (PT-24)."""
SHM_SLACK = 128 << 20
"""Bytes of /dev/shm beside the object store: for Ray's own and for what libraries of the user put there."""
ENTRY_DIR, ENTRY = "/opt/rayscaler", "rejoin.py"
ENTRY_VOLUME, SHM_VOLUME, TMP_VOLUME = "rayscaler-entry", "rayscaler-shm", "rayscaler-tmp"
ENTRY_MOUNT = {"name": ENTRY_VOLUME, "mountPath": ENTRY_DIR, "readOnly": True}
SUPERVISOR = ("python3", "-I", "-S", f"{ENTRY_DIR}/{ENTRY}")
OVERWRITE = "ray.io/overwrite-container-cmd"
"""KubeRay's annotation: the template's command stays as it is, and finds ours in two variables (PT-8)."""
SUPERVISED_VARIABLE, START_VARIABLE = "RAYSCALER_START_COMMAND", "KUBERAY_GEN_RAY_START_CMD"
HOST_NAMES_VARIABLE = "RAYSCALER_HOST_NAMES"
"""Where the hosts of a replica are found, in their order, with commas between."""
KEPT = 256
"""Of what pods have in common, such as a type's template, so many are kept: a thousand launches of a burst look at it once."""
SCHEDULER_NAMES = {GangScheduler.VOLCANO: "volcano", GangScheduler.SCHEDULER_PLUGINS: "scheduler-plugins-scheduler"}
"""What gang schedulers are called by default where they are installed beside Kubernetes' own, and what KubeRay takes for their names."""
PORTS = {"metrics-export-port": "8080", "dashboard-agent-listen-port": "52365"}
"""Each pod has its own address, so ports are constant, as KubeRay has them (NW-9)."""


@dataclass(frozen=True)
class Owner:
    """What a cluster's objects belong to: deleting it deletes them, also without rayscaler (CD-10)."""

    api_version: str
    kind: str
    name: str
    uid: str


def entry_text() -> str:
    """Return the supervisor, which is one file."""
    return Path(rejoin.__file__).read_text(encoding="utf-8")


@lru_cache(maxsize=KEPT)
def entry_config_map(cluster: str, text: str, owner: Owner | None) -> Manifest:
    """Return the ConfigMap that brings the supervisor into pods, not to be changed; its name has the hash of content and owner."""
    digest = hashlib.sha256(f"{owner.uid if owner else ''}\n{text}".encode()).hexdigest()[:10]
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": f"{cluster}-rejoin-{digest}",
            "labels": {labels.MANAGED_BY: labels.MANAGER, "rayscaler.io/of": cluster},
            **owned(owner),
        },
        "data": {ENTRY: text},
        "immutable": True,
    }


@dataclass(frozen=True)
class Template:
    """A pod template, and what rayscaler reads of it."""

    metadata: Manifest
    pod: Manifest
    index: int
    """Of Ray's container."""

    @classmethod
    @lru_cache(maxsize=KEPT)
    def read(cls, path: str, text: str) -> Self:
        """Read a template that was checked with its definition, not to be changed; raises InvalidRequest if there is none."""
        if not text:
            raise InvalidRequest(f"{path}: is missing; a pod needs at least an image with Ray")
        found = json.loads(text)
        return cls(found.get("metadata") or {}, found["spec"], podtemplate.ray_container(found["spec"]["containers"]))

    @property
    def container(self) -> Manifest:
        """Ray's container."""
        return dict(self.pod["containers"][self.index])

    @property
    def is_kept(self) -> bool:
        """Whether the command of Ray's container stays as it is."""
        return (self.metadata.get("annotations") or {}).get(OVERWRITE) == "true"

    @property
    def prelude(self) -> str:
        """What runs once before Ray, as text for a shell; "" where nothing does."""
        return "" if self.is_kept else shlex.join([*(self.container.get("command") or []), *(self.container.get("args") or [])])


@dataclass(frozen=True)
class Made:
    """What rayscaler puts into a template, whatever the pod is."""

    name: str
    labels: Mapping[str, str]
    annotations: Mapping[str, str]
    entry: str
    """Name of the supervisor's ConfigMap."""
    command: Sequence[str]
    """Of Ray's container: the supervisor and what it runs."""
    start: Sequence[str]
    """The `ray start` within it."""
    resources: Resources
    start_params: Mapping[str, str]
    defaults: Mapping[str, str]
    """Variables where the template is silent."""
    env: Mapping[str, str]
    """Variables over the template's."""
    container: Manifest = field(default_factory=dict)
    """Fields of Ray's container where the template is silent."""
    pod: Manifest = field(default_factory=dict)
    """Fields of the pod over the template's."""
    pod_defaults: Manifest = field(default_factory=dict)
    """Fields of the pod where the template is silent."""


def ray_pod(template: Template, made: Made, owner: Owner | None) -> Manifest:
    """Return the pod: never started again by kubelet, whose back-off and ours would get into each other's way."""
    metadata, pod = template.metadata, template.pod
    containers = list(pod["containers"])
    containers[template.index] = _ray(template, made)
    volumes = [
        *(pod.get("volumes") or []),
        {"name": ENTRY_VOLUME, "configMap": {"name": made.entry}},
        *_own_volumes(template.container, made),
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **metadata,
            "name": made.name,
            "labels": {**(metadata.get("labels") or {}), **made.labels},
            "annotations": {**labels.UNDISTURBED, **(metadata.get("annotations") or {}), **made.annotations},
            **owned(owner),
        },
        "spec": {
            "terminationGracePeriodSeconds": GRACE_S,
            "enableServiceLinks": False,
            **made.pod_defaults,
            **pod,
            **made.pod,
            "restartPolicy": "Never",
            "containers": containers,
            "volumes": volumes,
        },
    }


def worker(spec: LaunchSpec, *, namespace: str, entry: str, owner: Owner | None = None, replica_index: int = 0) -> Manifest:
    """Return a worker's pod; `entry` names the ConfigMap of the supervisor, `replica_index` is of a replica of several hosts. Raises InvalidRequest."""
    template = Template.read(f"nodeTypes.{spec.node_type.name}.template", spec.node_type.template)
    start = start_command(spec)
    peers = _peers(spec)
    made = Made(
        name=labels.pod_name(spec.cluster, spec.instance_id),
        labels={**labels.worker_labels(spec.cluster, spec.node_type.name), **_replica_labels(spec, replica_index), **_group_labels(spec)},
        annotations=_annotations(spec),
        entry=entry,
        command=[*SUPERVISOR, "worker", "--gcs", spec.head_address, *_prelude(template), "--", *start],
        start=start,
        resources=spec.node_type.resources,
        start_params=dict(spec.node_type.start_params),
        # Hosts stand there twice: first of all, so that a template's own variables may refer to them, and over the template's.
        defaults={**cluster_env(spec.cluster, namespace, spec.head_address, spec.head_address), **raystart.CONNECT, **peers},
        env={**dict(spec.node_type.env), **raystart.identity(spec), **peers},
        pod=_host(spec),
        pod_defaults={} if spec.membership is None else {"schedulerName": SCHEDULER_NAMES[spec.membership.scheduler]},
    )
    return ray_pod(template, made, owner)


def start_command(spec: LaunchSpec) -> list[str]:
    """Return the `ray start` of a worker; the type's own start parameters win."""
    flags = {"address": spec.head_address, **PORTS, **raystart.node_flags(spec.node_type)}
    return [*raystart.ray_command("ray", spec.node_type.resources), "start", "--block", *raystart.spelled(flags)]


def cluster_env(cluster: str, namespace: str, head_address: str, own_address: str) -> dict[str, str]:
    """Return what a container may want to know of its cluster, by KubeRay's names (PT-17); `own_address` is where its drivers connect."""
    host, _, port = head_address.rpartition(":")
    return {
        "RAY_ADDRESS": own_address,
        "FQ_RAY_IP": host,
        "RAY_IP": host.partition(".")[0] if not host.replace(".", "").isdigit() else host,
        "RAY_PORT": port,
        "RAY_CLUSTER_NAME": cluster,
        "RAY_CLUSTER_NAMESPACE": namespace,
        "RAY_DASHBOARD_ENABLE_K8S_DISK_USAGE": "1",
    }


def owned(owner: Owner | None) -> Manifest:
    """Return the metadata of what belongs to `owner`: without blockOwnerDeletion, which would need a right on it."""
    if owner is None:
        return {}
    return {
        "ownerReferences": [
            {"apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid, "controller": True},
        ]
    }


def entries(values: Mapping[str, str]) -> dict[str, Manifest]:
    """Return variables as a container lists them, by name."""
    # $(NAME) in a value would be replaced by Kubernetes; a definition's text is meant as it stands.
    return {name: {"name": name, "value": value.replace("$(", "$$(")} for name, value in values.items()}


def _peers(spec: LaunchSpec) -> dict[str, str]:
    """Return the variables that tell a host of its replica; none where it is the only one."""
    if not spec.replica:
        return {}
    addresses = (labels.host_address(spec.cluster, spec.replica, host) for host in range(spec.node_type.hosts_per_replica))
    return {**raystart.replica(spec), HOST_NAMES_VARIABLE: ",".join(addresses)}


def _host(spec: LaunchSpec) -> Manifest:
    """Return what gives a host of a replica a name that the others know."""
    if not spec.replica:
        return {}
    return {"hostname": labels.host_name(spec.cluster, spec.replica, spec.host), "subdomain": labels.headless_service(spec.cluster)}


def _replica_labels(spec: LaunchSpec, index: int) -> dict[str, str]:
    return labels.replica_labels(spec.cluster, spec.replica, spec.host, index) if spec.replica else {}


def _annotations(spec: LaunchSpec) -> dict[str, str]:
    replica = {labels.REPLICA: spec.replica, labels.HOST: str(spec.host)} if spec.replica else {}
    return {
        **replica,
        **_group_annotations(spec),
        labels.INSTANCE_ID: spec.instance_id,
        labels.SPEC_HASH: spec_hash(spec),
        labels.MADE_AS: _made_as(spec.node_type),
    }


def _group_labels(spec: LaunchSpec) -> dict[str, str]:
    """Return the label by which scheduler-plugins tell a pod's group."""
    joint = spec.membership
    if joint is None or not joint.group or joint.scheduler is not GangScheduler.SCHEDULER_PLUGINS:
        return {}
    return {labels.COSCHEDULING_GROUP: labels.pod_group(spec.cluster, joint.group)}


def _group_annotations(spec: LaunchSpec) -> dict[str, str]:
    """Return who schedules a pod, with whom and what for; and the annotation by which Volcano tells its group."""
    joint = spec.membership
    if joint is None:
        return {}
    found = {labels.SCHEDULER: joint.scheduler.value}
    if joint.group:
        found |= {labels.POD_GROUP: joint.group, labels.GANGS: ",".join(joint.gangs)}
    if joint.group and joint.scheduler is GangScheduler.VOLCANO:
        found[labels.VOLCANO_GROUP] = labels.pod_group(spec.cluster, joint.group)
    return found


@lru_cache(maxsize=KEPT)
def _made_as(node_type: NodeType) -> str:
    return json.dumps(make_document(node_type), sort_keys=True, separators=(",", ":"))


def _prelude(template: Template) -> list[str]:
    return ["--prelude", template.prelude] if template.prelude else []


def _ray(template: Template, made: Made) -> Manifest:
    """Return Ray's container: what the template runs there goes before `ray start`, once, unless it is kept as it is."""
    container = template.container
    mounts = [*(container.get("volumeMounts") or []), ENTRY_MOUNT]
    mounts += [{"name": name, "mountPath": path} for name, path in _own_mounts(container, made)]
    commands = {SUPERVISED_VARIABLE: shlex.join(made.command), START_VARIABLE: shlex.join(made.start)} if template.is_kept else {}
    theirs = {each["name"]: each for each in container.get("env") or []}
    return {
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **made.container,
        **container,
        **({} if template.is_kept else {"command": list(made.command), "args": []}),
        "env": list({**entries({**made.defaults, **commands}), **theirs, **entries(made.env)}.values()),
        "volumeMounts": mounts,
    }


def _own_mounts(container: Manifest, made: Made) -> list[tuple[str, str]]:
    """Return volumes and paths that Ray needs and the template leaves out."""
    taken = {str(each.get("mountPath", "")).rstrip("/") for each in container.get("volumeMounts") or []}
    mounts = []
    if "/dev/shm" not in taken and "plasma-directory" not in made.start_params:  # noqa: S108 - Ray's path
        mounts.append((SHM_VOLUME, "/dev/shm"))  # noqa: S108
    if (container.get("securityContext") or {}).get("readOnlyRootFilesystem") is True and not taken & {"/tmp", "/tmp/ray"}:  # noqa: S108
        mounts.append((TMP_VOLUME, "/tmp"))  # noqa: S108
    return mounts


def _own_volumes(container: Manifest, made: Made) -> list[Manifest]:
    store = made.resources.get("object_store_memory", OBJECT_STORE_BYTES * UNIT) // UNIT
    volumes: dict[str, Manifest] = {
        SHM_VOLUME: {"emptyDir": {"medium": "Memory", "sizeLimit": str(store + SHM_SLACK)}},
        TMP_VOLUME: {"emptyDir": {}},
    }
    return [{"name": name, **volumes[name]} for name, _ in _own_mounts(container, made)]
