"""How large a worker's pod is, and the patch that makes it another size while it runs. Pure.

What a node brings may be more or less than its container asks for: so both grow by the same amounts, from where the template began.
"""

import math
from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from typing import Any

from rayscaler.config import quantity
from rayscaler.errors import Unsupported
from rayscaler.k8s import phases
from rayscaler.k8s.objects import Amounts, Condition, Pod
from rayscaler.k8s.pods import Manifest, Template
from rayscaler.model.instance import Size
from rayscaler.model.nodetype import GROWS, NodeType
from rayscaler.model.resources import UNIT, Resources

NAMES = {"CPU": "cpu", "memory": "memory"}
"""What Kubernetes calls it."""
KEPT = 1024
"""Sizes that were reckoned last: most pods of a type are as large."""

_Stated = tuple[tuple[str, str], ...]


def size_of(pod: Pod, made_as: NodeType | None) -> Size | None:
    """Return what a pod is asked to bring, what it really brings, and why that will not be the same; None where it cannot be resized yet."""
    ray = phases.ray_status(pod)
    if made_as is None or not made_as.template or ray is None or ray.state.running is None or pod.metadata.deletion_timestamp:
        return None
    asked = next((each.resources for each in pod.spec.containers or [] if each.name == ray.name), None)
    if asked is None:
        return None
    actual = Amounts() if ray.resources is None else ray.resources
    return _size(made_as, _stated(asked), _stated(actual), _refusal(pod))


def patch(pod: Pod, made_as: NodeType | None, resources: Resources) -> Manifest:
    """Return the strategic merge patch of a pod's `resize` by which it brings so much; raises Unsupported."""
    ray = phases.ray_status(pod)
    if made_as is None or ray is None:
        raise Unsupported(f"pod {pod.metadata.name}: nobody knows what it was launched with")
    base, restarting = _base(made_as), _restarting(made_as)
    wanted: dict[str, dict[str, str]] = {}
    for name in GROWS:
        more = Decimal(resources.get(name, 0) - made_as.resources.get(name, 0)) / UNIT
        stated = base.get(name, {})
        if more and not stated:
            raise Unsupported(
                f"nodeTypes.{made_as.name}.template: Ray's container has no request or limit of {NAMES[name]} that could grow"
            )
        if more and name in restarting:
            raise Unsupported(
                f"nodeTypes.{made_as.name}.template: by its resizePolicy Ray's container starts anew when its {NAMES[name]} changes, which ends its work"
            )
        for kind, amount in stated.items():
            wanted.setdefault(kind, {})[NAMES[name]] = _spelled(amount + more)
    return {"spec": {"containers": [{"name": ray.name, "resources": wanted}]}}


def _spelled(amount: Decimal) -> str:
    """Return an amount as Kubernetes spells it; it has none below a thousandth."""
    thousandths = math.ceil(amount * 1000)
    return f"{thousandths}m" if thousandths % 1000 else str(thousandths // 1000)


def _refusal(pod: Pod) -> str:
    """Return why kubelet will not resize a pod as it is asked to now; one that it puts off may still come."""
    found = (each for each in pod.status.conditions if each.status == "True" and not _is_of_before(each, pod))
    return next((f"{each.reason}: {each.message}".strip(": ") for each in found if (each.type, each.reason) in _REFUSALS), "")


_REFUSALS = frozenset({("PodResizePending", "Infeasible"), ("PodResizeInProgress", "Error")})


def _is_of_before(condition: Condition, pod: Pod) -> bool:
    """Whether it tells of an earlier wish."""
    return 0 < condition.observed_generation < pod.metadata.generation


def _stated(amounts: Amounts) -> tuple[_Stated, _Stated]:
    return tuple(sorted(amounts.requests.items())), tuple(sorted(amounts.limits.items()))


@lru_cache(maxsize=KEPT)
def _size(made_as: NodeType, asked: tuple[_Stated, _Stated], actual: tuple[_Stated, _Stated], refusal: str) -> Size:
    return Size(_brings(made_as, asked), _brings(made_as, actual), refusal)


def _brings(made_as: NodeType, stated: tuple[_Stated, _Stated]) -> Resources:
    """Return what a node brings whose container has so much: as much more than at first as has grown of both its request and its limit."""
    now = dict(zip(("requests", "limits"), map(dict, stated), strict=True))
    brings = dict(made_as.resources.amounts)
    for name, base in _base(made_as).items():
        more = [_amount(now[kind].get(NAMES[name]), amount) - amount for kind, amount in base.items()]
        brings[name] = max(0, brings.get(name, 0) + int(min(more) * UNIT))
    return Resources(brings)


def _amount(text: str | None, otherwise: Decimal) -> Decimal:
    """Return an amount; one that nobody states is what it was."""
    return otherwise if text is None else quantity.kubernetes(text)


@lru_cache(maxsize=KEPT)
def _base(made_as: NodeType) -> Mapping[str, Mapping[str, Decimal]]:
    """Return the requests and limits that Ray's container was launched with, as far as its template states them; a limit alone is a request too."""
    stated: Mapping[str, Any] = _container(made_as).get("resources") or {}
    limits, requests = stated.get("limits") or {}, stated.get("requests") or {}
    found: dict[str, dict[str, Decimal]] = {}
    for name, key in NAMES.items():
        if key in limits or key in requests:
            of_it = {"requests": requests.get(key, limits.get(key)), **({"limits": limits[key]} if key in limits else {})}
            found[name] = {kind: quantity.kubernetes(value) for kind, value in of_it.items()}
    return found


@lru_cache(maxsize=KEPT)
def _restarting(made_as: NodeType) -> frozenset[str]:
    """Return what cannot change without an end of Ray's container, and so of its work (resizePolicy of the container)."""
    policies = {each.get("resourceName"): each.get("restartPolicy") for each in _container(made_as).get("resizePolicy") or []}
    return frozenset(name for name, key in NAMES.items() if policies.get(key) == "RestartContainer")


def _container(made_as: NodeType) -> Mapping[str, Any]:
    return Template.read(f"nodeTypes.{made_as.name}.template", made_as.template).container
