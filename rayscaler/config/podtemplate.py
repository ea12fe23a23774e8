"""Pod templates of a definition: checked as far as rayscaler reads them, and what a node made of one brings. Pure.

Everything else in a template is the API server's to judge: fields newer than this file pass through.
"""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any

from rayscaler.config import quantity, shown, tpu
from rayscaler.config.reader import Reader
from rayscaler.model.resources import OBJECT_STORE_BYTES, UNIT, Resources

RAY_CONTAINERS = ("ray-worker", "ray-head", "ray")
"""Names by which Ray's container is found, wherever it stands in the list; else it is the first."""
OBJECT_STORE_SHARE = Decimal("0.3")
"""Of a pod's memory, as Ray itself takes it."""
ACCELERATORS = (("aws.amazon.com/neuroncore", "neuron_cores"), ("google.com/tpu", "TPU"))
"""Extended resources of Kubernetes, and what Ray calls them; the first that is there counts, as KubeRay has it."""
OURS = "rayscaler.io/"
"""Prefix of labels and annotations that a template may not set."""


def read(reader: Reader, path: str, raw: object) -> str:
    """Return a template as canonical JSON text, "" where there is none; every problem is noted at its path."""
    template = reader.mapping(path, raw, {"metadata", "spec", "apiVersion", "kind"})
    if not template:
        reader.problem(path, raw, "must be a pod template: the executor 'k8s' needs at least spec.containers with an image")
        return ""
    before = len(reader.problems)
    for where, value in _unspeakable(path, template):
        reader.problem(where, value, "has no form in JSON; put it in quotes")
    _check_metadata(reader, f"{path}.metadata", template.get("metadata"))
    spec = reader.mapping(f"{path}.spec", template.get("spec"))
    _check_containers(reader, f"{path}.spec.containers", spec.get("containers"))
    if len(reader.problems) > before:
        return ""
    return json.dumps({key: template[key] for key in ("metadata", "spec") if template.get(key)}, sort_keys=True, separators=(",", ":"))


def opaque(reader: Reader, path: str, raw: object) -> str:
    """Return a template whose meaning is a plugin's as canonical JSON text, "" where there is none."""
    template = reader.mapping(path, raw)
    unspeakable = list(_unspeakable(path, template))
    for where, value in unspeakable:
        reader.problem(where, value, "has no form in JSON; put it in quotes")
    return json.dumps(template, sort_keys=True, separators=(",", ":")) if template and not unspeakable else ""


def ray_container(containers: list[dict[str, Any]]) -> int:
    """Return the index of Ray's container."""
    return ray_index([each.get("name") for each in containers])


def ray_index(names: Sequence[str | None]) -> int:
    """Return the index of Ray's container by the names of all."""
    return next((names.index(name) for name in RAY_CONTAINERS if name in names), 0)


def resources(template: str, declared: Resources, stated: Collection[str]) -> Resources:
    """Return what a node brings: the definition's amounts, and for what it leaves out those of Ray's container (PT-10 to 14).

    `stated` names what the definition speaks of: 0 is a word too, and a Resources does not keep it.

    CPU is the limit, else the request, rounded up; memory likewise, of which the object store takes its share, so that both
    together stay within the pod; GPUs are the limit whose name ends in `gpu`.
    """
    if not template:
        return declared
    spec = json.loads(template)["spec"]
    containers = spec["containers"]
    asked = containers[ray_container(containers)].get("resources") or {}
    limits, requests = (dict(asked.get(kind) or {}) for kind in ("limits", "requests"))
    detected = _detected(limits, {**requests, **limits}, {name: declared.get(name, 0) for name in stated})
    found = {name: amount * UNIT for name, amount in detected if name not in stated}
    head = tpu.head_resource(spec.get("nodeSelector"), found.get("TPU", declared.get("TPU", 0)) // UNIT)
    if head and head not in stated:
        found[head] = UNIT
    return Resources({**found, **declared.amounts})


def _detected(limits: Mapping[str, Any], either: Mapping[str, Any], declared: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    if "cpu" in either:
        yield "CPU", _whole(either["cpu"])
    gpus = [_whole(value) for name, value in sorted(limits.items()) if name.endswith("gpu")]
    if gpus:
        yield "GPU", gpus[0]
    others = [(name, _whole(limits[key])) for key, name in ACCELERATORS if key in limits]
    yield from others[:1]
    if "memory" in either:
        yield from _memory(int(quantity.kubernetes(either["memory"])), declared)


def _memory(total: int, declared: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """Share a pod's bytes between the heap and the object store; what is declared of either leaves the rest to the other."""
    store = int(total * OBJECT_STORE_SHARE)
    if "memory" in declared:
        store = min(store, total - declared["memory"] // UNIT)
    store = max(store, OBJECT_STORE_BYTES)
    yield "object_store_memory", store
    yield "memory", max(0, total - declared.get("object_store_memory", store * UNIT) // UNIT)


def _whole(value: object) -> int:
    return int(quantity.kubernetes(value).to_integral_value(ROUND_CEILING))


def _check_metadata(reader: Reader, path: str, raw: object) -> None:
    metadata = reader.mapping(path, raw)
    for key in ("name", "generateName", "namespace", "ownerReferences"):
        if key in metadata:
            reader.problem(f"{path}.{key}", metadata[key], "rayscaler sets it; leave it out")
    for kind in ("labels", "annotations"):
        for name, value in reader.mapping(f"{path}.{kind}", metadata.get(kind)).items():
            where = shown.under(f"{path}.{kind}", name)
            if not isinstance(value, str):
                reader.problem(where, value, "must be text; put it in quotes")
            if name.startswith(OURS):
                reader.problem(where, value, f"{OURS} is rayscaler's own; choose another prefix")


def _check_containers(reader: Reader, path: str, raw: object) -> None:
    if not isinstance(raw, list) or not raw:
        reader.problem(path, raw, "must be a list of containers, Ray's by name (ray-worker, ray-head, ray) or first")
        return
    containers = [dict(reader.mapping(f"{path}[{index}]", each)) for index, each in enumerate(raw)]
    for index, each in enumerate(containers):
        if not isinstance(each.get("name"), str):
            reader.problem(f"{path}[{index}].name", each.get("name"), "must be text")
    index = ray_container(containers)
    where, container = f"{path}[{index}]", containers[index]
    if not isinstance(container.get("image"), str) or not container["image"]:
        reader.problem(f"{where}.image", container.get("image"), "Ray's container must have an image that has Ray")
    for key in ("command", "args", "env", "volumeMounts"):
        if container.get(key) is not None and not isinstance(container[key], list):
            reader.problem(f"{where}.{key}", container[key], "must be a list")
    stated = reader.mapping(f"{where}.resources", container.get("resources"))
    for kind in ("limits", "requests"):
        for name, value in reader.mapping(f"{where}.resources.{kind}", stated.get(kind)).items():
            try:
                quantity.kubernetes(value)
            except ValueError as error:
                reader.problem(shown.under(f"{where}.resources.{kind}", name), value, str(error))


def _unspeakable(path: str, value: object) -> Iterator[tuple[str, object]]:
    """Yield what YAML reads as something that JSON does not have: dates, sets, keys that are no text, infinite numbers."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            if isinstance(key, str):
                yield from _unspeakable(shown.under(path, key), each)
            else:
                yield shown.under(path, key), key
    elif isinstance(value, list):
        for index, each in enumerate(value):
            yield from _unspeakable(f"{path}[{index}]", each)
    elif isinstance(value, float):
        if value - value != 0:
            yield path, value
    elif value is not None and not isinstance(value, str | int):
        yield path, value
