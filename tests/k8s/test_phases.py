"""What a pod's status means: how far it is, what holds it up, how it ended."""

import msgspec
import pytest

from rayscaler.k8s import phases
from rayscaler.k8s.objects import Pod
from rayscaler.k8s.phases import Standing
from rayscaler.model.instance import Phase, Trouble

pytestmark = pytest.mark.tier("unit")
WHERE = "pod p on node n"


def pod(*, bound=True, deleted=False, ray=None, side=None, init=None, conditions=(), **status) -> Pod:
    meta = {"name": "p", **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {})}
    # kubelet sorts by name, whatever the order in the spec
    statuses = [{"name": name, "state": state} for name, state in (("a-side", side), ("ray", ray)) if state]
    inits = [{"name": "fetch", "state": init}] if init else []
    document = {
        "metadata": meta,
        "spec": {"containers": [{"name": "ray"}, {"name": "a-side"}], **({"nodeName": "n"} if bound else {})},
        "status": {**status, "containerStatuses": statuses, "initContainerStatuses": inits, "conditions": list(conditions)},
    }
    return msgspec.convert(document, Pod)


def waiting(reason, message="m"):
    return {"waiting": {"reason": reason, "message": message}}


def ended(code, reason="Error", message=""):
    return {"terminated": {"exitCode": code, "reason": reason, "message": message}}


def troubled(phase, error, trouble=Trouble.RETRIED) -> Standing:
    return Standing(phase, error, error, trouble)


UNSCHEDULABLE = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes are available"}
GATED = {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated", "message": "gates"}
EVICTED = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI", "message": "drained"}
RUNS = {"running": {"startedAt": "2026-01-01T00:00:00Z"}}


@pytest.mark.parametrize(
    ("found", "standing"),
    [
        (pod(bound=False), Standing(Phase.UNSCHEDULED)),
        (
            pod(bound=False, conditions=[UNSCHEDULABLE]),
            troubled(Phase.UNSCHEDULED, "Unschedulable: 0/3 nodes are available", Trouble.UNSCHEDULABLE),
        ),
        (pod(bound=False, conditions=[GATED]), Standing(Phase.UNSCHEDULED, "SchedulingGated: gates")),
        (pod(), Standing(Phase.PULLING, WHERE)),
        (pod(ray=waiting("ContainerCreating")), Standing(Phase.PULLING, WHERE)),
        (pod(ray=waiting("ImagePullBackOff")), troubled(Phase.PULLING, "ray: ImagePullBackOff: m")),
        (
            pod(ray=waiting("PodInitializing"), init=waiting("ErrImagePull")),
            troubled(Phase.PULLING, "fetch: ErrImagePull: m"),
        ),
        (
            pod(ray=waiting("CreateContainerConfigError")),
            troubled(Phase.STARTING, "ray: CreateContainerConfigError: m"),
        ),
        (pod(ray=waiting("RunContainerError")), troubled(Phase.STARTING, "ray: RunContainerError: m")),
        (pod(ray=waiting("InvalidImageName")), troubled(Phase.PULLING, "ray: InvalidImageName: m", Trouble.HOPELESS)),
        (pod(ray=waiting("ErrImageNeverPull")), troubled(Phase.PULLING, "ray: ErrImageNeverPull: m", Trouble.HOPELESS)),
        (pod(ray=RUNS, side=waiting("CrashLoopBackOff")), Standing(Phase.REGISTERING, WHERE)),
        (pod(ray=RUNS, conditions=[EVICTED]), Standing(Phase.REGISTERING, WHERE, "EvictionByEvictionAPI: drained")),
        (pod(ray=RUNS, deleted=True), Standing(Phase.ENDING, WHERE)),
        (
            pod(ray=RUNS, deleted=True, conditions=[EVICTED]),
            Standing(Phase.ENDING, "EvictionByEvictionAPI: drained"),
        ),
        (pod(ray=ended(1, message="last line\n"), side=RUNS), Standing(Phase.GONE, WHERE, "exit code 1: last line")),
        (pod(ray=ended(137, "OOMKilled")), Standing(Phase.GONE, WHERE, "OOMKilled: exit code 137")),
        (pod(ray=ended(90)), Standing(Phase.GONE, "its node was drained")),
        (pod(ray=ended(91)), Standing(Phase.GONE, WHERE, "`ray` cannot be run")),
        (pod(phase="Failed", reason="Evicted", message="low on memory"), Standing(Phase.GONE, WHERE, "Evicted: low on memory")),
    ],
)
def test_a_pod_stands_where_its_ray_container_does(found, standing):
    assert phases.of(found) == standing


def test_a_container_behind_its_startup_probe_still_starts():
    found = pod(ray=RUNS)
    found.status.container_statuses[0].started = False
    assert phases.of(found).phase is Phase.STARTING


@pytest.mark.parametrize(
    ("found", "was_asked", "standing"),
    [
        (pod(ray=ended(143), deleted=True), True, Standing(Phase.GONE, "ended")),
        (pod(ray=RUNS, deleted=True), False, Standing(Phase.GONE, WHERE, "its pod was deleted by somebody else")),
        (pod(ray=RUNS, deleted=True, conditions=[EVICTED]), False, Standing(Phase.GONE, WHERE, "EvictionByEvictionAPI: drained")),
        (pod(ray=ended(0), deleted=True), False, Standing(Phase.GONE, WHERE, "ended by a SIGTERM that was not ours")),
    ],
)
def test_a_deleted_pod_tells_an_error_unless_its_end_was_asked_for(found, was_asked, standing):
    assert phases.deleted(found, was_asked=was_asked) == standing
