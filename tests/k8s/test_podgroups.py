"""PodGroups: which are to be made, changed and deleted, what they say, and by what a pod says of which it is."""

import json

import msgspec
import pytest

from rayscaler.executor.base import LaunchSpec
from rayscaler.executor.record import spec_document, spec_from, spec_hash
from rayscaler.k8s import labels, podgroups, pods
from rayscaler.k8s.objects import Annotations, PodGroup
from rayscaler.k8s.podgroups import Change
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.model.scheduling import GangScheduler, Membership, WantedGroup

pytestmark = pytest.mark.tier("unit")

VOLCANO, COSCHEDULING = GangScheduler.VOLCANO, GangScheduler.SCHEDULER_PLUGINS
GANGS = ("f" * 36, "0" * 36)


def there(size: int) -> PodGroup:
    return msgspec.json.decode(msgspec.json.encode({"metadata": {"uid": "u"}, "spec": {"minMember": size}}), type=PodGroup)


@pytest.mark.parametrize(
    ("known", "wanted", "due"),
    [
        pytest.param({}, [WantedGroup("a", 8)], [("a", 8)], id="one that is missing is made"),
        pytest.param({"a": 8}, [WantedGroup("a", 8)], [], id="one that is right is let be"),
        pytest.param({"a": 8}, [WantedGroup("a", 9)], [("a", 9)], id="one grows"),
        pytest.param({"a": 8}, [WantedGroup("a", 7)], [("a", 7)], id="one shrinks"),
        pytest.param({"a": 8}, [WantedGroup("a", 7, may_shrink=False)], [], id="but not one that is to be made whole yet"),
        pytest.param({"a": 8}, [WantedGroup("a", 9, may_shrink=False)], [("a", 9)], id="which may grow"),
        pytest.param({}, [WantedGroup("a", 7, may_shrink=False)], [("a", 7)], id="and is made"),
        pytest.param({"a": 8, "b": 2}, [], [("a", 0), ("b", 0)], id="those that nobody wants go"),
    ],
)
def test_i2_objects_become_as_they_are_wanted(known, wanted, due):
    assert [
        (each.name, each.size) for each in podgroups.changes("demo", {name: there(size) for name, size in known.items()}, wanted)
    ] == due


@pytest.mark.parametrize("scheduler", GangScheduler)
def test_an_object_says_whose_it_is_and_how_many_it_wants(scheduler):
    owner = pods.Owner("v1", "ConfigMap", "demo", "0b6a")
    made = podgroups.manifest("demo", scheduler, Change("demo-g1-0", 8), owner)
    assert (made["kind"], made["apiVersion"]) == ("PodGroup", podgroups.API_VERSIONS[scheduler])
    assert made["spec"] == {"minMember": 8}
    assert made["metadata"]["labels"] == {labels.MANAGED_BY: "rayscaler", labels.CLUSTER: "demo"}
    assert made["metadata"]["ownerReferences"][0]["uid"] == "0b6a"
    assert podgroups.manifest("demo", VOLCANO, Change("a", 8, queue="q"), None)["spec"] == {"minMember": 8, "queue": "q"}


def spec(membership: Membership | None, **pod: object) -> LaunchSpec:
    template = json.dumps({"spec": {"containers": [{"name": "ray", "image": "ray"}], **pod}})
    node_type = NodeType("small", Resources.of(CPU=1), template=template)
    return LaunchSpec("demo", "demo-small-1-0", node_type, "head:6379", membership=membership)


def worker(membership: Membership | None, **pod: object) -> dict:
    return pods.worker(spec(membership, **pod), namespace="ml", entry="entry")


def test_a_pod_of_scheduler_plugins_has_its_group_in_a_label():
    made = worker(Membership(COSCHEDULING, "demo-g1-0", GANGS))
    assert made["metadata"]["labels"]["scheduling.x-k8s.io/pod-group"] == "demo-g1-0"
    assert "scheduling.k8s.io/group-name" not in made["metadata"]["annotations"]
    assert made["spec"]["schedulerName"] == "scheduler-plugins-scheduler"


def test_a_pod_of_volcano_has_its_group_in_an_annotation():
    made = worker(Membership(VOLCANO, "demo-g1-0", GANGS))
    assert made["metadata"]["annotations"]["scheduling.k8s.io/group-name"] == "demo-g1-0"
    assert "scheduling.x-k8s.io/pod-group" not in made["metadata"]["labels"]
    assert made["spec"]["schedulerName"] == "volcano"


@pytest.mark.parametrize("scheduler", GangScheduler)
def test_a_pod_without_a_group_has_the_scheduler_alone(scheduler):
    made, plain = worker(Membership(scheduler)), worker(None)
    assert made["spec"].pop("schedulerName") in {"volcano", "scheduler-plugins-scheduler"}
    assert made["metadata"]["annotations"].pop(labels.SCHEDULER) == scheduler.value
    for each in (made, plain):
        del each["metadata"]["annotations"][labels.SPEC_HASH]
    assert made == plain


def test_a_templates_own_scheduler_wins():
    assert worker(Membership(VOLCANO, "demo-g1-0"), schedulerName="mine")["spec"]["schedulerName"] == "mine"


@pytest.mark.parametrize("membership", [Membership(VOLCANO, "demo-g1-0", GANGS), Membership(COSCHEDULING, "g"), Membership(COSCHEDULING)])
def test_what_a_pod_was_launched_as_is_read_from_it_again(membership):
    found = msgspec.json.decode(msgspec.json.encode(worker(membership)["metadata"]["annotations"]), type=Annotations)
    assert podgroups.membership_of(found.scheduler, found.pod_group, found.gangs) == membership
    assert spec_from(spec_document(spec(membership))).membership == membership
    assert spec_hash(spec(membership)) != spec_hash(spec(None))


def test_what_others_wrote_on_a_pod_is_no_membership():
    assert podgroups.membership_of("", "", "") is None
    assert podgroups.membership_of("kai", "g", "") is None


def test_a_long_name_is_as_short_as_a_label_takes_it_and_is_the_same_on_both():
    group = f"{'c' * 60}-g12-0"
    made = worker(Membership(COSCHEDULING, group))
    name = made["metadata"]["labels"]["scheduling.x-k8s.io/pod-group"]
    assert len(name) <= 63
    assert [each.name for each in podgroups.changes("demo", {}, [WantedGroup(group, 1)])] == [name]
