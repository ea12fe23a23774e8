"""How large a pod is by what its container is asked for and has, and the patch that makes it another size."""

import json

import msgspec
import pytest

from rayscaler.errors import Unsupported
from rayscaler.k8s import growth
from rayscaler.k8s.objects import Pod
from rayscaler.model.instance import Size
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources

pytestmark = [pytest.mark.tier("unit")]

GIB = 1 << 30
STATED = {"requests": {"cpu": "500m", "memory": "2Gi"}, "limits": {"cpu": "1500m", "memory": "2Gi"}}
BRINGS = Resources.of(CPU=2, GPU=1, memory=GIB)
"""Of a limit of 1.5 CPUs, rounded up as KubeRay does; of the memory, what the object store leaves."""
THREE = Resources.of(CPU=3, GPU=1, memory=3 * GIB)


def made(stated: dict | None = STATED, **container) -> NodeType:
    ray = {"name": "ray", "image": "ray", **({"resources": stated} if stated else {}), **container}
    containers = [{"name": "sidecar", "image": "x"}, ray]
    return NodeType("small", BRINGS, template=json.dumps({"spec": {"containers": containers}}))


def pod(asked: dict = STATED, has: dict | None = STATED, *, generation: int = 1, running: bool = True, **condition) -> Pod:
    status = {"name": "ray", "state": {"running": {}} if running else {"waiting": {}}, **({"resources": has} if has else {})}
    body = {
        "metadata": {"name": "p", "generation": generation},
        "spec": {"containers": [{"name": "sidecar"}, {"name": "ray", "resources": asked}]},
        "status": {"containerStatuses": [status], "conditions": [{"status": "True", **condition}] if condition else []},
    }
    return msgspec.json.decode(msgspec.json.encode(body), type=Pod)


def stated(cpu: str, memory: str, more: str) -> dict:
    return {"requests": {"cpu": cpu, "memory": memory}, "limits": {"cpu": more, "memory": memory}}


GROWN = stated("1500m", "4294967296", "2500m")


@pytest.mark.parametrize(
    ("seen", "size"),
    [
        pytest.param(pod(), Size(BRINGS, BRINGS), id="as it was launched"),
        pytest.param(pod(GROWN), Size(THREE, BRINGS), id="asked for more"),
        pytest.param(pod(GROWN, GROWN), Size(THREE, THREE), id="has grown"),
        pytest.param(pod(GROWN, stated("1500m", "2Gi", "1500m")), Size(THREE, BRINGS), id="a request without its limit is nothing yet"),
        pytest.param(
            pod(GROWN, stated("1500m", "2Gi", "2500m")), Size(THREE, Resources.of(CPU=3, GPU=1, memory=GIB)), id="one of two has grown"
        ),
        pytest.param(pod(GROWN, None), Size(THREE, BRINGS), id="a kubelet that does not say what it has"),
        pytest.param(
            pod(GROWN, type="PodResizePending", reason="Infeasible", message="no"), Size(THREE, BRINGS, "Infeasible: no"), id="refused"
        ),
        pytest.param(pod(GROWN, type="PodResizeInProgress", reason="Error", message="no"), Size(THREE, BRINGS, "Error: no"), id="failed"),
        pytest.param(pod(GROWN, type="PodResizePending", reason="Deferred", message="later"), Size(THREE, BRINGS), id="put off"),
        pytest.param(
            pod(GROWN, generation=3, type="PodResizePending", reason="Infeasible", observedGeneration=2),
            Size(THREE, BRINGS),
            id="an earlier wish was refused",
        ),
        pytest.param(pod(running=False), None, id="does not run yet"),
    ],
)
def test_a_pod_brings_as_much_more_as_both_its_request_and_its_limit_have_grown(seen, size):
    assert growth.size_of(seen, made()) == size


def test_a_pod_of_which_nobody_knows_how_it_was_made_has_no_size():
    assert growth.size_of(pod(), None) is None


def test_requests_and_limits_grow_alike_and_nothing_else_is_touched():
    (container,) = growth.patch(pod(), made(), THREE)["spec"]["containers"]
    assert container == {"name": "ray", "resources": GROWN}


def test_a_patch_back_is_what_the_template_says_whatever_the_pod_has_become():
    (container,) = growth.patch(pod(GROWN), made(), BRINGS)["spec"]["containers"]
    assert container["resources"] == stated("500m", "2147483648", "1500m")


def test_a_limit_alone_is_a_request_too_and_a_request_alone_gets_no_limit():
    (limited,) = growth.patch(pod(), made({"limits": {"cpu": 2}}), Resources({**BRINGS, "CPU": 30_000}))["spec"]["containers"]
    (asking,) = growth.patch(pod(), made({"requests": {"cpu": "1"}}), Resources({**BRINGS, "CPU": 30_000}))["spec"]["containers"]
    assert limited["resources"] == {"requests": {"cpu": "3"}, "limits": {"cpu": "3"}}
    assert asking["resources"] == {"requests": {"cpu": "2"}}


def test_what_the_template_does_not_state_cannot_grow():
    with pytest.raises(Unsupported, match=r"nodeTypes.small.template: .* no request or limit of memory"):
        growth.patch(pod(), made({"limits": {"cpu": 2}}), THREE)
    with pytest.raises(Unsupported):
        growth.patch(pod(), made(None), THREE)


def test_what_would_end_the_work_does_not_grow():
    policy = [{"resourceName": "cpu", "restartPolicy": "NotRequired"}, {"resourceName": "memory", "restartPolicy": "RestartContainer"}]
    with pytest.raises(Unsupported, match=r"by its resizePolicy Ray's container starts anew when its memory changes"):
        growth.patch(pod(), made(resizePolicy=policy), THREE)
    (container,) = growth.patch(pod(), made(resizePolicy=policy), Resources({**BRINGS, "CPU": 30_000}))["spec"]["containers"]
    assert container["resources"] == stated("1500m", "2147483648", "2500m")
