"""Which head serves and what is done next, as a table (design 2b.3, 2b.4)."""

from dataclasses import replace

import pytest

from rayscaler.k8s import labels
from rayscaler.k8s.objects import (
    HEAD_PODS,
    Annotations,
    Condition,
    Container,
    ContainerState,
    ContainerStatus,
    HeadLabels,
    HeadMeta,
    HeadPod,
    OwnerReference,
    PodSpec,
    PodStatus,
    Running,
    Service,
    ServiceSpec,
    Terminated,
    Waiting,
)
from rayscaler.k8s.pods import Owner
from rayscaler.k8s.services import _ports
from rayscaler.k8s.succession import Deed, HeadPhase, Scene, Step, decide, fact, is_unreachable, lost, superseded

pytestmark = pytest.mark.tier("unit")
OWNER = Owner("v1", "ConfigMap", "demo", "o")
UP = ContainerState(running=Running())


def meta(name, epoch="", **fields):
    mine = HeadLabels(cluster="demo", role="head", manager="rayscaler", epoch=str(epoch))
    return HeadMeta(**{"name": name, "labels": mine, "owner_references": [OwnerReference(OWNER.uid)], **fields})


def service(epoch=1, **fields):
    spec = ServiceSpec(selector=labels.head_selector("demo", epoch), ports=_ports())
    return Service(metadata=meta("demo-head", **fields), spec=spec)


def pod(epoch=1, *, state=UP, started=True, ready="True", reason="", containers="True", status=None, label=None, made_as="h", **fields):
    conditions = [Condition("Ready", ready, reason=reason), Condition("ContainersReady", containers)]
    statuses = [ContainerStatus("ray", started=started, state=state)]
    return HeadPod(
        metadata=meta(f"demo-head-{epoch}", epoch if label is None else label, annotations=Annotations(spec_hash=made_as), **fields),
        spec=PodSpec("n1", [Container("ray")]),
        status=status or PodStatus("Running", conditions=conditions, container_statuses=statuses),
    )


def scene(service=None, *pods, made=0, **fields):
    by_epoch = {labels.head_epoch("demo", each.metadata.name): each for each in pods}
    return Scene("demo", OWNER, "h", service, by_epoch, max([made, *by_epoch]), **fields)


def of_conditions(*conditions):
    return PodStatus("Running", conditions=list(conditions), container_statuses=[ContainerStatus("ray", started=True, state=UP)])


ENDED = ContainerState(terminated=Terminated(exit_code=137))
PULLING = ContainerState(waiting=Waiting("ImagePullBackOff", "no such image"))
NOTICE = of_conditions(
    Condition("Ready", "True"), Condition("DisruptionTarget", "True", reason="PreemptionByScheduler", message="for another")
)
DELETED = "its pod was deleted"


@pytest.mark.parametrize(
    ("seen", "step"),
    [
        pytest.param(scene(), Step(Deed.MAKE_SERVICE, 1), id="at first there is the Service of epoch 1"),
        pytest.param(scene(service(1)), Step(Deed.MAKE_POD, 1), id="then its pod"),
        pytest.param(scene(service(4)), Step(Deed.MAKE_POD, 4), id="a swap whose maker died is followed by its pod"),
        pytest.param(scene(service(1), pod(1)), Step(Deed.REST, 1), id="a head that is there is left alone"),
        pytest.param(scene(service(3), made=3), Step(Deed.MEND_SERVICE, 4, DELETED), id="a deleted head: the Service is swapped first"),
        pytest.param(scene(service(4), made=3), Step(Deed.MAKE_POD, 4), id="and then the next one is made"),
        pytest.param(scene(service(4), pod(3), made=3), Step(Deed.MAKE_POD, 4), id="which does not wait for the old one's end"),
        pytest.param(scene(None, pod(3)), Step(Deed.MAKE_SERVICE, 3), id="a deleted Service is made again for the head that is there"),
        pytest.param(scene(None, made=3), Step(Deed.MAKE_SERVICE, 4, DELETED), id="no epoch returns though Service and pod are deleted"),
        pytest.param(scene(service(2), pod(3)), Step(Deed.MEND_SERVICE, 3), id="a Service set back is set to the newest"),
        pytest.param(
            scene(service(1), pod(1, deletion_timestamp="2026-01-01T00:00:00Z")),
            Step(Deed.MEND_SERVICE, 2),
            id="a head told to end is lost",
        ),
        pytest.param(scene(service(1), pod(1, state=ENDED)), Step(Deed.MEND_SERVICE, 2), id="so is one whose container has ended"),
        pytest.param(scene(service(1), pod(1, status=PodStatus("Failed"))), Step(Deed.MEND_SERVICE, 2), id="one whose pod failed"),
        pytest.param(scene(service(1), pod(1, status=NOTICE)), Step(Deed.MEND_SERVICE, 2), id="one that somebody is about to end"),
        pytest.param(scene(service(1), pod(1, label=9)), Step(Deed.MEND_SERVICE, 2), id="one whose label was changed"),
        pytest.param(
            scene(service(1), pod(1, owner_references=[OwnerReference("old")])),
            Step(Deed.MEND_SERVICE, 2),
            id="one of a definition that is gone",
        ),
        pytest.param(scene(service(1), pod(1, owner_references=[])), Step(Deed.REST, 1), id="an orphaned one serves on"),
        pytest.param(
            scene(service(1), pod(1, ready="False"), unreachable_s=29.0), Step(Deed.REST, 1), id="a node out of sight is waited for"
        ),
        pytest.param(scene(service(1), pod(1, ready="False"), unreachable_s=30.0), Step(Deed.MEND_SERVICE, 2), id="for 30 seconds"),
        pytest.param(scene(service(1), pod(1, ready="Unknown"), unreachable_s=30.0), Step(Deed.MEND_SERVICE, 2), id="however that is said"),
        pytest.param(
            scene(service(1), pod(1, ready="False", reason="ContainersNotReady", containers="False"), unreachable_s=99.0),
            Step(Deed.REST, 1),
            id="a head whose GCS is started again in its pod is no lost one",
        ),
        pytest.param(scene(service(1), pod(1, made_as="old")), Step(Deed.REST, 1), id="another definition restarts no running head"),
        pytest.param(
            scene(service(1), pod(1, made_as="old", ready="False", reason="ContainersNotReady", containers="False")),
            Step(Deed.REST, 1),
            id="nor one that was up",
        ),
        pytest.param(
            scene(service(1), pod(1, made_as="old", state=PULLING, started=False)),
            Step(Deed.MEND_SERVICE, 2),
            id="it replaces one without its image",
        ),
        pytest.param(scene(service(1), pod(1, made_as="old", started=False)), Step(Deed.MEND_SERVICE, 2), id="and one that was never up"),
        pytest.param(scene(service(1), pod(1, state=PULLING, started=False)), Step(Deed.REST, 1), id="an image that lacks is waited for"),
    ],
)
def test_what_is_done_next(seen, step):
    found = decide(seen)
    assert (found.deed, found.epoch) == (step.deed, step.epoch)
    assert bool(found.lost) == (step.epoch > seen.epoch or bool(step.lost))
    if step.lost:
        assert found.lost == step.lost


