"""Simulated nodes do with a pod what its annotations say, and say so as a kubelet would."""

import pytest

from tests.cluster.api import MERGE_PATCH, ApiError
from tests.cluster.namespaces import REGISTERED, condition, pod, waiting

pytestmark = pytest.mark.tier("cluster")


async def made(namespace, name="w", **how):
    return await namespace.api.create(namespace.path("pods"), pod(name, **how))


async def seen(namespace, until, name="w", since=None):
    """Wait for what a pod is, or has been since it was what is given: some of it lasts for half a second."""
    return await namespace.api.wait(namespace.path("pods"), name, lambda it: it is not None and until(it), since=since)


async def gone(namespace, name="w"):
    await namespace.api.wait(namespace.path("pods"), name, lambda it: it is None)


async def annotate(namespace, name="w", **behaviour):
    changed = pod(name, **behaviour)["metadata"]["annotations"]
    await namespace.api.patch(namespace.path(f"pods/{name}"), {"metadata": {"annotations": changed}}, MERGE_PATCH)


async def test_a_pod_is_ready_at_once_with_an_address(namespace):
    await made(namespace)
    ready = await namespace.settled("w", "Running")
    assert ready["status"]["podIP"].startswith("10.")
    assert ready["spec"]["nodeName"].startswith("sim-")
    assert ready["status"]["containerStatuses"][0]["ready"]


async def test_ready_after_a_time(namespace):
    new = await made(namespace, ready_after="700ms")
    assert await seen(namespace, lambda it: waiting(it) == "ContainerCreating", since=new)
    await namespace.settled("w", "Running")


async def test_an_image_cannot_be_pulled_until_it_can(namespace):
    new = await made(namespace, image_pull="fail")
    first = await seen(namespace, lambda it: waiting(it) == "ErrImagePull", since=new)
    failed = await seen(namespace, lambda it: waiting(it) == "ImagePullBackOff", since=first)
    assert failed["status"]["phase"] == "Pending"
    await namespace.api.patch(namespace.path("pods/w"), {"metadata": {"annotations": None}}, MERGE_PATCH)
    await namespace.settled("w", "Running")


async def test_a_crash_fails_a_pod_that_is_never_restarted(namespace):
    await made(namespace, exit_after="100ms", exit_code="3")
    failed = await namespace.settled("w", "Failed")
    assert failed["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3


async def test_a_crash_on_command(namespace):
    await made(namespace)
    await namespace.settled("w", "Running")
    await annotate(namespace, exit_after="0s", exit_code="0")
    await namespace.settled("w", "Succeeded")


async def test_a_crash_loops_where_the_pod_is_restarted(namespace):
    new = await made(namespace, exit_after="100ms", spec={"restartPolicy": "Always"})
    looping = await seen(namespace, lambda it: waiting(it) == "CrashLoopBackOff", since=new)
    assert looping["status"]["containerStatuses"][0]["lastState"]["terminated"]["exitCode"] == 1
    assert await seen(namespace, lambda it: it["status"]["containerStatuses"][0]["restartCount"] >= 2)


async def test_never_scheduled_in_the_schedulers_own_words(namespace):
    await made(namespace, unschedulable="true")
    stuck = await seen(namespace, lambda it: condition(it, "PodScheduled").get("reason") == "Unschedulable")
    assert condition(stuck, "PodScheduled")["message"].startswith("0/20 nodes are available: 20 node(s) refused")
    await namespace.api.delete(namespace.path("pods/w"))
    await gone(namespace)


async def test_a_node_registers_later_than_its_pod_is_ready(namespace):
    new = await made(namespace, registers_after="500ms")
    ready = await seen(namespace, lambda it: condition(it, "Ready").get("status") == "True", since=new)
    assert condition(ready, REGISTERED)["status"] == "False"
    assert await seen(namespace, lambda it: condition(it, REGISTERED).get("status") == "True")


async def test_a_spot_notice_comes_before_the_end(namespace):
    new = await made(namespace, spot_notice="100ms", spot_grace="500ms")
    noticed = await seen(namespace, lambda it: condition(it, "DisruptionTarget").get("status") == "True", since=new)
    assert condition(noticed, "DisruptionTarget")["reason"] == "TerminationByKubelet"
    assert noticed["status"]["phase"] == "Running"
    ended = await namespace.settled("w", "Failed")
    assert ended["status"]["reason"] == "Terminated"


async def test_a_deleted_pod_ends_within_its_grace(namespace):
    await made(namespace, ends_after="1h", spec={"terminationGracePeriodSeconds": 1})
    running = await namespace.settled("w", "Running")
    await namespace.api.delete(namespace.path("pods/w"))
    killed = await seen(namespace, lambda it: it["status"]["phase"] == "Failed", since=running)
    assert killed["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 137
    await gone(namespace)


async def test_a_pod_that_heeds_sigterm_is_gone_before_its_grace(namespace):
    await made(namespace, ends_after="200ms")
    await namespace.settled("w", "Running")
    await namespace.api.delete(namespace.path("pods/w"))
    await namespace.api.wait(namespace.path("pods"), "w", lambda it: it is None, timeout_s=20.0)  # its grace is 30 s


async def test_stuck_in_terminating_until_forced(namespace):
    await made(namespace, ends_after="never", spec={"terminationGracePeriodSeconds": 1})
    await namespace.settled("w", "Running")
    await namespace.api.delete(namespace.path("pods/w"))
    with pytest.raises(TimeoutError):
        await namespace.api.wait(namespace.path("pods"), "w", lambda it: it is None, timeout_s=2.0)
    stuck = await namespace.api.get(namespace.path("pods/w"))
    assert stuck["metadata"]["deletionTimestamp"]
    assert stuck["status"]["phase"] == "Running"
    await namespace.api.delete(namespace.path("pods/w"), {"gracePeriodSeconds": 0})
    with pytest.raises(ApiError, match="404 NotFound"):
        await namespace.api.get(namespace.path("pods/w"))


async def test_a_behaviour_that_is_not_understood_fails_the_pod_and_says_why(namespace):
    await made(namespace, exit_afer="1s", ready_after="soon")
    failed = await namespace.settled("w", "Failed")
    assert failed["status"]["reason"] == "BadSimulation"
    assert "exit-afer" in failed["status"]["message"]
    assert "ready-after" in failed["status"]["message"]
