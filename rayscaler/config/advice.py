"""What a definition may say and hardly means: warnings, never a reason to refuse it. Pure."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from rayscaler.config import podtemplate, shown
from rayscaler.config.executors import KUBERNETES, LOCAL
from rayscaler.errors import Problem
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import BYTES, WHOLE

HASTY_S = 5.0
"""A worker needs some seconds to start, and Ray shows for up to 2 s less work than there is."""

NOTICE_S = 30
"""The shortest notice that clouds give before they take a spot machine back."""

OWN = {name.lower(): name for name in WHOLE}
"""Ray's own resources, by their names in lower case."""
NO_DEVICES = frozenset({"CPU"} | BYTES)
DEVICE_FLAGS = frozenset({"num-gpus", "resources"})
"""Start parameters that may say how many devices there are."""


def of(config: ClusterConfig, document: Mapping[str, Any]) -> tuple[Problem, ...]:
    """Return what somebody should look at in a good definition, read from `document`."""
    return tuple(_all(config, document.get("spec") or {}))


def _all(config: ClusterConfig, spec: Mapping[str, Any]) -> Iterator[Problem]:
    if config.max_workers == 0:
        yield Problem("spec.maxWorkers", "0", "no worker of any type will ever be launched; leave it out if there is no limit")
    yield from _hasty("spec.idleTimeout", spec.get("idleTimeout"), config.idle_timeout_s)
    yield from _misspelt("spec.head.resources", (spec.get("head") or {}).get("resources"))
    yield from _unused(config.executor != KUBERNETES, config.executor, "spec.head.template", (spec.get("head") or {}).get("template"))
    costs = [each.cost is not None for each in config.node_types]
    for index, (each, raw) in enumerate(zip(config.node_types, spec.get("nodeTypes") or (), strict=True)):
        path = f"spec.nodeTypes[{index}]"
        if each.max_workers == 0:
            yield Problem(f"{path}.maxWorkers", "0", f"{each.name} will never be launched; leave it out if there is no limit")
        if not each.resources:
            yield Problem(f"{path}.resources", "{}", f"{each.name} brings nothing, so no task that asks for something fits on it")
        yield from _misspelt(f"{path}.resources", raw.get("resources"))
        if any(costs) and each.cost is None:
            yield Problem(f"{path}.cost", "None", "other types have a cost; it is compared only where every type that fits has one")
        if each.cost is None and raw.get("costFactor") is not None:
            yield Problem(f"{path}.costFactor", f"{each.cost_factor:g}", "says nothing without a cost")
        if each.resize is not None and each.resize.resources == each.resources:
            yield Problem(
                f"{path}.resize.maxResources", str(each.resize.resources), f"is what {each.name} is launched with, so nothing grows"
            )
        yield from _hasty(f"{path}.idleTimeout", raw.get("idleTimeout"), each.idle_timeout_s)
        yield from _unused(config.executor == LOCAL, config.executor, f"{path}.template", raw.get("template"))
        if config.executor == KUBERNETES:
            yield from _curt(f"{path}.template.spec.terminationGracePeriodSeconds", each)
            yield from _uncounted(f"{path}.template.spec.containers", each, raw)


def _hasty(path: str, raw: object, timeout_s: float | None) -> Iterator[Problem]:
    if timeout_s is not None and timeout_s < HASTY_S:
        yield Problem(path, shown.value(raw), f"is below {HASTY_S:.0f}s: nodes will end between two tasks and be launched again")


def _misspelt(path: str, amounts: Mapping[str, Any] | None) -> Iterator[Problem]:
    """Warn of Ray's own resources in another spelling: to Ray and to us these are others, which no task asks for (PT-14)."""
    for name, amount in (amounts or {}).items():
        meant = OWN.get(name.lower().replace("-", "_"), name)
        if meant != name:
            rule = f"is another resource than {meant}, which tasks ask for; Ray tells them apart: write {meant}"
            yield Problem(shown.under(path, name), shown.value(amount), rule)


def _curt(path: str, node_type: NodeType) -> Iterator[Problem]:
    """Warn where a spot worker may not use the notice it gets: its pod is killed sooner."""
    grace_s = json.loads(node_type.template)["spec"].get("terminationGracePeriodSeconds") if node_type.template else None
    if node_type.is_spot and isinstance(grace_s, int) and grace_s < NOTICE_S:
        yield Problem(
            path, str(grace_s), f"is below the {NOTICE_S} s of a spot machine's notice: work is killed that could have ended; leave it out"
        )


def _uncounted(path: str, node_type: NodeType, raw: Mapping[str, Any]) -> Iterator[Problem]:
    """Warn of claimed devices: a claim names a class and not what Ray may count, so they count only where the definition says so (PT-12)."""
    containers = json.loads(node_type.template)["spec"]["containers"] if node_type.template else [{}]
    index = podtemplate.ray_container(containers)
    claims = (containers[index].get("resources") or {}).get("claims")
    if claims and set(raw.get("resources") or {}) <= NO_DEVICES and not DEVICE_FLAGS & set(raw.get("startParams") or {}):
        rule = "devices by claim are not counted, so no task gets any: say in the node type's resources what they are, such as GPU: 1"
        yield Problem(f"{path}[{index}].resources.claims", shown.value(claims), rule)


def _unused(is_unused: bool, executor: str, path: str, raw: object) -> Iterator[Problem]:
    if raw and is_unused:
        yield Problem(path, shown.value(raw), f"the executor {executor!r} starts no pods and leaves it aside")
