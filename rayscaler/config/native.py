"""The native dialect: a mapping as read from YAML becomes a ClusterConfig. Every problem is told at once, with path, value and rule."""

import difflib
import re
import reprlib
from collections.abc import Mapping
from typing import Any

from rayscaler.config import quantity
from rayscaler.errors import InvalidRequest
from rayscaler.model.nodetype import UNLIMITED, ClusterConfig, Head, NodeType
from rayscaler.model.resources import Resources

API_VERSION = "rayscaler.io/v1"
NAME = re.compile(r"[a-z]([a-z0-9-]{0,51}[a-z0-9])?")
"""A DNS-1035 label short enough for the names made of it."""
MOST = 1_000_000
"""Of anything counted: more than any cluster has, and well inside the protocol's int32."""
NOT_YET = frozenset({"spendLimit", "headroom", "schedules", "suspend"})
_SPEC = {"maxWorkers", "upscalingSpeed", "idleTimeout", "executor", "head", "nodeTypes"}
_HEAD = {"resources", "startParams", "env", "template"}
_TYPE = {
    "name", "minWorkers", "maxWorkers", "resources", "labels", "cost", "priority", "spot",
    "hostsPerReplica", "idleTimeout", "startParams", "env", "template",
}  # fmt: skip


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 100
_SHORT.maxlevel = 2


class _Reader:
    """Collects problems while it reads; a wrong value reads as its default, so that the rest is checked too."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def problem(self, path: str, value: object, rule: str) -> None:
        self.problems.append(f"{path}: {_shown(value)}: {rule}")

    def mapping(self, path: str, value: object, keys: set[str] | None = None) -> Mapping[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.problem(path or "document", value, "must be a mapping")
            return {}
        for key in value:
            if keys is not None and key not in keys:
                self._unknown(path, str(key), keys)
        return value

    def _unknown(self, path: str, key: str, keys: set[str]) -> None:
        where = f"{path}.{key[:100]}" if path else key[:100]
        if key in NOT_YET:
            self.problem(where, key, "not yet: this version of rayscaler does not have it; leave it out")
            return
        near = difflib.get_close_matches(key[:100], keys, 1)
        hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(sorted(keys))}"
        self.problem(where, key, f"unknown key; {hint}")

    def number(self, path: str, value: object, default: Any, *, low: float, whole: bool = True) -> Any:
        if value is None:
            return default
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= MOST:
            self.problem(path, value, f"must be a {'whole ' if whole else ''}number from {low:.0f} to {MOST}")
            return default
        return value

    def boolean(self, path: str, value: object) -> bool:
        if value is not None and not isinstance(value, bool):
            self.problem(path, value, "must be true or false")
        return value is True

    def duration(self, path: str, value: object, default: float | None) -> float | None:
        if value is None:
            return default
        try:
            return quantity.duration_s(value)
        except ValueError as error:
            self.problem(path, value, str(error))
            return default

    def resources(self, path: str, value: object) -> Resources:
        amounts = {}
        for name, raw in self.mapping(path, value).items():
            try:
                amounts[str(name)] = quantity.amount(str(name), raw)
            except ValueError as error:
                self.problem(f"{path}.{name}", raw, str(error))
        return Resources(amounts)

    def texts(self, path: str, value: object) -> tuple[tuple[str, str], ...]:
        return tuple(sorted((str(k), self._text(f"{path}.{k}", v)) for k, v in self.mapping(path, value).items()))

    def _text(self, path: str, value: object) -> str:
        """Numbers are taken as text; what YAML turned into something else (`on`, 2024-01-01) would come out as another text."""
        if value is None:
            return ""
        is_huge = isinstance(value, int) and abs(value) > MOST**3
        if isinstance(value, bool) or not isinstance(value, str | int | float) or is_huge:
            self.problem(path, value, "must be text; put it in quotes")
            return ""
        return str(value)

    def name(self, path: str, value: object) -> str:
        if not isinstance(value, str) or not NAME.fullmatch(value):
            self.problem(path, value, "must be lower-case letters, digits and '-', start with a letter, 53 characters at most")
            return ""
        return value


def _shown(value: object) -> str:
    """Show a value in a problem: short, also where YAML aliases make a small document a huge value."""
    try:
        return _SHORT.repr(value)[:200]
    except ValueError:  # Python writes out no integer of thousands of digits
        return "a huge number"


def cluster(document: object) -> ClusterConfig:
    """Return the definition in `document`; raises InvalidRequest with every problem."""
    read = _Reader()
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


def _executor(read: _Reader, value: object) -> str:
    if value != "local":
        read.problem("spec.executor", value, "not yet: this version of rayscaler has the executor 'local' only")
    return "local"


def _head(read: _Reader, value: object) -> Head:
    raw = read.mapping("spec.head", value, _HEAD)
    return Head(
        resources=read.resources("spec.head.resources", raw.get("resources")),
        start_params=read.texts("spec.head.startParams", raw.get("startParams")),
        env=read.texts("spec.head.env", raw.get("env")),
    )


def _node_types(read: _Reader, value: object) -> tuple[NodeType, ...]:
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


def _node_type(read: _Reader, path: str, value: object) -> NodeType:
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


def _check_whole(read: _Reader, path: str, resources: Resources) -> None:
    """Refuse what `ray start` refuses on a node (seen with Ray 2.60: "Resource quantities must all be whole numbers")."""
    for name, units in resources.items_sorted:
        if units % 10_000:
            read.problem(f"{path}.{name}", units / 10_000, "`ray start` takes whole amounts on a node; tasks may still ask for fractions")


def _check_limits(read: _Reader, config: ClusterConfig) -> None:
    minimums = sum(each.min_workers for each in config.node_types)
    if config.max_workers != UNLIMITED and minimums > config.max_workers:
        read.problem("spec.maxWorkers", config.max_workers, f"is below the sum of all minWorkers, {minimums}")
    for index, each in enumerate(config.node_types):
        if each.max_workers != UNLIMITED and each.min_workers > each.max_workers:
            read.problem(f"spec.nodeTypes[{index}].minWorkers", each.min_workers, f"is above maxWorkers, {each.max_workers}")
