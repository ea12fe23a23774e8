"""The Service before a cluster's heads: a constant name, and one epoch selected; and the one by which hosts of replicas find each other. Pure.

Ours are the selector, the four ports by name, and that only a ready head is found. All else is its user's to change: type, annotations,
ports of their own. Target ports are names, so that a head with other ports is found at the same ones of the Service.
"""

from typing import Any

from rayscaler.k8s import labels, pods
from rayscaler.k8s.objects import Service

GCS, CLIENT, DASHBOARD, SERVE = "gcs", "client", "dashboard", "serve"
PORTS = {GCS: 6379, CLIENT: 10001, DASHBOARD: 8265, SERVE: 8000}
"""Where clients find a head; Ray's own numbers."""


def target(port: str) -> str:
    """Return the name of a port of the head's container. With a prefix: a template may have a port `client` of another container."""
    return f"ray-{port}"


def address(cluster: str, namespace: str) -> str:
    """Return where workers and drivers find a cluster's head: the same for all its heads, whatever the Kubernetes cluster's domain."""
    return f"{labels.head_service(cluster)}.{namespace}.svc:{PORTS[GCS]}"


def head(cluster: str, epoch: int, owner: pods.Owner | None) -> pods.Manifest:
    """Return the Service. It has an address of its own: that of a headless one would change with the head, behind clients' backs."""
    selector = labels.head_selector(cluster, epoch)
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": labels.head_service(cluster),
            "labels": {name: value for name, value in selector.items() if name != labels.HEAD_EPOCH},
            **pods.owned(owner),
        },
        "spec": {"selector": selector, "ports": _ports(), "publishNotReadyAddresses": False},
    }


def headless(cluster: str, owner: pods.Owner | None) -> pods.Manifest:
    """Return the Service that gives each host of a replica a name, from before it is ready: they wait for each other to become so."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": labels.headless_service(cluster),
            "labels": {labels.MANAGED_BY: labels.MANAGER, labels.CLUSTER: cluster, labels.ROLE: labels.HOSTS},
            **pods.owned(owner),
        },
        "spec": {"clusterIP": "None", "selector": labels.headless_selector(cluster), "publishNotReadyAddresses": True},
    }


def headless_mending(service: Service, owner: pods.Owner | None) -> pods.Manifest:
    """Return the merge patch by which such a Service is ours again, {} if it is; it holds for this very version only."""
    spec: dict[str, Any] = {}
    selector = labels.headless_selector(service.metadata.labels.cluster)
    if service.spec.selector != selector:
        spec["selector"] = {**dict.fromkeys(service.spec.selector), **selector}
    if not service.spec.publish_not_ready_addresses:
        spec["publishNotReadyAddresses"] = True
    return _patch(service, spec, owner)


def epoch_of(service: Service) -> int:
    """Return the epoch that a Service selects; 0 if somebody has broken its selector."""
    text = service.spec.selector.get(labels.HEAD_EPOCH, "")
    return labels.head_epoch(service.metadata.labels.cluster, f"{service.metadata.name}-{text}")


def mending(service: Service, epoch: int, owner: pods.Owner | None) -> pods.Manifest:
    """Return the merge patch by which a Service selects an epoch and is ours again, {} if it is; it holds for this very version only."""
    spec: dict[str, Any] = {}
    selector = labels.head_selector(service.metadata.labels.cluster, epoch)
    if service.spec.selector != selector:
        spec["selector"] = {**dict.fromkeys(service.spec.selector), **selector}
    if not _has_ports(service):
        spec["ports"] = _mended_ports(service)
    if service.spec.publish_not_ready_addresses:
        spec["publishNotReadyAddresses"] = False
    return _patch(service, spec, owner)


def _patch(service: Service, spec: dict[str, Any], owner: pods.Owner | None) -> pods.Manifest:
    is_owned = owner is None or any(each.uid == owner.uid for each in service.metadata.owner_references)
    if not spec and is_owned:
        return {}
    metadata = {"resourceVersion": service.metadata.resource_version, **({} if is_owned else pods.owned(owner))}
    return {"metadata": metadata, **({"spec": spec} if spec else {})}


def _ports() -> list[dict[str, Any]]:
    return [{"name": name, "port": port, "targetPort": target(name), "protocol": "TCP"} for name, port in PORTS.items()]


def _has_ports(service: Service) -> bool:
    found = {each.get("name"): each for each in service.spec.ports}
    return all(each.items() <= found.get(each["name"], {}).items() for each in _ports())


def _mended_ports(service: Service) -> list[dict[str, Any]]:
    """Return ours, with what else their user gave them, and the user's own where they do not stand in the way."""
    found = {each.get("name"): each for each in service.spec.ports}
    theirs = [each for each in service.spec.ports if each.get("name") not in PORTS and each.get("port") not in PORTS.values()]
    return [*({**found.get(each["name"], {}), **each} for each in _ports()), *theirs]
