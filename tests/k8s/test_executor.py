"""The executor at the edges, on a small API server: what is in the way of a launch or an end, and what is told of it.

That it keeps the promises of the port is tried on a real one (tests/conformance).
"""

import asyncio
import contextlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from rayscaler.errors import Conflict, Denied, InsufficientCapacity, NotFound, Unavailable, Unsupported
from rayscaler.executor.base import LaunchSpec
from rayscaler.k8s.executor import KubernetesExecutor, Options
from rayscaler.k8s.pods import Owner
from rayscaler.k8s.reflector import Pauses
from rayscaler.model.instance import Phase, Size
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from tests.k8s.fake_api import serving

pytestmark = pytest.mark.tier("protocol")
TEMPLATE = json.dumps({"spec": {"containers": [{"name": "ray", "image": "ray"}]}})
SPEC = LaunchSpec("c", "c-small-1-0", NodeType("small", Resources.of(CPU=1), template=TEMPLATE), "c-head:6379")
OPTIONS = Options(list_wait_s=10.0, clean_retry_s=0.1, pauses=Pauses(first_s=0.02, longest_s=0.2, blind_s=0.2))
OWNER = Owner("v1", "ConfigMap", "c", "u-1")


@contextlib.asynccontextmanager
async def running():
    ended = []
    async with serving() as (api, client):
        executor = KubernetesExecutor(client, "ns", on_end=ended.append, owner=lambda _: OWNER, options=OPTIONS)
        try:
            yield api, executor
        finally:
            await executor.close()
        assert ended == []


async def until(watch, phase):
    async with asyncio.timeout(10.0):
        while (seen := await anext(watch)).phase is not phase:
            pass
    return seen


async def status(api, name=SPEC.instance_id, **fields):
    await api.put({**api.pods[name], "spec": {**api.pods[name]["spec"], "nodeName": "n"}, "status": fields})


async def test_a_launch_is_one_create_and_the_supervisor_is_made_once():
    async with running() as (api, executor):
        specs = [replace(SPEC, instance_id=f"c-small-1-{index}") for index in range(20)]
        await asyncio.gather(*map(executor.launch, specs))
        assert api.calls["create"] == 21
        assert len(await executor.list("c")) == 20
        owners = {each["uid"] for pod in api.pods.values() for each in pod["metadata"]["ownerReferences"]}
        assert owners == {OWNER.uid}


async def test_what_an_instance_was_made_as_is_told_from_its_pod():
    async with running() as (_, executor):
        await executor.launch(SPEC)
        (seen,) = await executor.list("c")
        assert seen.made_as.is_made_like(SPEC.node_type)
        assert not seen.made_as.is_made_like(replace(SPEC.node_type, template=TEMPLATE.replace("ray", "raw")))


async def test_a_used_up_quota_is_insufficient_capacity_and_a_missing_right_is_denied():
    async with running() as (api, executor):
        api.refuse["create"] = [
            (201, {}, {}),
            (403, {}, {"reason": "Forbidden", "message": 'pods "a" is forbidden: exceeded quota: q'}),
            (403, {}, {"reason": "Forbidden", "message": 'pods is forbidden: User "x" cannot create resource "pods"'}),
        ]
        with pytest.raises(InsufficientCapacity, match="exceeded quota"):
            await executor.launch(SPEC)
        with pytest.raises(Denied, match="lacks the right to create pods in ns"):
            await executor.launch(SPEC)
        assert await executor.list("c") == []


async def test_a_create_whose_answer_was_lost_is_success_when_repeated():
    async with running() as (api, executor):
        await executor.launch(SPEC)
        api.refuse["create"] = [(504, {}, {"message": "timeout"})]
        other = replace(SPEC, instance_id="c-small-1-1")
        with pytest.raises(Unavailable):
            await executor.launch(other)
        assert await executor.launch(SPEC) == await executor.launch(SPEC)
        with pytest.raises(Conflict):
            await executor.launch(replace(SPEC, head_address="other:6379"))


