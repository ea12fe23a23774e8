"""PT-13: a slice of one host brings the resource by which Ray's libraries take it, as KubeRay has it."""

import pytest

from rayscaler.config import native, tpu
from rayscaler.model.resources import UNIT
from tests.config.test_podtemplate import definition, pod

pytestmark = pytest.mark.tier("unit")


@pytest.mark.parametrize(
    ("accelerator", "topology", "chips", "name"),
    [
        pytest.param("tpu-v4-podslice", "2x2x1", 4, "TPU-v4-8-head", id="v4 counts two cores a chip"),
        pytest.param("tpu-v5-lite-podslice", "2x4", 8, "TPU-v5litepod-8-head", id="v5e counts one"),
        pytest.param("tpu-v6e-slice", "2X4", 8, "TPU-v6e-8-head", id="in capitals too"),
        pytest.param("tpu7x", "2x2x1", 4, "TPU-v7x-8-head", id="v7x"),
        pytest.param("tpu-v4-podslice", "2x2x2", 4, "", id="a slice of two hosts has its head on one of them"),
        pytest.param("tpu-v9", "2x2", 4, "", id="an unknown generation"),
        pytest.param("tpu-v4-podslice", "big", 4, "", id="no topology"),
        pytest.param("tpu-v4-podslice", "9" * 5000, 4, "", id="a number without end"),
        pytest.param(None, None, 4, "", id="no selector"),
    ],
)
def test_the_head_resource_of_a_slice(accelerator, topology, chips, name):
    selector = {tpu.ACCELERATOR: accelerator, tpu.TOPOLOGY: topology} if accelerator else {}
    assert tpu.head_resource(selector, chips) == name


@pytest.mark.parametrize(("fields", "amount"), [({}, UNIT), ({"resources": {"TPU-v4-8-head": 0}}, 0), ({"resources": {"TPU": 2}}, 0)])
def test_a_type_brings_it_unless_the_definition_says_otherwise(fields, amount):
    template = pod(limits={"google.com/tpu": 4})
    template["spec"]["nodeSelector"] = {tpu.ACCELERATOR: "tpu-v4-podslice", tpu.TOPOLOGY: "2x2x1"}
    (made,) = native.cluster(definition(template, **fields), "k8s").node_types
    assert made.resources.get("TPU-v4-8-head", 0) == amount


def test_a_node_selector_that_is_none_is_left_to_the_api_server():
    template = pod(limits={"google.com/tpu": 4})
    template["spec"]["nodeSelector"] = ["odd"]
    assert native.cluster(definition(template), "k8s").node_types[0].resources.get("TPU", 0) == 4 * UNIT
