"""What happens to pods reaches plans and people: whole clusters on a real API server, whose nodes alone are simulated."""

from dataclasses import replace

import pytest

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.clock import SystemClock
from rayscaler.model.instance import InstanceStatus, Reason
from rayscaler.model.resources import Resources
from rayscaler.settings import Timings
from tests.k8s import fleet

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(180)]

CPU = Resources.of(CPU=1)
HASTY = replace(Timings(), unscheduled_s=60.0, pulling_s=180.0, unneeded_grace_s=5.0)
"""Patience of 6 s for a machine and for an image."""


@pytest.mark.parametrize(
    ("sim", "words"),
    [
        pytest.param({"image-pull": "fail"}, "ImagePullBackOff", id="an image that cannot be pulled"),
        pytest.param({"unschedulable": "true"}, "Unschedulable: 0/20 nodes are available", id="no machine"),
    ],
)
async def test_fh_5_a_type_whose_pods_do_not_get_on_is_passed_over_and_says_why(namespace, sim, words):
    types = (fleet.node_type("cheap", sim=sim, cost=1.0), fleet.node_type("dear", cost=2.0))
    async with fleet.running(namespace, fleet.config(*types), timings=HASTY) as f:
        f.gcs.submit(CPU, 3)
        await f.until(lambda: any(words in each.detail for each in f.status().instances))
        await f.until(lambda: f.gcs.told is not None and any(words in each.details for each in f.gcs.told.pending_instances))
        await f.until(lambda: f.nodes() == {"dear": 3})
        (backoff,) = f.status().backoffs
        assert (backoff.node_type, backoff.failures) == ("cheap", 1)
        assert words in backoff.detail
        await f.until(lambda: any(words in each.reason for each in f.gcs.told.failed_instance_requests))
        (cheap,) = [each for each in f.reconciler.explanation().node_types if each.name == "cheap"]
        assert (cheap.because.reason, words in cheap.because.detail) == (Reason.BACKED_OFF, True)
        await f.until(lambda: set(f.instances().values()) == {"RUNNING"})
        assert len(f.of("created", "cheap")) == 3
        assert {each["metadata"]["labels"]["rayscaler.io/node-type"] for each in await f.pods()} == {"dear"}
        assert f.of("lost") == []


async def test_lf_9_a_spot_notice_is_a_drain_with_a_deadline_and_a_replacement_before_the_end(namespace):
    sim = {"spot-notice": "2s", "spot-grace": "12s"}
    types = (fleet.node_type("spot", sim=sim, grace_s=12, cost=1.0, max_workers=1), fleet.node_type("steady", cost=2.0))
    async with fleet.running(namespace, fleet.config(*types)) as f:
        f.gcs.submit(CPU, 1)
        await f.until(lambda: f.nodes() == {"spot": 1})
        await f.until(lambda: bool(f.gcs.drains))
        (drain,) = f.gcs.drains
        assert drain.reason == gcs_pb2.DRAIN_NODE_REASON_PREEMPTION
        assert 0 < drain.deadline_timestamp_ms / 1000 - SystemClock().now() <= 13
        assert "TerminationByKubelet" in drain.reason_message
        (spot,) = [each for each in f.status().instances if each.node_type == "spot"]
        assert (spot.status, spot.reason) == (InstanceStatus.DRAINING, Reason.PREEMPTED)
        await f.until(lambda: bool(f.of("lost", "spot")))
        (joined,), (lost,) = f.of("joined", "steady"), f.of("lost", "spot")
        assert joined.at < lost.at - 5
        await f.until(lambda: set(f.instances().values()) == {"RUNNING"})
        assert f.nodes() == {"steady": 1}
        assert len(f.of("created")) == 2
        assert f.status().backoffs == ()


async def test_an_annotation_announces_an_end_and_a_busy_pod_is_ended_when_its_time_is_up(namespace):
    types = (fleet.node_type("small", grace_s=1),)
    timings = replace(Timings(), draining_s=6.0)  # a busy machine has the other one up in that time
    async with fleet.running(namespace, fleet.config(*types), timings=timings) as f:
        f.gcs.submit(CPU, 1)
        await f.until(lambda: f.nodes() == {"small": 1})
        (pod,) = await f.pods()
        name = pod["metadata"]["name"]
        told = {"metadata": {"annotations": {"rayscaler.io/terminate-by": "2020-01-01T00:00:00Z"}}}
        await namespace.api.patch(namespace.path(f"pods/{name}"), told)
        await f.until(lambda: len(f.of("joined")) == 2)
        await f.until(lambda: bool(f.of("gone")))
        assert f.of("gone")[0].instance_id == name
        assert f.of("marked")[0].at > f.of("joined")[1].at
        await f.until(lambda: list(f.instances().values()) == ["RUNNING"])


async def test_a_pod_that_others_delete_is_drained_in_its_grace_and_replaced_at_once(namespace):
    types = (fleet.node_type("small", grace_s=10, sim={"ends-after": "8s"}, min_workers=1),)
    async with fleet.running(namespace, fleet.config(*types)) as f:
        await f.until(lambda: f.nodes() == {"small": 1})
        (pod,) = await f.pods()
        f.gcs.submit(CPU, 1)
        await namespace.api.delete(namespace.path(f"pods/{pod['metadata']['name']}"))
        await f.until(lambda: len(f.of("joined")) == 2)
        await f.until(lambda: bool(f.gcs.drains))  # not before the first reports have settled
        assert f.of("gone") == []
        assert [each.reason for each in f.gcs.drains] == [gcs_pb2.DRAIN_NODE_REASON_PREEMPTION]
        assert "deleted by somebody else" in f.gcs.drains[0].reason_message
        await f.until(lambda: bool(f.of("gone")) and list(f.instances().values()) == ["RUNNING"])


async def test_fh_1_pods_that_are_gone_with_their_node_are_replaced_and_no_failure_of_their_type(namespace):
    async with fleet.running(namespace, fleet.config(fleet.node_type("small"))) as f:
        f.gcs.submit(CPU, 2)
        await f.until(lambda: f.nodes() == {"small": 2})
        pods = await f.pods()
        for pod in pods:  # as the garbage collector of pods does it
            await namespace.api.delete(namespace.path(f"pods/{pod['metadata']['name']}"), {"gracePeriodSeconds": 0})
        await f.until(lambda: len(f.of("joined")) == 4)
        assert len(f.of("created")) == 4
        assert f.status().backoffs == ()


async def test_h2_a_quota_is_filled_the_rest_waits_and_more_quota_is_used(namespace):
    limited = fleet.node_type("limited", cost=1.0)
    await namespace.quota("q", pods="6")
    async with fleet.running(namespace, fleet.config(limited)) as f:
        f.gcs.submit(CPU, 10)
        await f.until(lambda: f.nodes() == {"limited": 6})
        await f.until(lambda: any("exceeded quota" in each.detail for each in f.status().backoffs))
        # the back-off is told at once, what waits for it with the plan that follows
        await f.until(lambda: {each.reason for each in f.status().pending} == {Reason.BACKED_OFF})
        await namespace.api.patch(namespace.path("resourcequotas/q"), {"spec": {"hard": {"pods": "20"}}})
        await f.until(lambda: f.nodes() == {"limited": 10}, 45.0)
