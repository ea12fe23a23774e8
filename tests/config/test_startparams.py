"""PT-14: what a node brings stands in one place. A start parameter that says it counts as if it stood there; two that differ are a problem."""

import pytest

from rayscaler.config import native, startparams
from rayscaler.errors import InvalidRequest
from rayscaler.executor import raystart
from rayscaler.model.resources import Resources

pytestmark = pytest.mark.tier("unit")


def document(flags, resources=None, *, head=None, **fields):
    kind = {"name": "small", "startParams": flags, **({} if resources is None else {"resources": resources}), **fields}
    spec = {"nodeTypes": [kind], **({"head": head} if head else {})}
    return {"apiVersion": "rayscaler.io/v1", "kind": "Cluster", "metadata": {"name": "demo"}, "spec": spec}


def problems(flags, resources=None, **fields):
    try:
        native.cluster(document(flags, resources, **fields))
    except InvalidRequest as error:
        return [str(each).removeprefix("spec.nodeTypes[0].") for each in error.problems]
    return []


LEAVE = "leave it out here, since resources is what planning goes by"


@pytest.mark.parametrize(
    ("flags", "resources", "said"),
    [
        ({"num-cpus": 4}, {"CPU": 2}, "num-cpus: '4': stands in spec.nodeTypes[0].resources too, and not the same: CPU: 2"),
        ({"num-cpus": 4}, {"CPU": 0}, "num-cpus: '4': stands in spec.nodeTypes[0].resources too, and not the same: CPU: 0"),
        ({"num-cpus": 0}, {"CPU": 2}, "num-cpus: '0': stands in spec.nodeTypes[0].resources too, and not the same: CPU: 2"),
        ({"num-cpus": "$(CPUS)"}, {"CPU": 2}, "num-cpus: '$(CPUS)': stands in spec.nodeTypes[0].resources too, and not the same: CPU: 2"),
        ({"num-gpus": 1}, {"GPU": 2}, "num-gpus: '1': stands in spec.nodeTypes[0].resources too, and not the same: GPU: 2"),
        ({"memory": 1}, {"memory": "4Gi"}, "memory: '1': stands in spec.nodeTypes[0].resources too, and not the same: memory: 4 GiB"),
        (
            {"object-store-memory": 80000000},
            {"object_store_memory": "1Gi"},
            "object-store-memory: '80000000': stands in spec.nodeTypes[0].resources too, and not the same: object_store_memory: 1 GiB",
        ),
        (
            {"resources": '{"fpga": 1}'},
            {"CPU": 1, "fpga": 2},
            "resources: '{\"fpga\": 1}': stands in spec.nodeTypes[0].resources too, and not the same: fpga: 2",
        ),
        (
            {"resources": '{"fpga": 2}'},
            {"fpga": 2, "disk": 0.5},
            "resources: '{\"fpga\": 2}': stands in spec.nodeTypes[0].resources too, and not the same: disk: 0.5, fpga: 2",
        ),
        ({"resources": "{"}, {"fpga": 2}, "resources: '{': stands in spec.nodeTypes[0].resources too, and not the same: fpga: 2"),
    ],
)
def test_an_amount_that_stands_in_both_and_differs_is_a_problem(flags, resources, said):
    assert problems(flags, resources) == [f"startParams.{said}; {LEAVE}"]


def test_a_head_s_amounts_are_held_against_each_other_too():
    (found,) = problems({}, head={"resources": {"CPU": 0}, "startParams": {"num-cpus": 8}})
    assert found == f"spec.head.startParams.num-cpus: '8': stands in spec.head.resources too, and not the same: CPU: 0; {LEAVE}"


SAME = [
    ({"num-cpus": 2}, {"CPU": 2}),
    ({"num-cpus": "2"}, {"CPU": 2.0}),
    ({"num-cpus": 0}, {"CPU": 0}),
    ({"memory": 4294967296, "object-store-memory": "1Gi"}, {"memory": "4Gi", "object_store_memory": 1 << 30}),
    ({"resources": '{"fpga": 2, "disk": 0.5}'}, {"CPU": 1, "disk": "0.5", "fpga": 2}),
    ({"resources": '{"fpga": 2, "none": 0}'}, {"fpga": 2}),
]


