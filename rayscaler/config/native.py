"""The native dialect: a mapping as read from YAML becomes a ClusterConfig. Every problem is told at once, with path, value and rule."""

import difflib
import re
from collections.abc import Mapping
from typing import Any

from rayscaler.config import quantity, shown
from rayscaler.errors import InvalidRequest, Problem
from rayscaler.model.nodetype import IDLE_TIMEOUT_S, NEVER, UNLIMITED, ClusterConfig, Head, NodeType
from rayscaler.model.resources import UNIT, Resources

API_VERSION = "rayscaler.io/v1"
NAME = re.compile(r"[a-z]([a-z0-9-]{0,51}[a-z0-9])?")
"""A DNS-1035 label short enough for the names made of it."""
MOST = 1_000_000
"""Of anything counted: more than any cluster has, and well inside the protocol's int32."""
MOST_TEXT = 10**18
"""Of a number that is taken as text."""
NOT_YET = frozenset({"spendLimit", "headroom", "schedules", "suspend"})
ROOT = {"apiVersion", "kind", "metadata", "spec"}
METADATA = {"name"}
SPEC = {"maxWorkers", "upscalingSpeed", "idleTimeout", "executor", "head", "nodeTypes"}
HEAD = {"resources", "startParams", "env", "template"}
TYPE = {
    "name", "minWorkers", "maxWorkers", "resources", "labels", "cost", "priority", "spot",
    "hostsPerReplica", "idleTimeout", "startParams", "env", "template",
}  # fmt: skip
_PLACES = {"at the top": ROOT, "in spec": SPEC, "in spec.head": HEAD, "in a node type": TYPE}
_OTHER_WORDS = {
    "headGroupSpec": "head", "workerGroupSpecs": "nodeTypes", "groupName": "name", "minReplicas": "minWorkers", "maxReplicas": "maxWorkers",
    "idleTimeoutSeconds": "idleTimeout", "idleTimeoutMinutes": "idleTimeout", "rayStartParams": "startParams", "numOfHosts": "hostsPerReplica",
    "podTypes": "nodeTypes", "podConfig": "template", "rayResources": "resources", "available_node_types": "nodeTypes",
}  # fmt: skip
"""Keys of Ray's and KubeRay's definitions, and what they are called here."""
_PORT = re.compile(r"[1-9][0-9]{0,3}|[1-5][0-9]{4}|6[0-4][0-9]{3}|65[0-4][0-9]{2}|655[0-2][0-9]|6553[0-5]")
PORTS = dict.fromkeys(("port", "ray-client-server-port"), (_PORT, "must be a port from 1 to 65535"))
"""Start parameters of the head that rayscaler itself reads."""
_RESOURCE = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_TEXT = re.compile(r"[^\x00]*")
_LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]{0,252}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_Rule = tuple[re.Pattern[str], str]
"""A pattern, and how it is said."""
_PAIRS: Mapping[str, tuple[_Rule, _Rule]] = {
    "labels": (
        (
            _LABEL_KEY,
            "Ray takes letters, digits, '-', '_' and '.' as a label's name, 63 at most, with a DNS name and '/' before it if you like",
        ),
        (_LABEL, "Ray takes letters, digits, '-', '_' and '.' in a label, 63 at most, the first and the last a letter or digit"),
    ),
    "env": (
        (
            re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]{0,199}"),
            "a variable's name has letters, digits, '_', '-' and '.', and begins with no digit",
        ),
        (_TEXT, "must not contain the character NUL"),
    ),
    "startParams": (
        (
            re.compile(r"[a-z0-9][a-z0-9-]{0,99}"),
            "a flag of `ray start` is written like object-store-memory: lower case, '-' between words, no leading --",
        ),
        (_TEXT, "must not contain the character NUL"),
    ),
}


