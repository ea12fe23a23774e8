"""Placement groups by a real gang scheduler on a real API server (complaint I2), by the whole product; a fake Ray."""

import asyncio
import contextlib
import json
import random
from collections import Counter

import pytest

from rayscaler.model.demand import Strategy
from rayscaler.model.resources import Resources
from tests.cluster import coscheduling
from tests.cluster.api import ApiError
from tests.cluster.product import awaited, document, rules, site, until
from tests.counts import counted

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(1800)]

ONE = Resources.of(CPU=1)
LABEL = coscheduling.LABEL
CHANGES = counted(gate=6, full=100)
SEED = 5002
MANY = 20
"""With more workers than this some go, well below the definition's maximum."""
BY = {"scheduler": "scheduler-plugins"}


@pytest.fixture
async def ours(namespace, tmp_path, cluster, admin):
    """A namespace in which the product can be run, and may have PodGroups; with a gang scheduler."""
    await coscheduling.start(cluster, admin)
    async with site(namespace, tmp_path, [*rules(), *coscheduling.RULES]) as made:
        yield made


def worker(seat: str = "", **spec: object) -> dict:
    """Return a node type; with a seat each of its pods needs a node that has one."""
    amounts = {"cpu": "10m", **({seat: "1"} if seat else {})}
    container = {"name": "ray", "image": "ray:test", "resources": {"requests": amounts, "limits": amounts}}
    return {"name": "worker", "resources": {"CPU": 1}, "maxWorkers": 50, "template": {"spec": {"containers": [container], **spec}}}


def members(pods: list[dict]) -> dict[str, int]:
    """Return how many pods that are not being ended say that they are of each group."""
    alive = [each for each in pods if "deletionTimestamp" not in each["metadata"]]
    return dict(Counter(each["metadata"]["labels"][LABEL] for each in alive if LABEL in each["metadata"]["labels"]))


@contextlib.asynccontextmanager
async def watched(ours):
    """Yield the names of workers that ever had a node, as the API server tells of each change."""
    bound: set[str] = set()

    async def follow() -> None:
        async for _, pod in ours.namespace.api.follow(ours.namespace.path("pods"), labelSelector=LABEL):
            if pod["spec"].get("nodeName"):
                bound.add(pod["metadata"]["name"])

    task = asyncio.create_task(follow())
    try:
        yield bound
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_i2_growth_of_8_for_one_group_is_bound_whole_or_not_at_all_and_no_task_waits_for_it(ours, admin):
    """Complaint I2: room for 7 of 8, then for the 8th; the worker of a task, which needs no such room, is bound by itself meanwhile."""
    name = f"rayscaler.test/{ours.namespace.name}"
    await coscheduling.seat(admin, name, 7)
    service = await ours.serve(RAYSCALER_TIME_FACTOR="4")  # so that other types are tried after 15 s: there are none
    definition = document("demo", worker(name), {**worker(), "name": "plain", "resources": {"CPU": 0, "task": 1}}, gangScheduling=BY)
    await ours.define(definition)
    async with ours.ray(definition, service.address) as ray, watched(ours) as bound:
        gang = ray.gcs.create_gang(Strategy.STRICT_SPREAD, [ONE] * 8)
        ray.gcs.submit(Resources.of(task=1))
        await until(lambda: len(ours.created("demo")) == 9 and len(ray.gcs.running()) == 1)
        (group,) = (await coscheduling.sizes(ours.namespace)).items()
        assert members(await ours.workers("demo")) == dict([group])
        assert group[1] == 8

        async def says_why() -> bool:
            """Whether the status says of all 8 that they wait, and what for."""
            (cluster,) = json.loads(await ours.status("--json"))["clusters"]
            waiting = [each for each in cluster["instances"] if each["detail"].startswith("Unschedulable")]
            return len(waiting) == 8

        await awaited(says_why, 60.0)
        await asyncio.sleep(5.0)  # longer than a pod keeps a node for the others
        assert bound == set()
        assert not ray.gcs.gangs[gang].nodes
        await coscheduling.seat(admin, name, 8)
        # What failed with its group is tried again when its object changes, or after five minutes: a controller that does not run here does that.
        object_path = f"{ours.namespace.path('podgroups', coscheduling.COSCHEDULING)}/{group[0]}"
        await admin.patch(f"{object_path}/status", {"status": {"phase": "Scheduling"}})
        await until(lambda: len(bound) == 8, 60.0)
        await until(lambda: len(ray.gcs.gangs[gang].nodes) == 8)
        assert dict([group]) == await coscheduling.sizes(ours.namespace)
        assert ours.deleted("demo") == set()


