"""How far a worker's pod has come, and what holds it up. Pure.

Ray's container decides, whatever sidecars do: once it has ended, the instance is gone, for it is never started again.
"""

import contextlib
from dataclasses import dataclass, replace
from datetime import datetime

from rayscaler import rejoin
from rayscaler.config import podtemplate
from rayscaler.executor import exits
from rayscaler.k8s import labels
from rayscaler.k8s.objects import Condition, ContainerStatus, Pod
from rayscaler.model.instance import Phase, Trouble

MADE = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff", "PreCreateHookError"})
"""Reasons of waiting that come after the image is there."""
NO_TROUBLE = frozenset({"", "ContainerCreating", "PodInitializing"})
HOPELESS = frozenset({"InvalidImageName", "ErrImageNeverPull"})
"""Reasons of waiting that only another template ends; for all others kubelet tries again: a registry comes back, a Secret is made."""
HELD_UP = {"Unschedulable": Trouble.UNSCHEDULABLE, "SchedulingGated": Trouble.GATED}
"""Reasons of not being scheduled that others may end; a gate is taken away by who has put it there, such as a queue for a quota."""


@dataclass(frozen=True)
class Standing:
    """Where a pod stands; `error` is why it does not get on, or how it ended; `ends_at` when others will end it (wall seconds)."""

    phase: Phase
    detail: str = ""
    error: str = ""
    trouble: Trouble | None = None
    ends_at: float | None = None


def of(pod: Pod) -> Standing:
    """Return where a pod stands, and when it will end if that was announced: by its deletion, a disruption, or our annotation."""
    standing = _standing(pod)
    announced = [] if standing.phase is Phase.GONE else _announced(pod)
    if not announced:
        return standing
    ends_at, why = min(announced)
    return replace(standing, ends_at=ends_at, error=standing.error or why)


def _standing(pod: Pod) -> Standing:
    if pod.metadata.deletion_timestamp:
        return Standing(Phase.ENDING, _why(pod) or _where(pod))
    ray = ray_status(pod)
    ended = _ended(pod, ray)
    if ended is not None:
        return ended
    if not pod.spec.node_name:
        return _unscheduled(pod)
    if ray is not None and ray.state.running is not None:
        # A running pod that somebody is about to end says so beforehand.
        return Standing(Phase.STARTING if ray.started is False else Phase.REGISTERING, _where(pod), _why(pod))
    return _waiting(pod, ray)


def deleted(pod: Pod, *, was_asked: bool) -> Standing:
    """Return what the end of a pod object means, by the pod's last word."""
    if was_asked:
        return Standing(Phase.GONE, "ended")
    return _ended(pod, ray_status(pod)) or Standing(Phase.GONE, _where(pod), _why(pod) or "its pod was deleted by somebody else")


def ray_status(pod: Pod) -> ContainerStatus | None:
    """Return what kubelet says of Ray's container, if anything yet."""
    names = [each.name for each in pod.spec.containers or []]
    name = names[podtemplate.ray_index(names)] if names else ""
    return next((each for each in pod.status.container_statuses if each.name == name), None)


def seconds(timestamp: str) -> float:
    """Return the wall seconds of an RFC 3339 time; raises ValueError for anything else, one without a zone included."""
    found = datetime.fromisoformat(timestamp)
    if found.tzinfo is None:
        raise ValueError(f"{timestamp}: no time zone")
    return found.timestamp()


def _announced(pod: Pod) -> list[tuple[float, str]]:
    """Return each moment at which somebody will end the pod, and why."""
    found = []
    if pod.metadata.deletion_timestamp:
        found.append((seconds(pod.metadata.deletion_timestamp), _why(pod) or "its pod is being deleted by somebody else"))
    disrupted = _disruption(pod)
    if disrupted is not None and disrupted.last_transition_time:
        # Whoever disrupts a pod deletes it next, or stops it as its node shuts down: within its grace.
        found.append((seconds(disrupted.last_transition_time) + pod.spec.termination_grace_period_seconds, _why(pod)))
    said = pod.metadata.annotations.terminate_by
    with contextlib.suppress(ValueError):  # what is no time announces nothing
        found += [(seconds(said), f"{labels.TERMINATE_BY} is {said}")] if said else []
    return found


def _disruption(pod: Pod) -> Condition | None:
    found = _condition(pod, "DisruptionTarget")
    return found if found is not None and found.status == "True" else None


def _ended(pod: Pod, ray: ContainerStatus | None) -> Standing | None:
    """Return how a pod has ended, or None while it has not."""
    how = None if ray is None else ray.state.terminated
    if how is None:
        if pod.status.phase not in ("Failed", "Succeeded"):
            return None
        return Standing(Phase.GONE, _where(pod), _why(pod) or f"the pod {pod.status.phase.lower()} without Ray's container")
    if how.exit_code == rejoin.DRAINED:
        return Standing(Phase.GONE, exits.meaning(how.exit_code))
    why = _why(pod) or (how.reason if how.reason not in ("Error", "Completed") else "")
    parts = [why, exits.meaning(how.exit_code), how.message.strip()]
    return Standing(Phase.GONE, _where(pod), ": ".join(part for part in parts if part))


def _unscheduled(pod: Pod) -> Standing:
    scheduled = _condition(pod, "PodScheduled")
    if scheduled is None or scheduled.status != "False":
        return Standing(Phase.UNSCHEDULED)
    said = f"{scheduled.reason}: {scheduled.message}".strip(": ")
    trouble = HELD_UP.get(scheduled.reason)
    return Standing(Phase.UNSCHEDULED, said) if trouble is None else Standing(Phase.UNSCHEDULED, said, said, trouble)


def _waiting(pod: Pod, ray: ContainerStatus | None) -> Standing:
    """Return where a bound pod stands before Ray's container runs; an init container that is stuck says more than Ray's that waits."""
    waits = [each for each in [*pod.status.init_container_statuses, *([ray] if ray else [])] if each.state.waiting is not None]
    for each in waits:
        waiting = each.state.waiting
        if waiting is not None and waiting.reason not in NO_TROUBLE:
            said = f"{each.name}: {waiting.reason}: {waiting.message}".strip(": ")
            trouble = Trouble.HOPELESS if waiting.reason in HOPELESS else Trouble.RETRIED
            return Standing(Phase.STARTING if each is ray and waiting.reason in MADE else Phase.PULLING, said, said, trouble)
    return Standing(Phase.PULLING, _where(pod))


def _why(pod: Pod) -> str:
    """Return who put an end to a pod, if anybody: eviction, preemption, a lost node."""
    disrupted = _disruption(pod)
    if disrupted is not None:
        return f"{disrupted.reason}: {disrupted.message}".strip(": ")
    return f"{pod.status.reason}: {pod.status.message}".strip(": ")


def _where(pod: Pod) -> str:
    return f"pod {pod.metadata.name} on node {pod.spec.node_name}" if pod.spec.node_name else f"pod {pod.metadata.name}"


def _condition(pod: Pod, kind: str) -> Condition | None:
    return next((each for each in pod.status.conditions if each.type == kind), None)
