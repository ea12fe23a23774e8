"""The native dialect: a mapping as read from YAML becomes a ClusterConfig. Every problem is told at once, with path, value and rule."""

import re
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from rayscaler.config import executors, gangscheduling, podtemplate, resize, startparams
from rayscaler.config.executors import KUBERNETES, LOCAL
from rayscaler.config.reader import MOST, Reader, near
from rayscaler.errors import InvalidRequest
from rayscaler.model.nodetype import (
    FLOOR_AFTER_DRIVER_S,
    IDLE_TIMEOUT_S,
    UNLIMITED,
    ClusterConfig,
    Head,
    NodeType,
    UpdatePolicy,
)

API_VERSION = "rayscaler.io/v1"
ROOT = {"apiVersion", "kind", "metadata", "spec"}
METADATA = {"name"}
SPEC = {
    "maxWorkers",
    "upscalingSpeed",
    "spendLimit",
    "maxConcurrentLaunches",
    "maxLaunchesPerMinute",
    "idleTimeout",
    "floorAfterDriver",
    "consolidation",
    "devices",
    "gangScheduling",
    "executor",
    "head",
    "nodeTypes",
}
HEAD = {"resources", "startParams", "env", "template"}
TYPE = {
    "name", "minWorkers", "maxWorkers", "resources", "labels", "cost", "costFactor", "priority", "headroom", "spot",
    "maxConcurrentLaunches", "maxLaunchesPerMinute",
    "hostsPerReplica", "idleTimeout", "startParams", "env", "template", "updatePolicy", "resize",
}  # fmt: skip
_PLACES = {"at the top": ROOT, "in spec": SPEC, "in spec.head": HEAD, "in a node type": TYPE}
_OTHER_WORDS = {
    "headGroupSpec": "head", "workerGroupSpecs": "nodeTypes", "groupName": "name", "minReplicas": "minWorkers", "maxReplicas": "maxWorkers",
    "idleTimeoutSeconds": "idleTimeout", "idleTimeoutMinutes": "idleTimeout", "rayStartParams": "startParams", "numOfHosts": "hostsPerReplica",
    "upscalingMode": "upscalingSpeed", "podTypes": "nodeTypes", "podConfig": "template", "rayResources": "resources", "available_node_types": "nodeTypes",
}  # fmt: skip
"""Keys of Ray's and KubeRay's definitions, and what they are called here."""
_PORT = re.compile(executors.PORT)
PORTS = dict.fromkeys(("port", "ray-client-server-port"), (_PORT, "must be a port from 1 to 65535"))
"""Start parameters of the head that rayscaler itself reads."""


def _hint(key: str, keys: set[str]) -> str:
    """Say what was meant, as far as one can tell."""
    homes = [place for place, known in _PLACES.items() if key in known]
    if homes:
        return f"it belongs {' or '.join(homes)}"
    word = _OTHER_WORDS.get(key)
    return f"did you mean {word}?" if word in keys else near(key, keys)


def name_in(document: object) -> str | None:
    """Return the name that a document gives its cluster, whatever else is wrong with it; None if it gives none."""
    read = Reader()
    metadata = read.mapping("", document).get("metadata")
    return read.name("metadata.name", read.mapping("metadata", metadata).get("name")) or None