async def test_i2_the_size_of_a_group_is_what_is_wanted_after_each_change_of_scale(ours):
    """Complaint I2: groups come, lose a pod, go; the objects are read from the API server after each, and none is left by a cluster that goes."""
    dice = random.Random(SEED)
    print(f"seed {SEED}, {CHANGES} changes")
    service = await ours.serve(RAYSCALER_TIME_FACTOR="4")
    definition = document("demo", worker(), gangScheduling=BY, idleTimeout="1s")
    await ours.define(definition)
    gangs: dict[str, int] = {}
    async with ours.ray(definition, service.address) as ray, coscheduling.controlled(ours.namespace):
        for change in range(CHANGES):
            kinds = ["come", "swap", "swap", "go", "lose"] if gangs else ["come"]
            kind = "go" if sum(gangs.values()) > MANY else dice.choice(kinds)
            if kind in ("go", "swap"):  # what comes in its place takes its nodes: then its group shrinks, and another one has the rest
                gone = dice.choice(sorted(gangs))
                ray.gcs.remove_gang(gone)
                del gangs[gone]
            if kind in ("come", "swap"):
                size = dice.randint(1, 8)
                gangs[ray.gcs.create_gang(Strategy.STRICT_SPREAD, [ONE] * size)] = size
            if kind == "lose":
                victim = dice.choice(sorted(each["metadata"]["name"] for each in await ours.workers("demo")))
                with contextlib.suppress(ApiError):  # it has gone by itself
                    await ours.namespace.api.delete(ours.namespace.path(f"pods/{victim}"))
            try:
                await awaited(lambda: settled(ours, ray, gangs), 60.0)
            except TimeoutError:
                there = members(await ours.workers("demo")), await coscheduling.sizes(ours.namespace)
                raise TimeoutError(f"change {change}, {kind}: wanted {sorted(gangs.values())}, pods and objects {there}") from None
            pods = members(await ours.workers("demo"))
            assert await coscheduling.sizes(ours.namespace) == pods, (change, kind)
            assert sum(pods.values()) == sum(gangs.values()), (change, kind)
            assert all(each["metadata"]["labels"].get(LABEL) for each in await ours.workers("demo"))
    await service.kill()
    await ours.namespace.api.delete(ours.namespace.path("configmaps/demo"))
    await awaited(lambda: are_gone(ours), 60.0)  # Kubernetes learns of a new kind of object within half a minute


async def are_gone(ours) -> bool:
    return not await coscheduling.sizes(ours.namespace) and not await ours.workers("demo")


async def settled(ours, ray, gangs: dict[str, int]) -> bool:
    """Whether all groups have their nodes, what is left over has gone, and the objects have had a moment."""
    whole = all(len({node.ray_node_id for node in ray.gcs.gangs[each].nodes}) == size for each, size in gangs.items())
    pods = members(await ours.workers("demo"))
    return whole and sum(pods.values()) == sum(gangs.values()) and await coscheduling.sizes(ours.namespace) == pods


async def test_i2_without_volcanos_objects_the_status_says_so_and_with_them_all_is_launched(ours, admin):
    """The group is Volcano's, and its pods are as Volcano takes them; who schedules them here is what the template says."""
    crd = coscheduling.volcano_crd()
    await coscheduling.undefine(admin, crd)
    service = await ours.serve(RAYSCALER_TIME_FACTOR="4")
    definition = document("demo", worker(schedulerName="default-scheduler"), gangScheduling={"scheduler": "volcano", "queue": "research"})
    await ours.define(definition)
    async with ours.ray(definition, service.address) as ray:
        gang = ray.gcs.create_gang(Strategy.STRICT_SPREAD, [ONE] * 3)
        await awaited(lambda: told(ours, "is volcano installed, with its PodGroup of scheduling.volcano.sh/v1beta1?"))
        assert ours.created("demo") == []
        await coscheduling.define(admin, crd)
        await until(lambda: len(ray.gcs.gangs[gang].nodes) == 3, 60.0)
        (made,) = (await ours.namespace.api.get(ours.namespace.path("podgroups", coscheduling.VOLCANO)))["items"]
        assert made["spec"] == {"minMember": 3, "queue": "research"}
        assert made["metadata"]["ownerReferences"][0]["name"] == "demo"
        pods = await ours.workers("demo")
        assert {each["metadata"]["annotations"]["scheduling.k8s.io/group-name"] for each in pods} == {made["metadata"]["name"]}
        assert {each["spec"]["schedulerName"] for each in pods} == {"default-scheduler"}

        async def is_told_no_more() -> bool:
            return not await told(ours, "gangScheduling")

        await awaited(is_told_no_more)


async def told(ours, text: str) -> bool:
    """Whether a notice of the status says so; it is written every two seconds at most."""
    clusters = json.loads(await ours.status("--json"))["clusters"]
    return any(text in notice for each in clusters for notice in each["notices"])