async def test_a_pod_whose_ray_container_ended_is_gone_and_deleted_though_that_fails_at_first():
    async with running() as (api, executor):
        watch = executor.watch("c")
        await executor.launch(SPEC)
        api.refuse["delete"] = [(500, {}, {"message": "etcd"})]
        ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}
        await status(api, phase="Running", containerStatuses=[{"name": "ray", "state": ended}])
        seen = await until(watch, Phase.GONE)
        assert seen.error == "OOMKilled: exit code 137"
        assert await executor.list("c") == []
        async with asyncio.timeout(5.0):
            await api.until_empty()
        await executor.launch(replace(SPEC, instance_id="c-small-1-1"))
        assert (await anext(watch)).instance_id == "c-small-1-1", "gone is told once"


async def test_an_instance_never_goes_back_whatever_kubelet_says():
    async with running() as (api, executor):
        watch = executor.watch("c")
        await executor.launch(SPEC)
        await status(api, containerStatuses=[{"name": "ray", "state": {"running": {}}}])
        await until(watch, Phase.REGISTERING)
        await status(api, containerStatuses=[{"name": "ray", "state": {"waiting": {"reason": "ImagePullBackOff"}}}])
        seen = await anext(watch)
        assert (seen.phase, seen.error) == (Phase.REGISTERING, "ray: ImagePullBackOff")


@pytest.mark.parametrize(("age_s", "grace"), [(-100.0, None), (100.0, 0)])
async def test_an_end_that_has_no_effect_is_forced_once_its_time_is_over(age_s, grace):
    asked = []
    async with running() as (api, executor):
        await executor.launch(SPEC)
        pod = api.pods[SPEC.instance_id]
        ends_at = (datetime.now(UTC) - timedelta(seconds=age_s)).isoformat(timespec="seconds").replace("+00:00", "Z")
        watch = executor.watch("c")
        await api.put({**pod, "metadata": {**pod["metadata"], "deletionTimestamp": ends_at}})
        await until(watch, Phase.ENDING)
        delete = executor._client.delete

        async def noted(*args, **options):
            asked.append(options["grace_s"])
            await delete(*args, **options)

        executor._client.delete = noted
        await executor.terminate("c", SPEC.instance_id)
        assert asked == ([] if grace is None else [0])


async def test_the_end_of_an_instance_that_nobody_here_has_seen_asks_the_api_server():
    async with running() as (api, executor):
        await executor.launch(SPEC)
        api.refuse["list"] = [(500, {}, {})] * 1000
        async with contextlib.AsyncExitStack() as stack:
            options = replace(OPTIONS, list_wait_s=0.5)
            blind = KubernetesExecutor(executor._client, "ns", on_end=lambda _: None, options=options)
            stack.push_async_callback(blind.close)
            with pytest.raises(Unavailable):
                await blind.list("c")
            await blind.terminate("c", SPEC.instance_id)
            assert api.pods == {}
            await blind.terminate("c", SPEC.instance_id)


async def test_pods_without_our_marks_are_nobodys_instances():
    async with running() as (api, executor):
        await executor.launch(SPEC)
        theirs = json.loads(json.dumps(api.pods[SPEC.instance_id]))
        theirs["metadata"].update(name="head", labels={**theirs["metadata"]["labels"], "rayscaler.io/role": "head"})
        await api.put(theirs)
        await executor.terminate("c", "head")
        assert [each.external_id for each in await executor.list("c")] == [SPEC.instance_id]
        assert "head" in api.pods


async def test_an_api_server_that_resizes_no_pods_is_told_from_a_pod_that_is_gone():
    stated = {"requests": {"cpu": "1"}}
    template = json.dumps({"spec": {"containers": [{"name": "ray", "image": "ray", "resources": stated}]}})
    async with running() as (api, executor):
        await executor.launch(replace(SPEC, node_type=replace(SPEC.node_type, template=template)))
        running_now = {"name": "ray", "state": {"running": {}}, "resources": stated}
        watch = executor.watch("c")
        await status(api, phase="Running", containerStatuses=[running_now])
        assert (await until(watch, Phase.REGISTERING)).size == Size(Resources.of(CPU=1), Resources.of(CPU=1))
        with pytest.raises(Unsupported, match=r"1\.33"):
            await executor.resize("c", SPEC.instance_id, Resources.of(CPU=2))
        with pytest.raises(NotFound):
            await executor.resize("c", "c-small-9-0", Resources.of(CPU=2))