def cluster(document: object, executor: str = LOCAL) -> ClusterConfig:
    """Return the definition in `document` for a service that has this executor; raises InvalidRequest with every problem.

    Where it makes pods, what a type leaves out of its resources is read in its pod template; to a plugin a template goes as it is.
    """
    read = Reader(_hint)
    root = read.mapping("", document, ROOT)
    if root.get("apiVersion") != API_VERSION:
        read.problem("apiVersion", root.get("apiVersion"), f"must be {API_VERSION}")
    if root.get("kind") != "Cluster":
        read.problem("kind", root.get("kind"), "must be Cluster")
    name = read.name("metadata.name", read.mapping("metadata", root.get("metadata"), METADATA).get("name"))
    spec = read.mapping("spec", root.get("spec"), SPEC)
    executor, command = executors.read(read, spec.get("executor"), executor)
    config = ClusterConfig(
        name=name,
        max_workers=read.number("spec.maxWorkers", spec.get("maxWorkers"), UNLIMITED, low=0),
        upscaling_speed=read.number("spec.upscalingSpeed", spec.get("upscalingSpeed"), None, low=0, whole=False),
        spend_limit=read.number("spec.spendLimit", spec.get("spendLimit"), None, low=0, whole=False),
        max_concurrent_launches=read.number("spec.maxConcurrentLaunches", spec.get("maxConcurrentLaunches"), UNLIMITED, low=1),
        max_launches_per_minute=read.number("spec.maxLaunchesPerMinute", spec.get("maxLaunchesPerMinute"), UNLIMITED, low=1),
        idle_timeout_s=read.idle_timeout("spec.idleTimeout", spec.get("idleTimeout"), IDLE_TIMEOUT_S) or 0.0,
        floor_after_driver_s=read.idle_timeout("spec.floorAfterDriver", spec.get("floorAfterDriver"), FLOOR_AFTER_DRIVER_S) or 0.0,
        consolidation=read.boolean("spec.consolidation", spec.get("consolidation")),
        devices=read.devices("spec.devices", spec.get("devices")),
        executor=executor,
        command=command,
        head=_head(read, spec.get("head"), executor),
        gang_scheduling=gangscheduling.read(read, spec.get("gangScheduling"), executor),
        node_types=_node_types(read, spec.get("nodeTypes"), executor),
    )
    _check_limits(read, config)
    if read.problems:
        raise InvalidRequest(*read.problems)
    return config


def _template(read: Reader, path: str, value: object, executor: str) -> str:
    if executor == KUBERNETES:
        return podtemplate.read(read, path, value)
    if executors.is_plugin(executor):
        return podtemplate.opaque(read, path, value)
    read.mapping(path, value)
    return ""


def _head(read: Reader, value: object, executor: str) -> Head:
    raw = read.mapping("spec.head", value, HEAD)
    head = Head(
        resources=read.resources("spec.head.resources", raw.get("resources")),
        start_params=read.pairs("spec.head", "startParams", raw.get("startParams"), PORTS),
        env=read.pairs("spec.head", "env", raw.get("env")),
        template=_template(read, "spec.head.template", raw.get("template"), executor),
    )
    settled = startparams.settle(read, "spec.head", head.resources, _stated(raw), head.start_params)
    return replace(head, resources=settled.resources, start_params=settled.start_params)


def _stated(raw: Mapping[str, Any]) -> Collection[str]:
    """Return the resources that a head or a type speaks of, also of 0."""
    return raw["resources"] if isinstance(raw.get("resources"), dict) else ()


def _node_types(read: Reader, value: object, executor: str) -> tuple[NodeType, ...]:
    if value is not None and not isinstance(value, list):
        read.problem("spec.nodeTypes", value, "must be a list")
        return ()
    found = tuple(_node_type(read, f"spec.nodeTypes[{index}]", raw, executor) for index, raw in enumerate(value or ()))
    seen: set[str] = set()
    for index, each in enumerate(found):
        if each.name and each.name in seen:
            read.problem(f"spec.nodeTypes[{index}].name", each.name, "stands there twice; names are unique")
        seen.add(each.name)
    return found