def test_the_epoch_is_swapped_only_on_the_version_that_was_decided_on_and_never_falls():
    for seen in (scene(service(5), made=5), scene(service(5), pod(5, state=ENDED)), scene(None, pod(5)), scene(service(1), pod(5))):
        assert decide(seen).epoch >= 5


def test_only_heads_before_the_served_one_are_deleted_and_each_once():
    pods = (pod(1), pod(2, deletion_timestamp="2026-01-01T00:00:00Z"), pod(3), pod(4))
    assert [each.metadata.name for each in superseded(scene(service(3), *pods))] == ["demo-head-1"]
    assert superseded(scene(None, *pods)) == []


def test_out_of_sight_is_what_the_node_controller_says_and_kubelet_never():
    assert is_unreachable(pod(ready="False"))
    assert is_unreachable(pod(ready="Unknown"))
    assert not is_unreachable(pod())
    assert not is_unreachable(pod(ready="False", reason="ReadinessGatesNotReady"))
    assert not is_unreachable(pod(status=PodStatus("Pending")))


@pytest.mark.parametrize(
    ("seen", "phase", "said"),
    [
        (scene(service(1)), HeadPhase.MISSING, ""),
        (scene(service(1), made=1), HeadPhase.LOST, DELETED),
        (scene(service(1), pod(1, state=ENDED)), HeadPhase.LOST, "exit code 137"),
        (scene(service(1), pod(1)), HeadPhase.READY, ""),
        (scene(service(1), pod(1, started=False, ready="False", reason="x")), HeadPhase.STARTING, ""),
        (scene(service(1), pod(1, ready="False", reason="ContainersNotReady")), HeadPhase.UNREADY, ""),
        (scene(service(1), pod(1, ready="False")), HeadPhase.UNREADY, "out of sight"),
        (scene(service(1), pod(1, state=PULLING)), HeadPhase.PULLING, "ImagePullBackOff: no such image"),
    ],
)
def test_where_a_head_stands_is_told(seen, phase, said):
    found = fact(seen, trouble="", now=7.0)
    assert (found.phase, found.since) == (phase, 7.0)
    assert said in found.reason
    assert bool(said) == bool(found.reason)


def test_a_changed_section_of_the_head_is_told_and_what_is_in_the_way_comes_first():
    found = fact(scene(service(1), pod(1, made_as="old")), trouble="quota", now=7.0, next_at=12.0)
    assert "spec.head has changed since, which the next head will have" in found.detail
    assert (found.reason, found.next_at) == ("quota", 12.0)
    assert "has changed" not in fact(scene(service(1), pod(1)), trouble="", now=7.0).detail


def test_a_head_is_read_from_what_the_api_server_sends():
    text = b'{"metadata":{"name":"demo-head-2","labels":{"rayscaler.io/head-epoch":"2","rayscaler.io/cluster":"demo"},"ownerReferences":[{"uid":"o"}]}}'
    found = HEAD_PODS.one.decode(text)
    assert (found.metadata.labels.epoch, found.metadata.labels.cluster, found.metadata.owner_references[0].uid) == ("2", "demo", "o")
    assert lost(replace(scene(service(2)), pods={2: found})) == ""
