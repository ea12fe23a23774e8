"""Pod templates of a definition for the executor 'k8s': kept whole, checked where they are read, and counted as KubeRay counts them."""

import json
from datetime import date

import pytest

from rayscaler.config import advice, native
from rayscaler.errors import InvalidRequest

pytestmark = pytest.mark.tier("unit")
POD = {"spec": {"containers": [{"name": "ray", "image": "rayproject/ray:2.60.0"}]}}


def definition(template, **fields):
    kinds = [{"name": "small", "template": template, **fields}]
    return {
        "apiVersion": "rayscaler.io/v1",
        "kind": "Cluster",
        "metadata": {"name": "demo"},
        "spec": {"executor": "k8s", "head": {"template": POD}, "nodeTypes": kinds},
    }


def small(template, **fields):
    return native.cluster(definition(template, **fields), "k8s").node_types[0]


def pod(limits=None, requests=None, **container):
    resources = {"limits": limits or {}, "requests": requests or {}}
    return {"spec": {"containers": [{"name": "ray", "image": "ray", "resources": resources, **container}]}}


def problems(template):
    with pytest.raises(InvalidRequest) as refused:
        native.cluster(definition(template), "k8s")
    return [str(each).removeprefix("spec.nodeTypes[0].template") for each in refused.value.problems]


def test_pt1_a_template_is_kept_whole_with_fields_nobody_here_knows():
    template = {"metadata": {"labels": {"team": "x"}}, "spec": {**POD["spec"], "fieldOfTomorrow": [{"a": None, "b": 1.5}]}}
    assert json.loads(small(template).template) == template
    turned = {"spec": dict(reversed(template["spec"].items())), "metadata": template["metadata"]}
    assert small(turned).is_made_like(small(template)), "the order of keys makes no other worker"
    assert not small(POD).is_made_like(small(template))


@pytest.mark.parametrize(
    ("template", "declared", "amounts"),
    [
        (pod({"cpu": "1500m"}, {"cpu": "1"}), {}, {"CPU": 2}),
        (pod(requests={"cpu": 3}), {}, {"CPU": 3}),
        (pod({"cpu": 4, "nvidia.com/gpu": 2}), {}, {"CPU": 4, "GPU": 2}),
        (pod(requests={"nvidia.com/gpu": 2}), {}, {}),
        (pod({"google.com/tpu": 4, "aws.amazon.com/neuroncore": "8"}), {}, {"neuron_cores": 8}),
        (pod({"google.com/tpu": 4}), {}, {"TPU": 4}),
        (pod({"memory": "10Gi"}), {}, {"memory": 7516192768, "object_store_memory": 3221225472}),
        (pod(requests={"memory": "1G"}), {}, {"memory": 700_000_000, "object_store_memory": 300_000_000}),
        (pod({"memory": "1G"}), {"memory": 900_000_000}, {"memory": 900_000_000, "object_store_memory": 100_000_000}),
        (pod({"memory": "1G"}), {"object_store_memory": 400_000_000}, {"memory": 600_000_000, "object_store_memory": 400_000_000}),
        (pod({"cpu": 4}), {"CPU": 1, "exclusive": 1}, {"CPU": 1, "exclusive": 1}),
        (pod({"cpu": 4}), {"CPU": 0}, {}),
        (
            {"spec": {"containers": [{"name": "proxy", "resources": {"limits": {"cpu": 9}}}, *pod({"cpu": 2})["spec"]["containers"]]}},
            {},
            {"CPU": 2},
        ),
        (POD, {}, {}),
    ],
)
def test_pt10_to_pt14_what_a_type_leaves_out_is_read_from_its_template(template, declared, amounts):
    found = small(template, resources=declared).resources
    assert {name: units / 10_000 for name, units in found.amounts.items()} == amounts


def test_every_problem_is_told_at_its_place():
    template = {
        "metadata": {"name": "mine", "labels": {"rayscaler.io/cluster": "x", "n": 1}},
        "spec": {
            "since": date(2024, 1, 1),
            "containers": [{"name": "ray", "image": 7, "args": "x", "resources": {"limits": {"cpu": "many"}}}, {"image": "side"}],
        },
        "status": {},
    }
    assert problems(template) == [
        ".status: 'status': unknown key; one of: apiVersion, kind, metadata, spec",
        ".spec.since: datetime.date(2024, 1, 1): has no form in JSON; put it in quotes",
        ".metadata.name: 'mine': rayscaler sets it; leave it out",
        ".metadata.labels['rayscaler.io/cluster']: 'x': rayscaler.io/ is rayscaler's own; choose another prefix",
        ".metadata.labels.n: 1: must be text; put it in quotes",
        ".spec.containers[1].name: None: must be text",
        ".spec.containers[0].image: 7: Ray's container must have an image that has Ray",
        ".spec.containers[0].args: 'x': must be a list",
        ".spec.containers[0].resources.limits.cpu: 'many': a quantity is written like 2, 500m or 64Gi",
    ]


