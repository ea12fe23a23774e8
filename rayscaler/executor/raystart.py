"""What everybody who starts Ray nodes tells `ray start`: amounts, labels, who the node is, and what makes a head ours. Pure; runs nothing.

What is planned must be what Ray registers, so nothing is left to Ray's detection: undeclared CPU, GPU and memory are given
as 0, which Ray leaves out of the node. An object store cannot be 0: undeclared it is OBJECT_STORE_BYTES.
A raylet takes decimals of other resources, but `ray start` refuses to pass them on: with any, START runs in its place.
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from rayscaler.errors import InvalidRequest
from rayscaler.executor.base import LaunchSpec
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import OBJECT_STORE_BYTES, UNIT, WHOLE, Resources

FLAG_OF = {"CPU": "num-cpus", "GPU": "num-gpus", "memory": "memory"}
"""Resources with a flag of their own; 0 where undeclared."""
CONNECT = {"RAY_raylet_client_connect_timeout_milliseconds": "20", "RAY_raylet_client_num_connect_attempts": "500"}
"""How often a raylet tries to reach its own object store: 500 times 20 ms in place of 10 times 1 s. The first try is often too early,
and a quarter of all starts then slept for the whole second (9 of 33; 0 of 16 so)."""
HEAD = "head"
"""Node type of a head."""
HEAD_ENV = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
    "GRPC_ENABLE_FORK_SUPPORT": "0",
    **CONNECT,
}
"""Unless the definition says otherwise. v2 makes `request_resources` and `ray status` speak to the GCS that we read. Nobody waits for the
drain of a head that is told to end: nothing can be moved away from it. Ray's client server forks a server for each driver; with gRPC's
handlers of forks some of these abort before they begin (12 of 980; 0 of 840 without), and that driver is told after 40 s only."""

ANY_PORT = {"dashboard-agent-listen-port": "0", "min-worker-port": "0", "max-worker-port": "0"}
"""0 lets the kernel choose: Ray's fixed ports clash as soon as two nodes share a machine."""
NOT_INHERITED = frozenset(
    {
        "RAY_ADDRESS",  # would lead `ray start` elsewhere
        "RAY_OVERRIDE_RESOURCES",  # would register other amounts than planned
        "RAY_OVERRIDE_LABELS",
        "RAY_CLOUD_INSTANCE_ID",
        "RAY_CLOUD_INSTANCE_TYPE_NAME",
        "RAY_NODE_TYPE_NAME",
        "RAY_NODE_MARKET_TYPE",
        "RAYSCALER_REPLICA",
        "RAYSCALER_HOST_INDEX",
        "RAYSCALER_HOSTS",
    }
)
"""Variables of our own environment that would make a node another than the planned one."""

START = """
import copy, math, sys; sys.path[:] = filter(None, sys.path)
from ray._private.resource_and_label_spec import ResourceAndLabelSpec as Spec
from ray.scripts.scripts import main
check = Spec.to_resource_dict
def amounts(spec):
    rounded = copy.copy(spec); rounded.resources = {name: math.ceil(amount) for name, amount in spec.resources.items()}
    return {name: spec.resources.get(name, amount) for name, amount in check(rounded).items()}
Spec.to_resource_dict = amounts
sys.exit(main())
"""
"""`ray` itself, in which the check of a node's amounts sees them rounded up (Ray 2.52 to 2.60). So a node has its decimals from the
moment it registers, after each restart too; a resource added to a node that runs comes later, and groups did not find it."""


def node_flags(node_type: NodeType) -> dict[str, str]:
    """Return the flags that make a node one of the type; its own start parameters win."""
    return {**resource_flags(node_type.resources), **label_flags(node_type.labels), **dict(node_type.start_params)}


