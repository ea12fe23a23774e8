"""The native dialect: a mapping as read from YAML becomes a ClusterConfig. Every problem is told at once, with path, value and rule."""

from rayscaler.config.reader import MOST, Reader
from rayscaler.errors import InvalidRequest
from rayscaler.model.nodetype import UNLIMITED, ClusterConfig, Head, NodeType
from rayscaler.model.resources import Resources

API_VERSION = "rayscaler.io/v1"
_SPEC = {"maxWorkers", "upscalingSpeed", "idleTimeout", "executor", "head", "nodeTypes"}
_HEAD = {"resources", "startParams", "env", "template"}
_TYPE = {
    "name", "minWorkers", "maxWorkers", "resources", "labels", "cost", "priority", "spot",
    "hostsPerReplica", "idleTimeout", "startParams", "env", "template",
}  # fmt: skip


def cluster(document: object) -> ClusterConfig:
    """Return the definition in `document`; raises InvalidRequest with every problem."""
    read = Reader()
    root = read.mapping("", document, {"apiVersion", "kind", "metadata", "spec"})
    if root.get("apiVersion") != API_VERSION:
        read.problem("apiVersion", root.get("apiVersion"), f"must be {API_VERSION}")
    if root.get("kind") != "Cluster":
        read.problem("kind", root.get("kind"), "must be Cluster")
    name = read.name("metadata.name", read.mapping("metadata", root.get("metadata")).get("name"))
    spec = read.mapping("spec", root.get("spec"), _SPEC)
    config = ClusterConfig(
        name=name,
        node_types=_node_types(read, spec.get("nodeTypes")),
        max_workers=read.number("spec.maxWorkers", spec.get("maxWorkers"), UNLIMITED, low=0),
        upscaling_speed=read.number("spec.upscalingSpeed", spec.get("upscalingSpeed"), None, low=0, whole=False),
        idle_timeout_s=read.duration("spec.idleTimeout", spec.get("idleTimeout"), 300.0) or 0.0,
        executor=_executor(read, spec.get("executor", "local")),
        head=_head(read, spec.get("head")),
    )
    _check_limits(read, config)
    if read.problems:
        raise InvalidRequest(*read.problems)
    return config


def _executor(read: Reader, value: object) -> str:
    if value != "local":
        read.problem("spec.executor", value, "not yet: this version of rayscaler has the executor 'local' only")
    return "local"


def _head(read: Reader, value: object) -> Head:
    raw = read.mapping("spec.head", value, _HEAD)
    return Head(
        resources=read.resources("spec.head.resources", raw.get("resources")),
        start_params=read.texts("spec.head.startParams", raw.get("startParams")),
        env=read.texts("spec.head.env", raw.get("env")),
    )


def _node_types(read: Reader, value: object) -> tuple[NodeType, ...]:
    if value is not None and not isinstance(value, list):
        read.problem("spec.nodeTypes", value, "must be a list")
        return ()
    found = tuple(_node_type(read, f"spec.nodeTypes[{index}]", raw) for index, raw in enumerate(value or ()))
    seen: set[str] = set()
    for index, each in enumerate(found):
        if each.name and each.name in seen:
            read.problem(f"spec.nodeTypes[{index}].name", each.name, "stands there twice; names are unique")
        seen.add(each.name)
    return found


def _node_type(read: Reader, path: str, value: object) -> NodeType:
    raw = read.mapping(path, value, _TYPE)
    resources = read.resources(f"{path}.resources", raw.get("resources"))
    _check_whole(read, f"{path}.resources", resources)
    if raw.get("hostsPerReplica", 1) != 1:
        read.problem(f"{path}.hostsPerReplica", raw["hostsPerReplica"], "not yet: only 1 in this version of rayscaler")
    return NodeType(
        name=read.name(f"{path}.name", raw.get("name")),
        resources=resources,
        labels=read.texts(f"{path}.labels", raw.get("labels")),
        min_workers=read.number(f"{path}.minWorkers", raw.get("minWorkers"), 0, low=0),
        max_workers=read.number(f"{path}.maxWorkers", raw.get("maxWorkers"), UNLIMITED, low=0),
        cost=read.number(f"{path}.cost", raw.get("cost"), None, low=0, whole=False),
        priority=read.number(f"{path}.priority", raw.get("priority"), 0, low=-MOST),
        is_spot=read.boolean(f"{path}.spot", raw.get("spot")),
        idle_timeout_s=read.duration(f"{path}.idleTimeout", raw.get("idleTimeout"), None),
        env=read.texts(f"{path}.env", raw.get("env")),
        start_params=read.texts(f"{path}.startParams", raw.get("startParams")),
    )


def _check_whole(read: Reader, path: str, resources: Resources) -> None:
    """Refuse what `ray start` refuses on a node (seen with Ray 2.60: "Resource quantities must all be whole numbers")."""
    for name, units in resources.items_sorted:
        if units % 10_000:
            read.problem(f"{path}.{name}", units / 10_000, "`ray start` takes whole amounts on a node; tasks may still ask for fractions")


def _check_limits(read: Reader, config: ClusterConfig) -> None:
    minimums = sum(each.min_workers for each in config.node_types)
    if config.max_workers != UNLIMITED and minimums > config.max_workers:
        read.problem("spec.maxWorkers", config.max_workers, f"is below the sum of all minWorkers, {minimums}")
    for index, each in enumerate(config.node_types):
        if each.max_workers != UNLIMITED and each.min_workers > each.max_workers:
            read.problem(f"spec.nodeTypes[{index}].minWorkers", each.min_workers, f"is above maxWorkers, {each.max_workers}")
