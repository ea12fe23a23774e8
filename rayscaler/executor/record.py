"""What an executor writes down beside an instance, so that whoever finds it later knows what it was launched with. Pure.

Limits and prices are no part of it: they may change while the instance lives.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from rayscaler.executor.base import LaunchSpec
from rayscaler.model.nodetype import Head, NodeType
from rayscaler.model.resources import Resources
from rayscaler.model.scheduling import GangScheduler, Membership


def spec_document(spec: LaunchSpec) -> dict[str, Any]:
    """Return what makes the instance, as JSON values."""
    return {
        "cluster": spec.cluster,
        "instance_id": spec.instance_id,
        "head_address": spec.head_address,
        "node_type": make_document(spec.node_type),
        **({"replica": spec.replica, "host": spec.host} if spec.replica else {}),
        **({} if spec.membership is None else {"membership": _membership(spec.membership)}),
    }


def _membership(membership: Membership) -> dict[str, Any]:
    return {"scheduler": membership.scheduler.value, "group": membership.group, "gangs": list(membership.gangs)}


def make_document(node_type: NodeType) -> dict[str, Any]:
    """Return what makes a worker of the type, as JSON values."""
    template = {"template": node_type.template} if node_type.template else {}
    hosts = {"hosts_per_replica": node_type.hosts_per_replica} if node_type.hosts_per_replica > 1 else {}  # as ever where there is one
    return {
        "name": node_type.name,
        "resources": node_type.resources.amounts,
        "labels": dict(node_type.labels),
        "env": dict(node_type.env),
        "start_params": dict(node_type.start_params),
        "is_spot": node_type.is_spot,
        **template,
        **hosts,
    }


def spec_hash(spec: LaunchSpec) -> str:
    """Hash what makes the instance: what tells one spec from another."""
    return hashlib.sha256(json.dumps(spec_document(spec), sort_keys=True).encode()).hexdigest()


def head_hash(head: Head) -> str:
    """Hash the definition's section of the head: a running one is never changed, so that people are told when it differs."""
    return hashlib.sha256(repr(head).encode()).hexdigest()


def spec_from(found: Mapping[str, Any]) -> LaunchSpec:
    """Return the spec of a document; raises ValueError, KeyError, TypeError or AttributeError when it is none."""
    joint = found.get("membership")
    return LaunchSpec(
        cluster=found["cluster"],
        instance_id=found["instance_id"],
        head_address=found["head_address"],
        node_type=make_from(found["node_type"]),
        replica=found.get("replica", ""),
        host=found.get("host", 0),
        membership=None if joint is None else Membership(GangScheduler(joint["scheduler"]), joint["group"], tuple(joint["gangs"])),
    )


def make_from(found: Mapping[str, Any]) -> NodeType:
    """Return the node type of a document by `make_document`; raises as `spec_from`."""
    return NodeType(
        name=found["name"],
        resources=Resources(found["resources"]),
        labels=tuple(found["labels"].items()),
        env=tuple(found["env"].items()),
        start_params=tuple(found["start_params"].items()),
        is_spot=found["is_spot"],
        template=found.get("template", ""),
        hosts_per_replica=found.get("hosts_per_replica", 1),
    )
