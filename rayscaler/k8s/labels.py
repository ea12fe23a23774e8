"""Names, labels, annotations and selectors of what rayscaler makes in a namespace. Pure.

Labels of KubeRay's that its operator selects by (ray.io/cluster, ray.io/group) are left to the template: an operator beside us
with a RayCluster of the same name would count our pods as its own, and end them.
"""

import hashlib
import re

from rayscaler.errors import InvalidRequest

MANAGED_BY, MANAGER = "app.kubernetes.io/managed-by", "rayscaler"
CLUSTER, NODE_TYPE, ROLE = "rayscaler.io/cluster", "rayscaler.io/node-type", "rayscaler.io/role"
INSTANCE_ID, SPEC_HASH, MADE_AS = "rayscaler.io/instance-id", "rayscaler.io/spec-hash", "rayscaler.io/made-as"
TERMINATE_BY = "rayscaler.io/terminate-by"
"""Whoever knows beforehand that a pod will end says so in this annotation, as an RFC 3339 time: it is drained until then."""
WORKER = "worker"
PODS_SELECTOR = f"{MANAGED_BY}={MANAGER},{CLUSTER}"
"""Everything of ours and nothing else: foreign pods never cross the wire."""
LONGEST = 63
"""A pod's name is its host name too, which Linux cuts there."""
HASH_LENGTH = 8
_PLAIN = re.compile(r"[a-z0-9]+-[0-9]+-[0-9]+")
"""`<type>-<batch>-<index>` of a type without a hyphen: then only one cluster's name can stand before it."""
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
    digest = hashlib.sha256(f"{cluster}/{instance_id}".encode()).digest()
    mark = "".join(chr(ord("a") + each % 26) for each in digest[:HASH_LENGTH])
    return f"{instance_id[: LONGEST - HASH_LENGTH - 1].rstrip('-')}-{mark}"


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
