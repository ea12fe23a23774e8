"""What `rayscaler explain SUBJECT` means by a subject, and what it says of one that it does not know."""

import pytest

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.cli.subject import about
from rayscaler.errors import InvalidRequest

pytestmark = pytest.mark.tier("unit")


def shape(text, gang_id="", **amounts):
    bundle = None if gang_id else pb.Bundle(resources=amounts)
    return pb.ShapeExplanation(shape=text, bundle=bundle, gang_id=gang_id)


DEMO = pb.ClusterExplanation(
    cluster="demo",
    shapes=[
        shape("{CPU: 4, GPU: 1}", CPU=40_000, GPU=10_000),
        shape("{CPU: 4, GPU: 1} [zone in (a)]", CPU=40_000, GPU=10_000),
        shape("{memory: 1 GiB}", memory=10_000 << 30),
        shape("PACK of {CPU: 1} x 2", gang_id="ab12cd34ef"),
    ],
    nodes=[
        pb.NodeExplanation(instance_id="demo-cpu-1-1", ray_node_id="feed01"),
        pb.NodeExplanation(instance_id="demo-cpu-1-10", ray_node_id="feed02"),
        pb.NodeExplanation(ray_node_id="0bad03"),
    ],
    node_types=[pb.TypeExplanation(name="cpu"), pb.TypeExplanation(name="cpu-large")],
)


def names(subject):
    found = about([DEMO], subject)
    return [
        name
        for each in found
        for name in (
            *(s.shape for s in each.shapes),
            *(n.instance_id or n.ray_node_id for n in each.nodes),
            *(t.name for t in each.node_types),
        )
    ]


@pytest.mark.parametrize(
    ("subject", "expected"),
    [
        ("CPU=4,GPU=1", ["{CPU: 4, GPU: 1}", "{CPU: 4, GPU: 1} [zone in (a)]"]),
        (" GPU = 1.0 , CPU=4,TPU=0", ["{CPU: 4, GPU: 1}", "{CPU: 4, GPU: 1} [zone in (a)]"]),
        ("memory=1Gi", ["{memory: 1 GiB}"]),
        ("{CPU:4,GPU:1}", ["{CPU: 4, GPU: 1}"]),
        ("{CPU: 4, GPU: 1} [zone in (a)]", ["{CPU: 4, GPU: 1} [zone in (a)]"]),
        ("ab12", ["PACK of {CPU: 1} x 2"]),
        ("demo-cpu-1-1", ["demo-cpu-1-1"]),
        ("demo-cpu-1", ["demo-cpu-1-1", "demo-cpu-1-10"]),
        ("feed02", ["demo-cpu-1-10"]),
        ("0bad", ["0bad03"]),
        ("cpu", ["cpu"]),
    ],
)
def test_a_subject_is_a_shape_an_id_or_its_beginning_or_a_type(subject, expected):
    assert names(subject) == expected


def test_without_a_subject_all_is_told_and_of_clusters_only_those_that_know_it():
    other = pb.ClusterExplanation(cluster="other")
    assert about([DEMO, other], "") == [DEMO, other]
    assert [each.cluster for each in about([DEMO, other], "cpu")] == ["demo"]


@pytest.mark.parametrize(
    ("subject", "told"),
    [
        ("cpu-larg", ["SUBJECT: 'cpu-larg': no pending shape, node or node type is called so; did you mean cpu-large?"]),
        ("CPU=4,GPU=2", ["SUBJECT: 'CPU=4,GPU=2': no pending shape, node or node type is called so; did you mean CPU=4,GPU=1?"]),
        ("0b", ["SUBJECT: '0b': no pending shape, node or node type is called so; pending shapes: CPU=4,GPU=1, ab12cd34ef, memory=1073741824; nodes: 0bad03, demo-cpu-1-1, demo-cpu-1-10, feed01, feed02; node types: cpu, cpu-large"]),
        ("CPU=x,GPU=-1", ["SUBJECT: 'CPU=x': an amount is a number; a shape is written like CPU=4,GPU=1",
                          "SUBJECT: 'GPU=-1': an amount is 0 or more; a shape is written like CPU=4,GPU=1"]),
    ],
)  # fmt: skip
def test_an_unknown_subject_is_told_with_near_names(subject, told):
    with pytest.raises(InvalidRequest) as caught:
        about([DEMO], subject)
    assert list(map(str, caught.value.problems)) == told
