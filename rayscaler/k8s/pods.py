"""Manifests of worker pods: the template of the node type, with what rayscaler owns put in. Pure.

Owned: name, labels and annotations of ours, owner, restartPolicy, the command of Ray's container and the variables by which its node
says who it is. Filled in only where the template is silent: grace, shared memory, /tmp under a read-only root, other variables.
The entry is rejoin.py from a ConfigMap, so any image with Ray will do; nothing here needs root, a writable root or an init container.
No probe is added: the supervisor sees to the raylet, and a liveness probe would kill a worker that waits for its next head.
"""

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rayscaler import rejoin
from rayscaler.config import podtemplate
from rayscaler.errors import InvalidRequest
from rayscaler.executor import raystart
from rayscaler.executor.base import LaunchSpec
from rayscaler.executor.record import make_document, spec_hash
from rayscaler.k8s import labels
from rayscaler.model.resources import OBJECT_STORE_BYTES, UNIT

Manifest = dict[str, Any]

GRACE_S = 60
"""Ray drains a busy node for up to 30 s after SIGTERM and then ends its processes; the default of Kubernetes, 30 s, cuts that off (PT-24)."""
SHM_SLACK = 128 << 20
"""Bytes of /dev/shm beside the object store: for Ray's own and for what libraries of the user put there."""
ENTRY_DIR, ENTRY = "/opt/rayscaler", "rejoin.py"
ENTRY_VOLUME, SHM_VOLUME, TMP_VOLUME = "rayscaler-entry", "rayscaler-shm", "rayscaler-tmp"
OVERWRITE = "ray.io/overwrite-container-cmd"
"""KubeRay's annotation: the template's command stays as it is, and finds ours in two variables (PT-8)."""
SUPERVISED_VARIABLE, START_VARIABLE = "RAYSCALER_START_COMMAND", "KUBERAY_GEN_RAY_START_CMD"
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


def entry_config_map(cluster: str, text: str, owner: Owner | None) -> Manifest:
    """Return the ConfigMap that brings the supervisor into pods; its name has the hash of content and owner, so it never changes."""
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


def worker(spec: LaunchSpec, *, namespace: str, entry: str, owner: Owner | None = None) -> Manifest:
    """Return a worker's pod; `entry` names the ConfigMap of the supervisor. Raises InvalidRequest."""
    node_type = spec.node_type
    if not node_type.template:
        raise InvalidRequest(f"nodeTypes.{node_type.name}.template: is missing; a pod needs at least an image with Ray")
    template = json.loads(node_type.template)
    metadata, pod = template.get("metadata") or {}, template["spec"]
    index = podtemplate.ray_container(pod["containers"])
    containers = list(pod["containers"])
    containers[index] = _ray(containers[index], spec, namespace, is_kept=(metadata.get("annotations") or {}).get(OVERWRITE) == "true")
    volumes = [
        *(pod.get("volumes") or []),
        {"name": ENTRY_VOLUME, "configMap": {"name": entry}},
        *_own_volumes(pod["containers"][index], spec),
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            **metadata,
            "name": labels.pod_name(spec.cluster, spec.instance_id),
            "labels": {**(metadata.get("labels") or {}), **labels.worker_labels(spec.cluster, node_type.name)},
            "annotations": {**(metadata.get("annotations") or {}), **_annotations(spec)},
            **owned(owner),
        },
        "spec": {
            "terminationGracePeriodSeconds": GRACE_S,
            "enableServiceLinks": False,
            **pod,
            "restartPolicy": "Never",
            "containers": containers,
            "volumes": volumes,
        },
    }


def start_command(spec: LaunchSpec) -> list[str]:
    """Return the `ray start` of a worker; the type's own start parameters win."""
    flags = {"address": spec.head_address, **PORTS, **raystart.node_flags(spec.node_type)}
    return [*raystart.ray_command("ray", spec.node_type.resources), "start", "--block", *raystart.spelled(flags)]


def _annotations(spec: LaunchSpec) -> dict[str, str]:
    return {
        labels.INSTANCE_ID: spec.instance_id,
        labels.SPEC_HASH: spec_hash(spec),
        labels.MADE_AS: json.dumps(make_document(spec.node_type), sort_keys=True, separators=(",", ":")),
    }