def _node_type(read: Reader, path: str, value: object, executor: str) -> NodeType:
    raw = read.mapping(path, value, TYPE)
    node_type = NodeType(
        name=read.name(f"{path}.name", raw.get("name")),
        min_workers=read.number(f"{path}.minWorkers", raw.get("minWorkers"), 0, low=0),
        max_workers=read.number(f"{path}.maxWorkers", raw.get("maxWorkers"), UNLIMITED, low=0),
        resources=read.resources(f"{path}.resources", raw.get("resources")),
        labels=read.pairs(path, "labels", raw.get("labels")),
        cost=read.number(f"{path}.cost", raw.get("cost"), None, low=0, whole=False),
        cost_factor=read.number(f"{path}.costFactor", raw.get("costFactor"), 1.0, low=0, whole=False),
        priority=read.number(f"{path}.priority", raw.get("priority"), 0, low=-MOST),
        headroom=read.number(f"{path}.headroom", raw.get("headroom"), 0, low=0),
        hosts_per_replica=read.number(f"{path}.hostsPerReplica", raw.get("hostsPerReplica"), 1, low=1),
        max_concurrent_launches=read.number(f"{path}.maxConcurrentLaunches", raw.get("maxConcurrentLaunches"), UNLIMITED, low=1),
        max_launches_per_minute=read.number(f"{path}.maxLaunchesPerMinute", raw.get("maxLaunchesPerMinute"), UNLIMITED, low=1),
        is_spot=read.boolean(f"{path}.spot", raw.get("spot")),
        idle_timeout_s=read.idle_timeout(f"{path}.idleTimeout", raw.get("idleTimeout"), None),
        start_params=read.pairs(path, "startParams", raw.get("startParams")),
        env=read.pairs(path, "env", raw.get("env")),
        update_policy=read.choice(f"{path}.updatePolicy", raw.get("updatePolicy"), UpdatePolicy.ROLLING),
    )
    template = _template(read, f"{path}.template", raw.get("template"), executor)
    settled = startparams.settle(read, path, node_type.resources, _stated(raw), node_type.start_params)
    pod = template if executor == KUBERNETES else ""
    found = replace(
        node_type,
        template=template,
        resources=podtemplate.resources(pod, settled.resources, settled.stated),
        start_params=startparams.without_labels(read, path, node_type.labels, settled.start_params),
    )
    return replace(found, resize=resize.read(read, f"{path}.resize", raw.get("resize"), found, settled.stated))


def _check_limits(read: Reader, config: ClusterConfig) -> None:
    minimums = sum(each.min_workers for each in config.node_types)
    if config.max_workers != UNLIMITED and minimums > config.max_workers:
        read.problem("spec.maxWorkers", config.max_workers, f"is below the sum of all minWorkers, {minimums}")
    for index, each in enumerate(config.node_types):
        if each.max_workers != UNLIMITED and each.min_workers > each.max_workers:
            read.problem(f"spec.nodeTypes[{index}].minWorkers", each.min_workers, f"is above maxWorkers, {each.max_workers}")
        _check_replicas(read, f"spec.nodeTypes[{index}]", each)
        _check_pace(read, f"spec.nodeTypes[{index}]", each, each)
    if config.node_types:
        _check_pace(read, "spec", config, max(config.node_types, key=lambda each: each.hosts_per_replica))
    if config.spend_limit is not None:
        _check_spending(read, config.spend_limit, config.node_types)


def _check_replicas(read: Reader, path: str, node_type: NodeType) -> None:
    """Refuse counts of workers that are not of whole replicas: what is meant cannot be told, and such a worker would never come."""
    hosts = node_type.hosts_per_replica
    for key, count in (("minWorkers", node_type.min_workers), ("maxWorkers", node_type.max_workers), ("headroom", node_type.headroom)):
        if count != UNLIMITED and count % hosts:
            less = count - count % hosts
            rule = f"must be a multiple of hostsPerReplica, {hosts}, since it counts workers and they come {hosts} at a time: {less} or {less + hosts}"
            read.problem(f"{path}.{key}", count, rule)


def _check_pace(read: Reader, path: str, limit: ClusterConfig | NodeType, largest: NodeType) -> None:
    """Refuse limits of launches that a replica would never come below: its hosts are launched together."""
    hosts = largest.hosts_per_replica
    of_key = {"maxConcurrentLaunches": limit.max_concurrent_launches, "maxLaunchesPerMinute": limit.max_launches_per_minute}
    for key, most in of_key.items():
        if most != UNLIMITED and most < hosts:
            rule = f"is below hostsPerReplica of {largest.name}, {hosts}, whose hosts are launched together: {hosts} or more"
            read.problem(f"{path}.{key}", most, rule)


def _check_spending(read: Reader, limit: float, types: tuple[NodeType, ...]) -> None:
    for index, each in enumerate(types):
        if each.cost is None:
            read.problem(f"spec.nodeTypes[{index}].cost", None, "is needed, since there is a spendLimit")
    least = sum(each.min_workers * (each.cost or 0) for each in types)
    if least > limit:
        read.problem("spec.spendLimit", limit, f"is below what all minWorkers cost, {least:g}")
