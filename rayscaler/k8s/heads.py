"""Manifests of head pods: the template of the definition, Ray's head under the supervisor, and the monitor beside it. Pure.

The supervisor restarts a head that crashes; the pod itself is never started again but replaced, as a worker's. The monitor is a native
sidecar: it is there before Ray, ends after it, and runs again whatever the pod's policy. It has a supervisor too, for its container must not
be seen to end: a pod with a container that waits for its restart is not ready, and the head would vanish from its Service. It keeps the pod's
address, too, until nobody is led there any more.
"""

from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from rayscaler.executor import raystart
from rayscaler.executor.record import head_hash
from rayscaler.k8s import labels, pods, services
from rayscaler.k8s.pods import Manifest, Template
from rayscaler.model.nodetype import ClusterConfig

GRACE_S = 10
"""A head that is told to end drains nobody; its processes are gone within seconds."""
LINGER_S = 4
"""A pod that is told to end keeps its address at least so long: kube-proxy follows a Service a second or two late. What is led to an address
that is gone gets no refusal but silence, and conntrack keeps it there: such a connection hung for 25 s, a driver for the 20 s of gRPC's try."""
SERVICE_ACCOUNT = "rayscaler-head"
"""Without any right; the chart makes it."""
PORT_FLAGS = {services.GCS: "port", services.CLIENT: "ray-client-server-port", services.DASHBOARD: "dashboard-port"}
"""Start parameters that move a port."""
MONITOR, MONITOR_VOLUME, MONITOR_DIR = "rayscaler-monitor", "rayscaler-monitor", "/var/run/rayscaler"
MONITOR_REQUESTS = {"cpu": "50m", "memory": "96Mi"}
"""It takes 54 MB and its supervisor 12. No limits: with thousands of nodes it takes more, and must not be killed for that."""
AUDIENCE, CA = "rayscaler", "rayscaler-ca"
"""Whom the monitor's token is for, and the ConfigMap with the certificate of the service's authority."""
TOKEN_S = 3600
"""Kubelet renews the token at four fifths of its life."""
AUTH, AUTH_PATH = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"), "RAY_AUTH_TOKEN_PATH"
"""Variables by which Ray's own token is found: the monitor needs it to speak to the GCS."""
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}
NOBODY = 65532
"""The monitor's user where the pod's is root."""


@dataclass(frozen=True)
class Sidecar:
    """How the monitor is run: our own image, the service it reports to, and whether that has a certificate and wants a token."""

    image: str
    service: str
    pull_policy: str = ""
    has_tls: bool = False


def head(config: ClusterConfig, epoch: int, *, namespace: str, entry: str, sidecar: Sidecar, owner: pods.Owner | None = None) -> Manifest:
    """Return the pod of a cluster's head of one epoch; `entry` names the ConfigMap of the supervisor. Raises InvalidRequest."""
    template = _with_ours(Template.read("spec.head.template", config.head.template), config, sidecar)
    name, start = labels.head_pod(config.name, epoch), start_command(config)
    keeper = [*pods.SUPERVISOR, "keep", "--", *start]
    address = services.address(config.name, namespace)
    probe = {"tcpSocket": {"port": _ports(config)[services.GCS]}, "periodSeconds": 1}
    made = pods.Made(
        name=name,
        labels=labels.head_labels(config.name, epoch),
        annotations={labels.SPEC_HASH: head_hash(config.head)},
        entry=entry,
        command=["/bin/sh", "-c", f'{template.prelude} && exec "$@"', "sh", *keeper] if template.prelude else keeper,
        start=start,
        resources=config.head.resources,
        start_params=dict(config.head.start_params),
        defaults={
            **pods.cluster_env(config.name, namespace, address, f"127.0.0.1:{_ports(config)[services.GCS]}"),
            **raystart.HEAD_ENV,
        },
        env={**dict(config.head.env), **raystart.head_identity(name)},
        # That it was up once shows in `started`, for good; before it was, a better definition may replace it.
        container={"startupProbe": {**probe, "failureThreshold": 2**31 - 1}, "readinessProbe": probe},
    )
    return pods.ray_pod(template, made, owner)


def start_command(config: ClusterConfig) -> list[str]:
    """Return the `ray start` of a head; the definition's own start parameters win."""
    own = {"port": str(services.PORTS[services.GCS]), "dashboard-host": "0.0.0.0", **pods.PORTS}  # noqa: S104 - the Service leads there
    return raystart.head_command("ray", config.head.resources, own, config.head.start_params)