def owned(owner: Owner | None) -> Manifest:
    """Return the metadata that says whose an object is; without blockOwnerDeletion, which would need a right on the owner."""
    if owner is None:
        return {}
    return {
        "ownerReferences": [
            {"apiVersion": owner.api_version, "kind": owner.kind, "name": owner.name, "uid": owner.uid, "controller": True},
        ]
    }


def _ray(container: Manifest, spec: LaunchSpec, namespace: str, *, is_kept: bool) -> Manifest:
    """Return Ray's container: what the template runs there goes before `ray start`, once, unless it is kept as it is."""
    prelude = [*(container.get("command") or []), *(container.get("args") or [])]
    start = start_command(spec)
    supervisor = ["python3", "-I", "-S", f"{ENTRY_DIR}/{ENTRY}", "worker", "--gcs", spec.head_address]
    command = [*supervisor, *(["--prelude", shlex.join(prelude)] if prelude and not is_kept else []), "--", *start]
    commands = {SUPERVISED_VARIABLE: shlex.join(command), START_VARIABLE: shlex.join(start)} if is_kept else {}
    mounts = [*(container.get("volumeMounts") or []), {"name": ENTRY_VOLUME, "mountPath": ENTRY_DIR, "readOnly": True}]
    mounts += [{"name": name, "mountPath": path} for name, path in _own_mounts(container, spec)]
    entry = {} if is_kept else {"command": command, "args": []}
    return {
        "terminationMessagePolicy": "FallbackToLogsOnError",
        **container,
        **entry,
        "env": _env(container.get("env") or [], spec, namespace, commands),
        "volumeMounts": mounts,
    }


def _env(template: list[Manifest], spec: LaunchSpec, namespace: str, commands: Mapping[str, str]) -> list[Manifest]:
    """Return the variables: defaults, over them the template's, then the node type's, then who the node is."""
    host, _, port = spec.head_address.rpartition(":")
    defaults = {
        "RAY_ADDRESS": spec.head_address,
        "FQ_RAY_IP": host,
        "RAY_IP": host.partition(".")[0] if not host.replace(".", "").isdigit() else host,
        "RAY_PORT": port,
        "RAY_CLUSTER_NAME": spec.cluster,
        "RAY_CLUSTER_NAMESPACE": namespace,
        "RAY_DASHBOARD_ENABLE_K8S_DISK_USAGE": "1",
        **raystart.CONNECT,
        **commands,
    }
    theirs = {each["name"]: each for each in template}
    ours = {**dict(spec.node_type.env), **raystart.identity(spec)}
    entries = {**_entries(defaults), **theirs, **_entries(ours)}
    return list(entries.values())


def _entries(values: Mapping[str, str]) -> dict[str, Manifest]:
    # $(NAME) in a value would be replaced by Kubernetes; a node type's text is meant as it stands.
    return {name: {"name": name, "value": value.replace("$(", "$$(")} for name, value in values.items()}


def _own_mounts(container: Manifest, spec: LaunchSpec) -> list[tuple[str, str]]:
    """Return volumes and paths that Ray needs and the template leaves out."""
    taken = {str(each.get("mountPath", "")).rstrip("/") for each in container.get("volumeMounts") or []}
    mounts = []
    if "/dev/shm" not in taken and "plasma-directory" not in dict(spec.node_type.start_params):  # noqa: S108 - Ray's path
        mounts.append((SHM_VOLUME, "/dev/shm"))  # noqa: S108
    if (container.get("securityContext") or {}).get("readOnlyRootFilesystem") is True and not taken & {"/tmp", "/tmp/ray"}:  # noqa: S108
        mounts.append((TMP_VOLUME, "/tmp"))  # noqa: S108
    return mounts


def _own_volumes(container: Manifest, spec: LaunchSpec) -> list[Manifest]:
    store = spec.node_type.resources.get("object_store_memory", OBJECT_STORE_BYTES * UNIT) // UNIT
    made: dict[str, Manifest] = {
        SHM_VOLUME: {"emptyDir": {"medium": "Memory", "sizeLimit": str(store + SHM_SLACK)}},
        TMP_VOLUME: {"emptyDir": {}},
    }
    return [{"name": name, **made[name]} for name, _ in _own_mounts(container, spec)]
