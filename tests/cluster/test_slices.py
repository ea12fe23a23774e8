"""Whole slices on a real API server (complaint I4, CD-16, NW-6), by the whole product: real service, monitor and pods; a fake Ray."""

import asyncio
from datetime import datetime
from itertools import pairwise

import pytest

from rayscaler.model.resources import Resources
from tests.cluster.product import awaited, document, until

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(300)]

HOSTS = 4
HOST = Resources.of(TPU=4)
SLICES = {"name": "slice", "resources": {"TPU": 4}, "hostsPerReplica": HOSTS, "maxWorkers": 100}
NAME, INDEX, NUMBER = "ray.io/worker-group-replica-name", "ray.io/worker-group-replica-index", "ray.io/replica-host-index"


def slices(pods: list[dict]) -> dict[str, dict[str, dict]]:
    """Return pods by their slice, and in it by the number of the host."""
    found: dict[str, dict[str, dict]] = {}
    for each in pods:
        labels = each["metadata"]["labels"]
        hosts = found.setdefault(labels[NAME], {})
        assert labels[NUMBER] not in hosts, f"two are host {labels[NUMBER]} of {labels[NAME]}"
        hosts[labels[NUMBER]] = each
    return found


def uids(hosts: dict[str, dict]) -> set[str]:
    return {each["metadata"]["uid"] for each in hosts.values()}


def index(hosts: dict[str, dict]) -> str:
    """Return the number that all hosts of a slice have for it."""
    (found,) = {each["metadata"]["labels"][INDEX] for each in hosts.values()}
    return found


async def test_i4_of_four_slices_three_that_fit_are_made_and_one_lost_host_replaces_its_own_slice_alone(ours):
    """Complaint I4: four slices of four with room for 14 nodes; a pod of one is deleted."""
    service = await ours.serve()
    definition = document("demo", SLICES, maxWorkers=14)
    await ours.define(definition)
    async with ours.ray(definition, service.address) as ray:
        ray.gcs.submit(HOST, 4 * HOSTS)
        await until(lambda: len(ray.gcs.running()) == 3 * HOSTS)
        first = slices(await ours.workers("demo"))
        assert [sorted(hosts) for hosts in first.values()] == [["0", "1", "2", "3"]] * 3
        assert sorted(map(index, first.values())) == ["0", "1", "2"]
        assert (len(first), len(ours.created("demo")), ours.deleted("demo")) == (3, 3 * HOSTS, set())
        await _check_names(ours, first)

        lost, *others = first
        victim = first[lost]["2"]["metadata"]["name"]
        await ours.namespace.api.delete(ours.namespace.path(f"pods/{victim}"))
        mates = {each["metadata"]["annotations"]["rayscaler.io/instance-id"] for each in first[lost].values()}
        ended = first[lost]["2"]["metadata"]["annotations"]["rayscaler.io/instance-id"]  # drained too, if its pod lives for so long
        await until(lambda: {each.instance_id for each in ray.gcs.nodes.values() if each.is_draining} - {ended} == mates - {ended})
        ray.gcs.finish(*(each.task_id for each in ray.gcs.running() if each.node.instance_id in mates))  # a slice's job fails with its host
        await until(lambda: len(ours.created("demo")) == 4 * HOSTS and len(ray.gcs.running()) == 3 * HOSTS)
        second = slices(await ours.counted("demo", 3 * HOSTS))
        assert {name: uids(second[name]) for name in others} == {name: uids(first[name]) for name in others}
        assert {name: index(second[name]) for name in others} == {name: index(first[name]) for name in others}
        ((new, hosts),) = ((name, hosts) for name, hosts in second.items() if name not in others)
        assert new != lost
        assert sorted(hosts) == ["0", "1", "2", "3"]
    await ours.has_deleted("demo", {each["metadata"]["name"] for each in first[lost].values()})
    assert len(ours.created("demo")) == len(set(ours.created("demo"))) == 4 * HOSTS