def _ports(config: ClusterConfig) -> dict[str, int]:
    """Return the ports of the head itself; what is no number is Ray's to refuse."""
    given = dict(config.head.start_params)
    told = {name: given.get(flag, "") for name, flag in PORT_FLAGS.items()}
    return {**services.PORTS, **{name: int(text) for name, text in told.items() if text.isdigit()}}


def _with_ours(template: Template, config: ClusterConfig, sidecar: Sidecar) -> Template:
    """Return the template with the monitor, an account without rights, and the ports that the Service looks for."""
    pod, container = template.pod, template.container
    theirs = [each for each in container.get("ports") or [] if each.get("name") not in map(services.target, PORT_FLAGS)]
    named = {each.get("name") for each in theirs}
    ours = [
        {"name": services.target(name), "containerPort": port, "protocol": "TCP"}
        for name, port in _ports(config).items()
        if services.target(name) not in named
    ]
    containers = list(pod["containers"])
    containers[template.index] = {**container, "ports": [*theirs, *ours]}
    account = {} if "serviceAccount" in pod else {"serviceAccountName": SERVICE_ACCOUNT}
    made = {
        "terminationGracePeriodSeconds": GRACE_S,
        **account,
        "automountServiceAccountToken": False,
        **pod,
        "containers": containers,
        "initContainers": [*(pod.get("initContainers") or []), _monitor(pod, container, config, sidecar)],
        **({"volumes": [*(pod.get("volumes") or []), _MONITOR_FILES]} if sidecar.has_tls else {}),
    }
    return replace(template, pod=made)


def _monitor(pod: Manifest, container: Manifest, config: ClusterConfig, sidecar: Sidecar) -> Manifest:
    where = ["--gcs", f"127.0.0.1:{_ports(config)[services.GCS]}", "--service", sidecar.service, "--incarnation", "$(POD_UID)"]
    files = ["--ca", f"{MONITOR_DIR}/ca/ca.crt", "--token", f"{MONITOR_DIR}/token/token"] if sidecar.has_tls else []
    env, mounts = _auth(container, config)
    is_root = (pod.get("securityContext") or {}).get("runAsUser") == 0
    return {
        "name": MONITOR,
        "image": sidecar.image,
        **({"imagePullPolicy": sidecar.pull_policy} if sidecar.pull_policy else {}),
        "restartPolicy": "Always",
        "command": [*pods.SUPERVISOR, "keep", "--", "rayscaler", "monitor", "--cluster", config.name, *where, *files],
        "env": [{"name": "POD_UID", "valueFrom": {"fieldRef": {"fieldPath": "metadata.uid"}}}, *env],
        "resources": {"requests": MONITOR_REQUESTS},
        # From the beginning of the pod's end on, while Ray ends. Kubernetes' own `sleep` is not in 1.29.
        "lifecycle": {"preStop": {"exec": {"command": ["python3", "-I", "-S", "-c", f"import time; time.sleep({LINGER_S})"]}}},
        "securityContext": {**RESTRICTED, **({"runAsUser": NOBODY} if is_root else {})},
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [
            pods.ENTRY_MOUNT,
            *([{"name": MONITOR_VOLUME, "mountPath": MONITOR_DIR, "readOnly": True}] if sidecar.has_tls else []),
            *mounts,
        ],
    }


_MONITOR_FILES: Manifest = {
    "name": MONITOR_VOLUME,
    "projected": {
        "sources": [
            {"serviceAccountToken": {"audience": AUDIENCE, "expirationSeconds": TOKEN_S, "path": "token/token"}},
            {"configMap": {"name": CA, "items": [{"key": "ca.crt", "path": "ca/ca.crt"}]}},
        ]
    },
}


def _auth(container: Manifest, config: ClusterConfig) -> tuple[list[Any], list[Any]]:
    """Return the variables and mounts by which the monitor finds Ray's token where the head finds it; of envFrom nothing is taken over."""
    known = {**{each["name"]: each for each in container.get("env") or []}, **pods.entries(dict(config.head.env))}
    path = PurePosixPath((known.get(AUTH_PATH) or {}).get("value") or "")
    mounts = [each for each in container.get("volumeMounts") or [] if path.is_relative_to(str(each.get("mountPath", "")))]
    return [known[name] for name in (*AUTH, AUTH_PATH) if name in known], [{**each, "readOnly": True} for each in mounts]