@pytest.mark.parametrize(("flags", "resources"), SAME)
def test_what_says_the_same_in_both_is_taken_once(flags, resources):
    (found,) = native.cluster(document(flags, resources)).node_types
    assert (found.resources, found.start_params) == (native.cluster(document({}, resources)).node_types[0].resources, ())


ALONE = [
    ({"num-cpus": 4}, Resources.of(CPU=4), {"num-cpus": "4"}),
    ({"num-gpus": "1"}, Resources.of(GPU=1), {"num-gpus": "1"}),
    ({"memory": 5}, Resources.of(memory=5), {"memory": "5"}),
    ({"object-store-memory": 90000000}, Resources.of(object_store_memory=90_000_000), {"object-store-memory": "90000000"}),
    ({"resources": '{"slot": 2, "fpga": 0.5}'}, Resources.of(slot=2, fpga=0.5), {"resources": '{"fpga": 0.5, "slot": 2}'}),
]


@pytest.mark.parametrize(("flags", "resources", "told"), ALONE)
def test_an_amount_that_only_a_flag_says_is_planned_with_and_told_to_ray(flags, resources, told):
    (found,) = native.cluster(document(flags)).node_types
    assert (found.resources, found.start_params) == (resources, ())
    assert raystart.node_flags(found).items() >= told.items()


@pytest.mark.parametrize(
    "flags",
    [{"num-cpus": "$(CPUS)"}, {"num-cpus": "1.5"}, {"memory": "nonsense"}, {"num-gpus": None}]
    + [{"resources": text} for text in ("{", "[]", "7", "null", '{"CPU": 1}', '{"a": -1}', '{"a": NaN}', "[" * 100_000)],
)
def test_what_cannot_be_told_here_stays_a_flag_for_ray_to_read_or_refuse(flags):
    (found,) = native.cluster(document(flags)).node_types
    assert not found.resources
    assert dict(found.start_params) == {name: text or "" for name, text in flags.items()}


def test_of_a_pod_a_flag_counts_as_the_definition_s_own_word():
    limits = {"cpu": 4, "memory": "1G", "google.com/tpu": 4}
    pod = {"spec": {"containers": [{"name": "ray", "image": "ray", "resources": {"limits": limits}}]}}
    flags = {"num-cpus": 0, "object-store-memory": 400_000_000, "resources": '{"slot": 1}'}
    asked = document(flags, template=pod, head={"template": pod})
    (found,) = native.cluster(asked, "k8s").node_types
    assert found.resources == Resources.of(memory=600_000_000, object_store_memory=400_000_000, TPU=4, slot=1)
    assert raystart.node_flags(found)["num-cpus"] == "0"


def test_labels_of_a_node_type_stand_in_its_labels_alone():
    rule = "labels stand in spec.nodeTypes[0].labels alone, where planning sees them: put them there, and leave this out"
    for labels in ({}, {"zone": "b"}, {"zone": "a", "disk": "fast"}):
        assert problems({"labels": "zone=a"}, labels=labels) == [f"startParams.labels: 'zone=a': {rule}"]
    (same,) = native.cluster(document({"labels": "zone=a,disk=fast"}, labels={"zone": "a", "disk": "fast"})).node_types
    assert (same.labels, same.start_params) == ((("disk", "fast"), ("zone", "a")), ())


def test_a_head_has_no_other_place_for_labels():
    config = native.cluster(document({}, head={"startParams": {"labels": "zone=a"}}))
    assert config.head.start_params == (("labels", "zone=a"),)


@pytest.mark.parametrize(
    ("flags", "fields", "paths"),
    [
        ({"num-cpus": 4}, {"resources": {"CPU": "x"}}, ["resources.CPU"]),
        ({"num-cpus": 4.5}, {"resources": {"CPU": 2}}, ["startParams.num-cpus"]),
        ({"labels": "a=b"}, {"labels": {"a": [1]}}, ["labels.a"]),
    ],
)
def test_what_is_faulty_by_itself_is_told_once(flags, fields, paths):
    assert [each.partition(":")[0] for each in problems(flags, **fields)] == paths


def test_every_flag_that_is_made_of_resources_is_known():
    assert {*raystart.resource_flags(Resources.of(x=1))} == {*startparams.AMOUNTS, startparams.OTHERS}
    assert {resource: flag for flag, resource in startparams.AMOUNTS.items()}.items() >= raystart.FLAG_OF.items()
