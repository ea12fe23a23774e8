"""Names of pods: short enough, and never the same for two instances (CD-19)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayscaler.errors import InvalidRequest
from rayscaler.k8s.labels import pod_name

pytestmark = pytest.mark.tier("unit")
WORD = st.from_regex(r"[a-z]([a-z0-9]|-){0,51}[a-z0-9]", fullmatch=True)
INSTANCE = st.tuples(WORD, WORD, st.integers(0, 99), st.integers(0, 999))


def name(cluster, node_type, batch, index):
    return pod_name(cluster, f"{cluster}-{node_type}-{batch}-{index}")


def test_the_usual_name_is_the_instance_id():
    assert pod_name("demo", "demo-small-1-0") == "demo-small-1-0"
    assert pod_name("my-demo", "my-demo-small-1-0") == "my-demo-small-1-0"


def test_cd19_two_clusters_with_the_same_ids_have_two_names():
    assert name("a", "b-c", 1, 0) != name("a-b", "c", 1, 0)
    assert name("a", "b-c", 1, 0).startswith("a-b-c-1-0-")


@given(INSTANCE, INSTANCE)
def test_cd19_other_instances_have_other_names(one, other):
    assert (name(*one) == name(*other)) is (one == other)


@given(INSTANCE)
def test_every_name_is_a_host_name(instance):
    made = name(*instance)
    assert len(made) <= 63
    assert made[0].isalnum()
    assert made[-1].isalnum()


@pytest.mark.parametrize("instance_id", ["", "../escape", "A", "a_b", "-a", "a.b", "a" * 254])
def test_what_can_be_no_name_is_refused(instance_id):
    with pytest.raises(InvalidRequest, match="instance_id"):
        pod_name("demo", instance_id)
