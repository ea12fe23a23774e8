"""Complaint J4 on a real API server: ten pods of which one can grow for what waits; a kubelet that takes its time, refuses, or says nothing."""

import asyncio
import contextlib
import re
from decimal import Decimal

import pytest

from rayscaler.config import quantity
from rayscaler.model.nodetype import NodeType, Resize
from rayscaler.model.resources import Resources
from tests.k8s import bed, fleet

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(180)]

RULES = [*bed.ROLE["rules"], {"apiGroups": [""], "resources": ["pods/resize"], "verbs": ["patch"]}]
"""What the chart gives with resize.enabled."""
TASK = Resources.of(CPU=3, GPU=1)
GIB = 1 << 30
BRINGS = Resources.of(CPU=1, GPU=1, memory=GIB)
LOOK_S = 0.1
TIMEOUT_S = 3.0


def types(sim: dict[str, str]) -> tuple[NodeType, ...]:
    """Return ten small ones that may grow, whose template asks for less CPU than they bring, and a dear one that is large enough."""
    stated = {
        "requests": {"cpu": "500m", "memory": "1Gi", "nvidia.com/gpu": 1},
        "limits": {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": 1},
    }
    most = Resources({**BRINGS, **Resources.of(CPU=4, memory=4 * GIB)})
    small = NodeType(
        "small", BRINGS, template=bed.template(sim, resources=stated), min_workers=10, cost=1.0, resize=Resize(most, TIMEOUT_S)
    )
    return small, NodeType("big", Resources.of(CPU=4, GPU=1), template=bed.template(), cost=9.0)


def had(pod: dict) -> dict[str, Decimal]:
    """Return what a pod really has, by Ray's names: of its limits, as kubelet tells of the container."""
    (status,) = pod["status"]["containerStatuses"]
    limits = status["resources"]["limits"]
    return {name: quantity.kubernetes(limits[key]) for name, key in (("CPU", "cpu"), ("memory", "memory"), ("GPU", "nvidia.com/gpu"))}


@contextlib.asynccontextmanager
async def ten(namespace, sim: dict[str, str], rules: list[dict] = RULES):
    """Run ten, and have it seen all the time that no raylet is told of more than its pod has."""
    async with fleet.running(namespace, fleet.config(*types(sim)), rules=rules) as f:
        small = {}  # pods of the small ones, as the administrator sees them now
        resize, wrong = f.gcs.resize, []

        async def look() -> None:
            small.update({each["metadata"]["name"]: each for each in await f.pods() if "-small-" in each["metadata"]["name"]})

        def compare(node, amounts) -> None:
            has = had(small[node.instance_id])
            wrong.extend((node.instance_id, name, amount, has) for name, amount in amounts.items() if name in has and amount > has[name])

        async def seen(request) -> None:
            await look()  # the pod as it is before the raylet is told
            compare(f.gcs.nodes[request.node_id.hex()], dict(request.resources))
            await resize(request)

        async def watch() -> None:
            while True:
                nodes = [(each, {name: amount / 10_000 for name, amount in each.total.items()}) for each in f.gcs.alive()]
                await look()
                for node, amounts in nodes:
                    if node.node_type == "small":
                        compare(node, amounts)
                await asyncio.sleep(LOOK_S)

        f.gcs.resize = seen
        await f.until(lambda: f.nodes() == {"small": 10})
        await asyncio.sleep(2.5)  # reports have settled
        watching = asyncio.create_task(watch())
        try:
            yield f, small
            assert not watching.done()
            await look()
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
            assert wrong == []
        assert {had(each)["GPU"] for each in small.values()} == {1}
        assert {each["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] for each in small.values()} == {"1"}


async def test_j4_one_of_ten_grows_for_what_waits_and_none_is_launched(namespace):
    async with ten(namespace, {"resize-after": "1500ms"}) as (f, small):
        f.gcs.submit(TASK, 1)
        await f.until(lambda: len(f.gcs.running()) == 1)
        await f.until(lambda: any(each.kind == "GROWN" for each in f.status().actions))
        (task,) = f.gcs.running()
        name = task.node.instance_id
        grown = (await namespace.api.get(namespace.path(f"pods/{name}")))["spec"]["containers"][0]["resources"]
        assert grown["requests"] == {"cpu": "2500m", "memory": str(GIB), "nvidia.com/gpu": "1"}
        assert grown["limits"] == {"cpu": "3", "memory": str(GIB), "nvidia.com/gpu": "1"}
        assert (len(f.gcs.resizes), len(f.of("created")), f.of("lost")) == (1, 10, [])
        assert sorted(had(each)["CPU"] for each in small.values()) == [1] * 9 + [3]
        assert sorted(each.total["CPU"] for each in f.gcs.alive()) == [10_000] * 9 + [30_000]
        assert (await namespace.api.get(namespace.path(f"pods/{name}")))["status"]["containerStatuses"][0]["restartCount"] == 0


@pytest.mark.parametrize(
    "sim",
    [
        pytest.param({"resize": "infeasible"}, id="refused"),
        pytest.param({"resize": "deferred"}, id="put off"),
    ],
)
async def test_j4_where_none_may_grow_a_node_is_launched_within_a_minute_and_the_pod_is_as_it_was(namespace, sim):
    async with ten(namespace, sim) as (f, small):
        loop = asyncio.get_running_loop()
        asked_at = loop.time()
        f.gcs.submit(TASK, 1)
        await f.until(lambda: bool(f.of("created", "big")))
        took_s = f.of("created", "big")[0].at - asked_at
        assert took_s < 60.0
        await f.until(lambda: len(f.gcs.running()) == 1)
        (action,) = [each for each in f.status().actions if each.kind == "NOT_GROWN"]
        assert ("capacity" in action.detail) == (sim.get("resize") == "infeasible")
        await f.until(lambda: {each["spec"]["containers"][0]["resources"]["limits"]["cpu"] for each in small.values()} == {"1"})
        assert (f.gcs.resizes, len(f.of("created", "big")), f.of("lost")) == ([], 1, [])
        assert {each.total["CPU"] for each in f.gcs.alive() if each.node_type == "small"} == {10_000}


async def test_without_the_right_to_resize_pods_nodes_are_launched_and_the_right_is_named(namespace):
    async with ten(namespace, {}, bed.ROLE["rules"]) as (f, _):
        f.gcs.submit(TASK, 1)
        await f.until(lambda: len(f.gcs.running()) == 1)
        (action,) = [each for each in f.status().actions if each.kind == "NOT_GROWN"]
        assert re.search(r"lacks the right to patch pods/resize.*resize\.enabled of the chart", action.detail)
        assert (f.gcs.resizes, f.nodes()) == ([], {"small": 10, "big": 1})
