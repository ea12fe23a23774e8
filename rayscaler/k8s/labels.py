"""Names, labels, annotations and selectors of what rayscaler makes in a namespace. Pure.

Labels of KubeRay's that its operator selects by (ray.io/cluster, ray.io/group) are left to the template: an operator beside us
with a RayCluster of the same name would count our pods as its own, and end them.
"""

import hashlib
import re

from rayscaler.config import manifest
from rayscaler.errors import InvalidRequest

MANAGED_BY, MANAGER = "app.kubernetes.io/managed-by", "rayscaler"
CLUSTER, NODE_TYPE, ROLE = manifest.LABEL, "rayscaler.io/node-type", "rayscaler.io/role"
INSTANCE_ID, SPEC_HASH, MADE_AS = "rayscaler.io/instance-id", "rayscaler.io/spec-hash", "rayscaler.io/made-as"
WORKER, HEAD, HEAD_EPOCH = "worker", "head", "rayscaler.io/head-epoch"
REPLICA, HOST, MULTI_HOST = "rayscaler.io/replica", "rayscaler.io/host", "rayscaler.io/multi-host"
"""A replica of several hosts: its name (whole in the annotation of that name, as short as a label in the label), and which host of it a pod is."""
RAY_REPLICA, RAY_REPLICA_INDEX = "ray.io/worker-group-replica-name", "ray.io/worker-group-replica-index"
RAY_HOST_INDEX = "ray.io/replica-host-index"
"""The same by KubeRay's names, which those who set up accelerators go by. The replica's index is the lowest that none of its type has."""
TERMINATE_BY = "rayscaler.io/terminate-by"
"""Whoever knows beforehand that a pod will end says so in this annotation, as an RFC 3339 time: it is drained until then."""
SCHEDULER, POD_GROUP, GANGS = "rayscaler.io/gang-scheduler", "rayscaler.io/pod-group", "rayscaler.io/gangs"
"""Annotations of a pod that a gang scheduler schedules: which one, of which group it is, and the placement groups that it was made for."""
VOLCANO_GROUP, COSCHEDULING_GROUP = "scheduling.k8s.io/group-name", "scheduling.x-k8s.io/pod-group"
"""By which gang schedulers tell a pod's group: an annotation for Volcano, a label for scheduler-plugins."""
HOSTS = "hosts"
"""Role of what hosts of replicas find each other by."""
OURS_SELECTOR = f"{MANAGED_BY}={MANAGER},{CLUSTER}"
"""Everything of ours and nothing else: foreign pods never cross the wire."""
DEFINITIONS_SELECTOR = f"{CLUSTER},{MANAGED_BY}!={MANAGER}"
"""ConfigMaps with a cluster's definition: the label's key counts, and what rayscaler writes itself is none."""
HEADS_SELECTOR = f"{MANAGED_BY}={MANAGER},{ROLE}={HEAD}"
"""Head pods, and the Services before them."""
HEADLESS_SELECTOR = f"{MANAGED_BY}={MANAGER},{ROLE}={HOSTS}"
"""Services by which hosts of replicas find each other."""
UNDISTURBED = {"cluster-autoscaler.kubernetes.io/safe-to-evict": "false", "karpenter.sh/do-not-disrupt": "true"}
"""By which those who remove machines leave a pod's alone: they cannot see what Ray runs in it. A template's own win (complaint C6)."""
FINALIZER = "rayscaler.io/instances"
"""On definitions whose instances no object's deletion ends: it goes once they are ended."""
LONGEST = 63
"""A pod's name is its host name too, which Linux cuts there."""
LONGEST_REPLICA = LONGEST - 6
"""A host's name is its replica's and its number."""
HASH_LENGTH = 8
_PLAIN = re.compile(r"[a-z0-9]+-[0-9]+-[0-9]+")
"""`<type>-<batch>-<index>` of a type without a hyphen: then only one cluster's name can stand before it."""
_EPOCH = re.compile(r"[1-9][0-9]{0,14}")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,251}[a-z0-9])?")


