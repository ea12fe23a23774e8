"""`resize` of a node type: what is taken, what it becomes, and every problem with path, value and rule (PT-27)."""

from dataclasses import replace

import pytest

from rayscaler.config import advice, native
from rayscaler.errors import InvalidRequest
from rayscaler.model.nodetype import ClusterConfig, Resize
from rayscaler.model.resources import Resources

pytestmark = pytest.mark.tier("unit")

R = Resources.of
GI = 1 << 30


def config(executor: str = "local", **fields) -> ClusterConfig:
    kind = {"name": "small", "resources": {"CPU": 1, "GPU": 1, "memory": "4Gi"}, **fields}
    head = {"head": {"template": {"spec": {"containers": [{"name": "ray", "image": "ray"}]}}}}
    document = {"apiVersion": native.API_VERSION, "kind": "Cluster", "metadata": {"name": "a"}, "spec": {**head, "nodeTypes": [kind]}}
    return native.cluster(document, executor)


def resize(executor: str = "local", **fields) -> Resize | None:
    return config(executor, **fields).node_types[0].resize


def test_a_worker_may_grow_to_what_the_definition_says_and_keeps_the_rest():
    most = {"CPU": 4, "memory": "16Gi"}
    assert resize(resize={"maxResources": most, "timeout": "90s"}) == Resize(R(CPU=4, GPU=1, memory=16 * GI), 90.0)
    assert resize(resize={"maxResources": {"CPU": 4}}) == Resize(R(CPU=4, GPU=1, memory=4 * GI), 60.0)
    assert resize(resize=None) is None
    assert resize() is None


def test_what_a_worker_grows_from_is_read_in_its_pod_template():
    asked = {"requests": {"cpu": "500m", "memory": "10Gi"}}
    template = {"spec": {"containers": [{"name": "ray", "image": "ray", "resources": asked}]}}
    [found] = config("k8s", resources={}, template=template, resize={"maxResources": {"CPU": 4, "memory": "8Gi"}}).node_types
    assert found.resources["CPU"] == R(CPU=1)["CPU"]
    assert found.resize == Resize(Resources({**found.resources, **R(CPU=4, memory=8 * GI)}))
    with pytest.raises(InvalidRequest, match=r"resize.maxResources.memory: '6Gi': is below what the type is launched with, 7 GiB"):
        config("k8s", resources={}, template=template, resize={"maxResources": {"CPU": 4, "memory": "6Gi"}})


def test_from_none_at_all_a_worker_may_grow_where_that_is_said():
    assert resize(resources={"CPU": 0}, resize={"maxResources": {"CPU": 4}}) == Resize(R(CPU=4))


def test_another_maximum_makes_no_other_worker_of_it():
    [found] = config(resize={"maxResources": {"CPU": 4}}).node_types
    assert found.is_made_like(replace(found, resize=None))


def test_a_maximum_that_lets_nothing_grow_is_warned_of():
    kind = {"name": "small", "resources": {"CPU": 1}, "resize": {"maxResources": {"CPU": 1}}}
    document = {"apiVersion": native.API_VERSION, "kind": "Cluster", "metadata": {"name": "a"}, "spec": {"nodeTypes": [kind]}}
    [found] = advice.of(native.cluster(document), document)
    assert str(found) == "spec.nodeTypes[0].resize.maxResources: {CPU: 1}: is what small is launched with, so nothing grows"
    kind["resize"] = {"maxResources": {"CPU": 2}}
    assert advice.of(native.cluster(document), document) == ()


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"resize": 4}, "spec.nodeTypes[0].resize: 4: must be a mapping"),
        ({"resize": {}}, "resize.maxResources: None: is needed: to how much of CPU, of memory or of both a worker may grow"),
        ({"resize": {"maxResources": {}}}, "resize.maxResources: {}: is needed"),
        ({"resize": {"maxResources": [4]}}, "resize.maxResources: [4]: must be a mapping"),
        ({"resize": {"maxResource": {"CPU": 4}, "maxResources": {"CPU": 4}}}, "resize.maxResource: 'maxResource': unknown key; did you mean"),
        ({"resize": {"maxResources": {"GPU": 2}}}, "resize.maxResources.GPU: 2: only CPU and memory grow in place; all else stays"),
        ({"resize": {"maxResources": {"CPU": 0}}}, "resize.maxResources.CPU: 0: is below what the type is launched with, 1"),
        ({"resize": {"maxResources": {"CPU": 1.5}}}, "resize.maxResources.CPU: 1.5: a node has whole amounts of CPU"),
        (
            {"resources": {"CPU": 1}, "resize": {"maxResources": {"memory": "1Gi"}}},
            "resize.maxResources.memory: '1Gi': the type does not say how much memory it is launched with: say it in its resources",
        ),
        ({"resize": {"maxResources": {"CPU": 4}, "timeout": "never"}}, "resize.timeout: 'never': a duration is written like 30s, 5m or 1h30m"),
        ({"resize": {"maxResources": {"CPU": 4}, "timeout": "0s"}}, "resize.timeout: '0s': must be above 0s"),
        ({"hostsPerReplica": 2, "resize": {"maxResources": {"CPU": 4}}}, "hosts of a replica keep their size: leave it out, or hostsPerReplica"),
    ],
)  # fmt: skip
def test_a_problem_names_path_value_and_rule(fields, said):
    with pytest.raises(InvalidRequest) as caught:
        config(**fields)
    assert len([each for each in caught.value.problems if said in str(each)]) == 1, caught.value.problems
    assert len(caught.value.problems) == 1