async def test_i4_slices_that_a_quota_does_not_take_whole_are_not_made_again_and_again(ours):
    """Complaint I4: a quota of 14 workers' pods, four slices of four wanted: what is whole stays, what is not is tried again ever more seldom."""
    await ours.namespace.quota("few", pods="15")  # the head is one
    service = await ours.serve()
    definition = document("demo", SLICES)
    await ours.define(definition)
    async with ours.ray(definition, service.address) as ray:
        ray.gcs.submit(HOST, 4 * HOSTS)
        failing = asyncio.create_task(_fail_with_their_slices(ray))
        try:
            whole = await awaited(lambda: _three_whole(ours))
            tries = len(_tries(ours))
            await until(lambda: len(_tries(ours)) == tries + 2)
        finally:
            failing.cancel()
        after = slices(await ours.workers("demo"))
        assert {name: uids(after[name]) for name in whole} == {name: uids(hosts) for name, hosts in whole.items()}
    assert ours.deleted("demo").isdisjoint(each["metadata"]["name"] for hosts in whole.values() for each in hosts.values())
    before, between = (later - earlier for earlier, later in pairwise(_tries(ours)[-3:]))
    assert between > before + 2.0, (
        f"pauses of {before:.1f} and {between:.1f} s do not grow"
    )  # of 5, 10, 20 and 30 s, and what a busy machine adds


async def _three_whole(ours) -> dict[str, dict[str, dict]]:
    """Return the slices of which all hosts are there and stay, once there are three; none before."""
    found = {name: hosts for name, hosts in slices(await ours.workers("demo")).items() if len(hosts) == HOSTS}
    return found if len(found) == 3 else {}


async def _fail_with_their_slices(ray) -> None:
    """Have what runs on hosts that are drained fail and be submitted again, for ever, as a job over a slice does."""
    while True:
        lost = [each.task_id for each in ray.gcs.running() if each.node.is_draining]
        ray.gcs.finish(*lost)
        ray.gcs.submit(HOST, len(lost))
        await asyncio.sleep(0.1)  # a fake Ray tells nobody


def _tries(ours) -> list[float]:
    """Return when each plan began to launch workers: they have its number in their names."""
    times: dict[str, float] = {}
    for each in ours.deeds("create"):
        name = each["objectRef"]["name"]
        if name.startswith("demo-slice-"):
            times.setdefault(name.split("-")[2], datetime.fromisoformat(each["requestReceivedTimestamp"]).timestamp())
    return list(times.values())


async def _check_names(ours, found: dict[str, dict[str, dict]]) -> None:
    """Check that hosts know each other by the names that the API server's endpoints give them."""
    path = ours.namespace.path("services/demo-headless")
    service = await ours.namespace.api.get(path)
    assert service["metadata"]["ownerReferences"][0]["name"] == "demo"
    assert (service["spec"]["clusterIP"], service["spec"]["publishNotReadyAddresses"]) == ("None", True)
    expected = {f"{each['spec']['hostname']}.{each['spec']['subdomain']}" for hosts in found.values() for each in hosts.values()}
    assert len(expected) == 3 * HOSTS
    for hosts in found.values():
        for number, pod in hosts.items():
            env = {each["name"]: each.get("value") for each in pod["spec"]["containers"][0]["env"]}
            names = env["RAYSCALER_HOST_NAMES"].split(",")
            assert names[int(number)] == f"{pod['spec']['hostname']}.demo-headless"
            assert set(names) <= expected
    groups = ours.namespace.path("endpointslices", "discovery.k8s.io/v1")

    async def known() -> bool:
        """Whether Kubernetes, a moment after the pods, has the very same names for what its DNS answers with."""
        there = await ours.namespace.api.get(groups, labelSelector="kubernetes.io/service-name=demo-headless")
        return {f"{each.get('hostname')}.demo-headless" for group in there["items"] for each in group["endpoints"] or ()} == expected

    await awaited(known)