@pytest.mark.parametrize("template", [None, {}, {"spec": {}}, {"spec": {"containers": []}}, {"spec": {"containers": {"name": "ray"}}}])
def test_without_a_container_there_is_nothing_to_run(template):
    assert "containers" in problems(template)[0]


def test_local_leaves_templates_aside_so_an_edit_of_one_replaces_no_process():
    document = definition({"anything": 1})
    document["spec"]["executor"] = "local"
    assert native.cluster(document).node_types[0].template == ""


def test_only_local_warns_that_a_template_is_left_aside():
    document = definition(POD, resources={"CPU": 1})
    assert advice.of(native.cluster(document, "k8s"), document) == ()
    document["spec"]["executor"] = "local"
    assert len(advice.of(native.cluster(document), document)) == 2


def test_to_a_plugin_a_template_goes_as_it_is_and_says_nothing_of_resources():
    document = definition({"machines": ["a", "b"], "user": "ray"})
    document["spec"]["executor"] = "unix:///run/executor.sock"
    config = native.cluster(document)
    assert (config.executor, config.command) == ("unix:///run/executor.sock", ())
    assert config.node_types[0].template == '{"machines":["a","b"],"user":"ray"}'
    assert not config.node_types[0].resources
    assert any("spec.head.template" in str(each) for each in advice.of(config, document))  # no plugin makes heads


def test_to_a_plugin_a_template_that_json_cannot_say_is_refused():
    document = definition({"since": date(2026, 1, 1)})
    document["spec"]["executor"] = {"exec": ["./plugin"]}
    with pytest.raises(InvalidRequest, match=r"template\.since: .*has no form in JSON"):
        native.cluster(document)


def test_a_definition_for_another_executor_is_refused():
    document = definition(POD)
    document["spec"]["executor"] = "local"
    with pytest.raises(InvalidRequest, match=r"spec\.executor: 'local': this service has 'k8s' only"):
        native.cluster(document, "k8s")


@pytest.mark.parametrize(("spot", "grace_s", "is_warned"), [(True, 10, True), (True, 30, False), (True, None, False), (False, 10, False)])
def test_a_spot_pod_that_is_killed_before_its_notice_is_over_is_warned_of(spot, grace_s, is_warned):
    template = pod()
    if grace_s is not None:
        template["spec"]["terminationGracePeriodSeconds"] = grace_s
    document = definition(template, spot=spot)
    told = [each.path for each in advice.of(native.cluster(document, "k8s"), document)]
    assert ("spec.nodeTypes[0].template.spec.terminationGracePeriodSeconds" in told) == is_warned


def claiming(*containers):
    claims = [{"name": "gpus", "resourceClaimTemplateName": "one-gpu"}]
    return {"spec": {"resourceClaims": claims, "containers": list(containers)}}


CLAIM = {"resources": {"claims": [{"name": "gpus"}], "limits": {"cpu": 4}}}
UNCOUNTED = (
    "spec.nodeTypes[0].template.spec.containers[{}].resources.claims: [{{'name': 'gpus'}}]: "
    "devices by claim are not counted, so no task gets any: say in the node type's resources what they are, such as GPU: 1"
)


@pytest.mark.parametrize("fields", [{}, {"resources": {"CPU": 2, "memory": "1Gi"}}, {"startParams": {"num-cpus": 2}}])
def test_pt12_devices_by_claim_that_nothing_counts_are_warned_of(fields):
    proxy = {"name": "proxy", "image": "proxy"}
    for index, containers in enumerate([[{"name": "ray", "image": "ray", **CLAIM}], [proxy, {"name": "ray", "image": "ray", **CLAIM}]]):
        document = definition(claiming(*containers), **fields)
        config = native.cluster(document, "k8s")
        assert config.node_types[0].resources.get("GPU", 0) == 0
        assert [str(each) for each in advice.of(config, document)] == [UNCOUNTED.format(index)]


@pytest.mark.parametrize(
    "fields",
    [{"resources": {"GPU": 1}}, {"resources": {"fpga": 2}}, {"startParams": {"num-gpus": 1}}, {"startParams": {"resources": "{}"}}],
)
def test_pt12_devices_by_claim_are_no_warning_where_the_definition_says_what_there_is(fields):
    document = definition(claiming({"name": "ray", "image": "ray", **CLAIM}), **fields)
    assert advice.of(native.cluster(document, "k8s"), document) == ()


def test_pt12_a_claim_of_another_container_is_none_of_ray_s():
    ray = {"name": "ray", "image": "ray", "resources": {"limits": {"cpu": 4}}}
    document = definition(claiming(ray, {"name": "proxy", "image": "proxy", **CLAIM}))
    assert advice.of(native.cluster(document, "k8s"), document) == ()
