"""What a pod's status means: how far it is, what holds it up, how it ended."""

from datetime import UTC, datetime

import msgspec
import pytest

from rayscaler.k8s import phases
from rayscaler.k8s.objects import Pod
from rayscaler.k8s.phases import Standing
from rayscaler.model.instance import Phase, Trouble

pytestmark = pytest.mark.tier("unit")
WHERE = "pod p on node n"
NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC).timestamp()


def pod(*, bound=True, deleted=False, terminate_by="", grace_s=30, ray=None, side=None, init=None, conditions=(), **status) -> Pod:
    meta = {
        "name": "p",
        "annotations": {"rayscaler.io/terminate-by": terminate_by},
        **({"deletionTimestamp": "2026-01-01T00:00:00Z"} if deleted else {}),
    }
    # kubelet sorts by name, whatever the order in the spec
    statuses = [{"name": name, "state": state} for name, state in (("a-side", side), ("ray", ray)) if state]
    inits = [{"name": "fetch", "state": init}] if init else []
    document = {
        "metadata": meta,
        "spec": {
            "terminationGracePeriodSeconds": grace_s,
            "containers": [{"name": "ray"}, {"name": "a-side"}],
            **({"nodeName": "n"} if bound else {}),
        },
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
        (pod(bound=False, conditions=[GATED]), troubled(Phase.UNSCHEDULED, "SchedulingGated: gates", Trouble.GATED)),
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
        (pod(ray=RUNS, deleted=True), Standing(Phase.ENDING, WHERE, "its pod is being deleted by somebody else", ends_at=NEW_YEAR)),
        (
            pod(ray=RUNS, deleted=True, conditions=[EVICTED]),
            Standing(Phase.ENDING, "EvictionByEvictionAPI: drained", "EvictionByEvictionAPI: drained", ends_at=NEW_YEAR),
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


NOTICED = {**EVICTED, "reason": "TerminationByKubelet", "lastTransitionTime": "2026-01-01T00:00:00Z"}
SAYS = "rayscaler.io/terminate-by is "


@pytest.mark.parametrize(
    ("found", "ends_in", "why"),
    [
        pytest.param(pod(ray=RUNS), None, "", id="nobody has said anything"),
        pytest.param(pod(ray=RUNS, terminate_by="2026-01-01T00:02:00Z"), 120, f"{SAYS}2026-01-01T00:02:00Z", id="an annotation"),
        pytest.param(
            pod(ray=RUNS, terminate_by="2026-01-01T02:02:00+02:00"), 120, f"{SAYS}2026-01-01T02:02:00+02:00", id="in another zone"
        ),
        pytest.param(pod(ray=RUNS, terminate_by="2026-01-01T00:02:00"), None, "", id="a time without a zone is no time"),
        pytest.param(pod(ray=RUNS, terminate_by="soon"), None, "", id="nor is a word"),
        pytest.param(
            pod(ray=RUNS, conditions=[NOTICED], grace_s=60), 60, "TerminationByKubelet: drained", id="a disruption, then its grace"
        ),
        pytest.param(pod(ray=RUNS, conditions=[{**NOTICED, "status": "False"}]), None, "", id="a disruption that is over"),
        pytest.param(pod(bound=False, terminate_by="2026-01-01T00:02:00Z"), 120, f"{SAYS}2026-01-01T00:02:00Z", id="before it runs"),
        pytest.param(
            pod(ray=RUNS, deleted=True, conditions=[NOTICED], terminate_by="2026-01-01T00:00:10Z"),
            0,
            "TerminationByKubelet: drained",
            id="the earliest of several",
        ),
        pytest.param(pod(ray=ended(1), terminate_by="2026-01-01T00:02:00Z"), None, "exit code 1", id="it has ended already"),
    ],
)
def test_the_end_that_others_announce_is_told(found, ends_in, why):
    standing = phases.of(found)
    assert standing.ends_at == (None if ends_in is None else NEW_YEAR + ends_in)
    assert standing.error == why


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