def pod_name(cluster: str, instance_id: str) -> str:
    """Return the name of an instance's pod: its id where that is short and no other cluster can have it, else with a hash (CD-19).

    Cluster `a` with type `b-c` and cluster `a-b` with type `c` have the same ids. A name with a hash ends in a letter, a plain one
    in a digit. Raises InvalidRequest for an id that cannot be in a name.
    """
    for path, name in (("cluster", cluster), ("instance_id", instance_id)):
        if not _LABEL.fullmatch(name):
            raise InvalidRequest(f"{path}: {name!r}: must be lower-case letters, digits and '-', begin and end with a letter or digit")
    own = instance_id.removeprefix(f"{cluster}-")
    if len(instance_id) <= LONGEST and own != instance_id and _PLAIN.fullmatch(own):
        return instance_id
    return _hashed(cluster, instance_id, LONGEST)


def replica_label(cluster: str, replica: str) -> str:
    """Return a replica's name as a label takes it, with room for the number of a host after it. Raises InvalidRequest for one that cannot be in a name."""
    if not _LABEL.fullmatch(replica):
        raise InvalidRequest(f"replica: {replica!r}: must be lower-case letters, digits and '-', begin and end with a letter or digit")
    return replica if len(replica) <= LONGEST_REPLICA else _hashed(cluster, replica, LONGEST_REPLICA)


def pod_group(cluster: str, group: str) -> str:
    """Return the name of a group's PodGroup, which is short enough for a label."""
    return group if len(group) <= LONGEST else _hashed(cluster, group, LONGEST)


def host_name(cluster: str, replica: str, host: int) -> str:
    """Return the host name of a replica's host, which every other host can tell beforehand."""
    return f"{replica_label(cluster, replica)}-{host}"


def host_address(cluster: str, replica: str, host: int) -> str:
    """Return where a replica's host is found by others of its namespace."""
    return f"{host_name(cluster, replica, host)}.{headless_service(cluster)}"


def headless_service(cluster: str) -> str:
    """Return the name of the Service by which hosts of a replica find each other: KubeRay's, which others reckon with."""
    return f"{cluster}-headless"


def replica_labels(cluster: str, replica: str, host: int, index: int) -> dict[str, str]:
    """Return the labels of a pod that is a host of several."""
    name = replica_label(cluster, replica)
    return {
        MULTI_HOST: "yes",
        REPLICA: name,
        HOST: str(host),
        RAY_REPLICA: name,
        RAY_REPLICA_INDEX: str(index),
        RAY_HOST_INDEX: str(host),
    }


def headless_selector(cluster: str) -> dict[str, str]:
    """Return what the headless Service selects: hosts of replicas, and no worker by itself."""
    return {MANAGED_BY: MANAGER, CLUSTER: cluster, ROLE: WORKER, MULTI_HOST: "yes"}


def _hashed(cluster: str, name: str, longest: int) -> str:
    digest = hashlib.sha256(f"{cluster}/{name}".encode()).digest()
    mark = "".join(chr(ord("a") + each % 26) for each in digest[:HASH_LENGTH])
    return f"{name[: longest - HASH_LENGTH - 1].rstrip('-')}-{mark}"


def worker_labels(cluster: str, node_type: str) -> dict[str, str]:
    """Return the labels of a worker's pod."""
    return {
        MANAGED_BY: MANAGER,
        CLUSTER: cluster,
        NODE_TYPE: node_type,
        ROLE: WORKER,
        "ray.io/is-ray-node": "yes",
        "ray.io/node-type": "worker",
    }


def head_service(cluster: str) -> str:
    """Return the name of the Service before a cluster's heads, which never changes."""
    return f"{cluster}-head"


def head_pod(cluster: str, epoch: int) -> str:
    """Return the name of the head of an epoch. No worker's name can be the same: a plain one ends in two numbers, one with a hash in a letter."""
    return f"{head_service(cluster)}-{epoch}"


def head_epoch(cluster: str, pod: str) -> int:
    """Return the epoch in the name of a head's pod, which nobody can change; 0 if it is no head's."""
    number = pod.removeprefix(f"{head_service(cluster)}-")
    return int(number) if number != pod and _EPOCH.fullmatch(number) else 0


def head_labels(cluster: str, epoch: int) -> dict[str, str]:
    """Return the labels of a head's pod."""
    return {**head_selector(cluster, epoch), "ray.io/is-ray-node": "yes", "ray.io/node-type": "head"}


def head_selector(cluster: str, epoch: int) -> dict[str, str]:
    """Return what the Service selects: the head of one epoch."""
    return {MANAGED_BY: MANAGER, CLUSTER: cluster, ROLE: HEAD, HEAD_EPOCH: str(epoch)}