class _Reader:
    """Collects problems while it reads; a wrong value reads as its default, so that the rest is checked too."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []

    def problem(self, path: str, value: object, rule: str) -> None:
        self.problems.append(Problem(path, shown.value(value), rule))

    def mapping(self, path: str, value: object, keys: set[str] | None = None) -> Mapping[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.problem(path or "document", value, "must be a mapping")
            return {}
        for key in value:
            if not isinstance(key, str):
                self.problem(shown.under(path, key), key, "a key must be text; put it in quotes")
            elif keys is not None and key not in keys:
                self._unknown(shown.under(path, key), key, keys)
        return {key: each for key, each in value.items() if isinstance(key, str)}

    def _unknown(self, where: str, key: str, keys: set[str]) -> None:
        if key in NOT_YET:
            self.problem(where, key, "not yet: this version of rayscaler does not have it; leave it out")
            return
        self.problem(where, key, f"unknown key; {_hint(key, keys)}")

    def number(self, path: str, value: object, default: Any, *, low: float, whole: bool = True) -> Any:
        if value is None:
            return default
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= MOST
        if not is_number or (whole and value != int(value)):  # type: ignore[call-overload]
            self.problem(path, value, f"must be a {'whole ' if whole else ''}number from {low:.0f} to {MOST}")
            return default
        return int(value) if whole else value  # type: ignore[call-overload]

    def boolean(self, path: str, value: object) -> bool:
        if value is not None and not isinstance(value, bool):
            self.problem(path, value, "must be true or false")
        return value is True

    def idle_timeout(self, path: str, value: object, default: float | None) -> float | None:
        if value is None or value == "never":
            return default if value is None else NEVER
        try:
            return quantity.duration_s(value)
        except ValueError as error:
            self.problem(path, value, f"{error}; never means no timeout")
            return default

    def resources(self, path: str, value: object) -> Resources:
        """Return amounts that a node can have: `ray start` takes whole ones only (seen with Ray 2.60)."""
        amounts = {}
        for name, raw in self.mapping(path, value).items():
            where = shown.under(path, name)
            if not _RESOURCE.fullmatch(name):
                self.problem(where, name, "a resource's name has 1 to 200 characters and no control character")
            try:
                amounts[name] = quantity.amount(name, raw)
                if amounts[name] % UNIT:
                    self.problem(where, raw, "`ray start` takes whole amounts on a node; tasks may still ask for fractions")
            except ValueError as error:
                self.problem(where, raw, str(error))
        return Resources(amounts)

    def pairs(self, path: str, kind: str, value: object, special: Mapping[str, _Rule] | None = None) -> tuple[tuple[str, str], ...]:
        """Return the names and texts of a mapping such as env, sorted; `special` has the rules for the texts of some names."""
        for_name, for_text = _PAIRS[kind]
        found = []
        for name, raw in self.mapping(f"{path}.{kind}", value).items():
            where = shown.under(f"{path}.{kind}", name)
            text = self._text(where, raw)
            checks = [(name, name, for_name), (text, raw, (special or {}).get(name, for_text))]
            for checked, said, (pattern, rule) in checks:
                if checked is not None and not pattern.fullmatch(checked):
                    self.problem(where, said, rule)
            found.append((name, text or ""))
        return tuple(sorted(found))

    def _text(self, path: str, value: object) -> str | None:
        """Whole numbers are taken as text; what YAML reads as something else (`on`, 1.10, 2024-01-01) would come out as another text."""
        is_whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MOST_TEXT
        if value is not None and not is_whole and not isinstance(value, str):
            self.problem(path, value, "must be text; put it in quotes")
            return None
        return "" if value is None else str(value)

    def name(self, path: str, value: object) -> str:
        if not isinstance(value, str) or not NAME.fullmatch(value):
            self.problem(path, value, "must be lower-case letters, digits and '-', start with a letter, 53 characters at most")
            return ""
        return value


def _hint(key: str, keys: set[str]) -> str:
    """Say what was meant, as far as one can tell."""
    homes = [place for place, known in _PLACES.items() if key in known]
    if homes:
        return f"it belongs {' or '.join(homes)}"
    word = _OTHER_WORDS.get(key)
    near = [word] if word in keys else difflib.get_close_matches(key[:100], keys, 1)
    return f"did you mean {near[0]}?" if near else f"known keys: {', '.join(sorted(keys))}"


def cluster(document: object) -> ClusterConfig:
    """Return the definition in `document`; raises InvalidRequest with every problem."""
    read = _Reader()
    root = read.mapping("", document, ROOT)
    if root.get("apiVersion") != API_VERSION:
        read.problem("apiVersion", root.get("apiVersion"), f"must be {API_VERSION}")
    if root.get("kind") != "Cluster":
        read.problem("kind", root.get("kind"), "must be Cluster")
    name = read.name("metadata.name", read.mapping("metadata", root.get("metadata"), METADATA).get("name"))
    spec = read.mapping("spec", root.get("spec"), SPEC)
    config = ClusterConfig(
        name=name,
        max_workers=read.number("spec.maxWorkers", spec.get("maxWorkers"), UNLIMITED, low=0),
        upscaling_speed=read.number("spec.upscalingSpeed", spec.get("upscalingSpeed"), None, low=0, whole=False),
        idle_timeout_s=read.idle_timeout("spec.idleTimeout", spec.get("idleTimeout"), IDLE_TIMEOUT_S) or 0.0,
        executor=_executor(read, spec.get("executor")),
        head=_head(read, spec.get("head")),
        node_types=_node_types(read, spec.get("nodeTypes")),
    )
    _check_limits(read, config)
    if read.problems:
        raise InvalidRequest(*read.problems)
    return config


def _executor(read: _Reader, value: object) -> str:
    if value not in (None, "local"):
        read.problem("spec.executor", value, "not yet: this version of rayscaler has the executor 'local' only")
    return "local"


def _head(read: _Reader, value: object) -> Head:
    raw = read.mapping("spec.head", value, HEAD)
    read.mapping("spec.head.template", raw.get("template"))
    return Head(
        resources=read.resources("spec.head.resources", raw.get("resources")),
        start_params=read.pairs("spec.head", "startParams", raw.get("startParams"), PORTS),
        env=read.pairs("spec.head", "env", raw.get("env")),
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
    raw = read.mapping(path, value, TYPE)
    node_type = NodeType(
        name=read.name(f"{path}.name", raw.get("name")),
        min_workers=read.number(f"{path}.minWorkers", raw.get("minWorkers"), 0, low=0),
        max_workers=read.number(f"{path}.maxWorkers", raw.get("maxWorkers"), UNLIMITED, low=0),
        resources=read.resources(f"{path}.resources", raw.get("resources")),
        labels=read.pairs(path, "labels", raw.get("labels")),
        cost=read.number(f"{path}.cost", raw.get("cost"), None, low=0, whole=False),
        priority=read.number(f"{path}.priority", raw.get("priority"), 0, low=-MOST),
        is_spot=read.boolean(f"{path}.spot", raw.get("spot")),
        idle_timeout_s=read.idle_timeout(f"{path}.idleTimeout", raw.get("idleTimeout"), None),
        start_params=read.pairs(path, "startParams", raw.get("startParams")),
        env=read.pairs(path, "env", raw.get("env")),
    )
    hosts = raw.get("hostsPerReplica")
    if hosts is not None and (isinstance(hosts, bool) or hosts != 1):
        read.problem(f"{path}.hostsPerReplica", hosts, "not yet: only 1 in this version of rayscaler")
    read.mapping(f"{path}.template", raw.get("template"))
    return node_type


def _check_limits(read: _Reader, config: ClusterConfig) -> None:
    minimums = sum(each.min_workers for each in config.node_types)
    if config.max_workers != UNLIMITED and minimums > config.max_workers:
        read.problem("spec.maxWorkers", config.max_workers, f"is below the sum of all minWorkers, {minimums}")
    for index, each in enumerate(config.node_types):
        if each.max_workers != UNLIMITED and each.min_workers > each.max_workers:
            read.problem(f"spec.nodeTypes[{index}].minWorkers", each.min_workers, f"is above maxWorkers, {each.max_workers}")