def identity(spec: LaunchSpec) -> dict[str, str]:
    """Return the variables by which a node says who it is; nothing may overrule them."""
    market = {"RAY_NODE_MARKET_TYPE": "spot"} if spec.node_type.is_spot else {}
    return {"RAY_CLOUD_INSTANCE_ID": spec.instance_id, "RAY_NODE_TYPE_NAME": spec.node_type.name, **market, **replica(spec)}


def replica(spec: LaunchSpec) -> dict[str, str]:
    """Return the variables by which a host of several knows which it is; none where a replica has one host."""
    if not spec.replica:
        return {}
    return {
        "RAYSCALER_REPLICA": spec.replica,
        "RAYSCALER_HOST_INDEX": str(spec.host),
        "RAYSCALER_HOSTS": str(spec.node_type.hosts_per_replica),
    }


def worker_argv(node_type: NodeType, head_address: str, ray: str = "ray") -> list[str]:
    """Return the command of a node on any machine that it may share; it runs for as long as the node does."""
    flags = {"address": head_address, **ANY_PORT, **node_flags(node_type)}
    return [*ray_command(ray, node_type.resources), "start", "--block", *spelled(flags)]


def worker_env(spec: LaunchSpec) -> dict[str, str]:
    """Return what a node's environment has besides its machine's: the node type's own, and who it is."""
    return {"RAY_USAGE_STATS_ENABLED": "0", **CONNECT, **dict(spec.node_type.env), **identity(spec)}


def head_command(ray: str, resources: Resources, own: Mapping[str, str], start_params: Iterable[tuple[str, str]]) -> list[str]:
    """Return the `ray start` of a head: without Ray's own autoscaler, which rayscaler replaces. Its start parameters win over `own` flags."""
    flags = {**own, **resource_flags(resources), **dict(start_params)}
    return [*ray_command(ray, resources), "start", "--head", "--block", "--no-monitor", *spelled(flags)]


def head_identity(instance_id: str) -> dict[str, str]:
    """Return the variables by which a head says who it is; nothing may overrule them."""
    return {"RAY_CLOUD_INSTANCE_ID": instance_id, "RAY_NODE_TYPE_NAME": HEAD}


def resource_flags(resources: Resources) -> dict[str, str]:
    """Return the flags that register exactly `resources`; raises InvalidRequest for amounts that no node can have."""
    problems = [
        f"resources.{name}: {units / UNIT:g}: a node has whole amounts of {name}; round it, tasks may still ask for fractions"
        for name, units in resources.items_sorted
        if name in WHOLE and units % UNIT
    ]
    if problems:
        raise InvalidRequest(*problems)
    left = {name: _as_ray_reads(units) for name, units in resources.items_sorted}
    flags = {flag: str(left.pop(name, 0)) for name, flag in FLAG_OF.items()}
    flags["object-store-memory"] = str(left.pop("object_store_memory", OBJECT_STORE_BYTES))
    return {**flags, "resources": json.dumps(left)} if left else flags


def ray_command(ray: str, resources: Resources) -> list[str]:
    """Return how to run `ray` for a node with `resources`: with decimals, the Python beside it runs START."""
    is_whole = all(units % UNIT == 0 for units in resources.values())
    return [ray] if is_whole else [str(Path(ray).with_name("python3")), "-c", START]


def _as_ray_reads(units: int) -> float:
    """Return the number that Ray turns into these units: it cuts off where we round, and 10000 x 0.57 is a little below 5700."""
    amount = units / UNIT
    if units % UNIT == 0:
        return units // UNIT
    return amount if int(amount * UNIT) == units else math.nextafter(amount, math.inf)


def label_flags(labels: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Return the flag that sets a node's labels, none if there are none."""
    return {"labels": ",".join(f"{key}={value}" for key, value in labels)} if labels else {}


def spelled(flags: Mapping[str, str]) -> list[str]:
    """Return flags as `ray start` reads them: an empty value is a flag without one."""
    return [f"--{name}={value}" if value else f"--{name}" for name, value in flags.items()]
