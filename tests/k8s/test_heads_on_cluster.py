"""Heads on a real API server, with no right but the Role: what the Service's endpoints say, of whom there is never more than one epoch."""

import asyncio
import contextlib
import json
from dataclasses import replace

import pytest

from rayscaler.k8s import heads, labels
from rayscaler.k8s.head import Options
from rayscaler.k8s.pods import Owner
from rayscaler.k8s.succession import HeadPhase
from rayscaler.model.nodetype import ClusterConfig, Head
from tests.cluster.namespaces import RESTRICTED, Namespace
from tests.k8s import bed
from tests.k8s.test_head import tending

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(180)]
FAST = Options(pauses_s=(0.0, 0.1), unreachable_s=0.5)
SIM = "sim.rayscaler.io/"
SLICES = "discovery.k8s.io/v1"


def config(sim=None, container=None, spec=None, **fields) -> ClusterConfig:
    annotations = {f"{SIM}{key}": value for key, value in (sim or {}).items()}
    ray = {"name": "ray", "image": "rayproject/ray:2.60.0", **(container or {})}
    template = {"metadata": {"annotations": annotations}, "spec": {"containers": [ray], **(spec or {})}}
    return ClusterConfig("demo", (), executor="k8s", head=Head(template=json.dumps(template), **fields))


async def prepared(namespace: Namespace) -> Owner:
    """Make what the chart and the user make: the account of heads, and the definition."""
    await namespace.api.create(namespace.path("serviceaccounts"), {"metadata": {"name": heads.SERVICE_ACCOUNT}})
    made = await namespace.api.create(namespace.path("configmaps"), {"metadata": {"name": "demo"}})
    return Owner("v1", "ConfigMap", "demo", made["metadata"]["uid"])


class Endpoints:
    """What the Service leads to, at each change: the names of ready pods."""

    def __init__(self, namespace):
        self._namespace = namespace
        self._slices = {}
        self.seen = []
        self._news = asyncio.Condition()

    @property
    def now(self):
        return {each for names in self._slices.values() for each in names}

    async def run(self):
        path = self._namespace.path("endpointslices", SLICES)
        async for kind, found in self._namespace.api.follow(path, labelSelector="kubernetes.io/service-name=demo-head"):
            ready = [each["targetRef"]["name"] for each in found.get("endpoints") or [] if each["conditions"].get("ready")]
            async with self._news:
                self._slices[found["metadata"]["name"]] = [] if kind == "DELETED" else ready
                self.seen.append(sorted(self.now))
                self._news.notify_all()

    async def until(self, *names):
        async with asyncio.timeout(60), self._news:
            await self._news.wait_for(lambda: self.now == set(names))


@contextlib.asynccontextmanager
async def endpoints_of(namespace):
    found = Endpoints(namespace)
    task = asyncio.create_task(found.run())
    try:
        yield found
        assert not task.done(), task.exception()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def staged(namespace):
    """What keeps heads with the rights of the Role, what it tells of them, what their Service leads to, and whose they are."""
    owner = await prepared(namespace)
    async with (
        bed.entered(namespace) as client,
        endpoints_of(namespace) as endpoints,
        tending(client, FAST, namespace.name) as (made, told),
    ):
        yield made, told, endpoints, owner


async def pod(namespace, name):
    return await namespace.api.get(f"{namespace.path('pods')}/{name}")


async def gone(namespace, name):
    await namespace.api.wait(namespace.path("pods"), name, lambda it: it is None)


async def test_a_head_is_made_with_no_right_but_the_role_and_its_service_leads_to_it(namespace):
    async with staged(namespace) as (made, told, endpoints, owner):
        made.want(config(), owner)
        await told.until(HeadPhase.READY, 1)
        await endpoints.until("demo-head-1")
        found = await pod(namespace, "demo-head-1")
        assert made.incarnation("demo") == found["metadata"]["uid"]
        slices = await namespace.api.get(namespace.path("endpointslices", SLICES))
        ports = {each["name"]: each["port"] for each in slices["items"][0]["ports"]}
        assert ports == {"gcs": 6379, "client": 10001, "dashboard": 8265, "serve": 8000}
        (token,) = [each for each in found["spec"]["volumes"] if each["name"].startswith("kube-api-access")] or [None]
        assert (found["spec"]["serviceAccountName"], token) == ("rayscaler-head", None)


async def test_design_2b_4_a_head_killed_five_times_is_five_epochs_of_which_one_is_served(namespace):
    async with staged(namespace) as (made, told, endpoints, owner):
        made.want(config(sim={"ends-after": "2s"}), owner)
        incarnations = []
        for epoch in range(1, 7):
            await told.until(HeadPhase.READY, epoch)
            await endpoints.until(f"demo-head-{epoch}")
            incarnations.append(made.incarnation("demo"))
            if epoch < 6:
                await namespace.api.delete(f"{namespace.path('pods')}/demo-head-{epoch}")
        assert len(set(incarnations)) == 6
        assert incarnations[-1] == (await pod(namespace, "demo-head-6"))["metadata"]["uid"]
        for epoch in range(1, 6):
            await gone(namespace, f"demo-head-{epoch}")
        assert_one_epoch_at_a_time(endpoints)


async def test_design_2b_3_two_services_at_once_swap_each_epoch_once_and_hear_the_same_head(namespace):
    owner = await prepared(namespace)
    line = bed.Line(namespace)
    await line.open()
    selected = []

    async def follow_service():
        async for _, found in namespace.api.follow(namespace.path("services"), fieldSelector="metadata.name=demo-head"):
            selected.append(int(found["spec"]["selector"][labels.HEAD_EPOCH]))

    async with (
        bed.entered(namespace) as one,
        bed.entered(namespace, port=line.port) as another,
        endpoints_of(namespace) as endpoints,
        tending(one, FAST, namespace.name) as (first, told),
        tending(another, FAST, namespace.name) as (second, other),
    ):
        following = asyncio.create_task(follow_service())
        for each in (first, second):
            each.want(config(), owner)
        for epoch in range(1, 9):
            await told.until(HeadPhase.READY, epoch)
            await other.until(HeadPhase.READY, epoch)
            await endpoints.until(f"demo-head-{epoch}")
            assert (
                first.incarnation("demo") == second.incarnation("demo") == (await pod(namespace, f"demo-head-{epoch}"))["metadata"]["uid"]
            )
            await namespace.api.delete(f"{namespace.path('pods')}/demo-head-{epoch}")
        await told.until(HeadPhase.READY, 9)
        await endpoints.until("demo-head-9")
        async with asyncio.timeout(60):
            while selected[-1] != 9:  # noqa: ASYNC110  # another watch than that of the endpoints: it may be behind
                await asyncio.sleep(0.05)
        following.cancel()
        left = await namespace.api.get(namespace.path("pods"), labelSelector=labels.HEADS_SELECTOR)
        assert [each["metadata"]["name"] for each in left["items"] if "deletionTimestamp" not in each["metadata"]] == ["demo-head-9"]
        assert sorted(set(selected)) == selected == list(range(1, 10))
        assert_one_epoch_at_a_time(endpoints)
    await line.close()


def assert_one_epoch_at_a_time(endpoints):
    """No moment had two heads, and no head came back."""
    assert all(len(each) <= 1 for each in endpoints.seen), endpoints.seen
    epochs = [int(each[0].rpartition("-")[2]) for each in endpoints.seen if each]
    assert epochs == sorted(epochs)


async def test_design_2b_4_a_head_whose_node_is_out_of_sight_or_that_never_ends_is_not_waited_for(namespace):
    async with staged(namespace) as (made, told, endpoints, owner):
        made.want(config(sim={"ends-after": "never"}), owner)
        await endpoints.until("demo-head-1")
        conditions = {"status": {"conditions": [{"type": "Ready", "status": "False"}]}}  # as the node controller does, and no kubelet
        path = f"{namespace.path('pods')}/demo-head-1/status"
        await namespace.api.patch(path, conditions, "application/strategic-merge-patch+json")
        await told.until(HeadPhase.LOST, 1, "out of sight for 0.5 s")
        await endpoints.until("demo-head-2")
        assert "deletionTimestamp" in (await pod(namespace, "demo-head-1"))["metadata"]
        await namespace.api.delete(f"{namespace.path('pods')}/demo-head-2")
        await endpoints.until("demo-head-3")
        assert {each["metadata"]["name"] for each in (await namespace.api.get(namespace.path("pods")))["items"]} == {
            f"demo-head-{epoch}" for epoch in (1, 2, 3)
        }
        assert_one_epoch_at_a_time(endpoints)


async def test_a_better_definition_replaces_a_head_that_was_never_up_and_restarts_none_that_was(namespace):
    async with staged(namespace) as (made, told, _, owner):
        made.want(config(sim={"image-pull": "fail"}), owner)
        await told.until(HeadPhase.PULLING, 1, "ImagePullBackOff")
        made.want(config(), owner)
        await told.until(HeadPhase.READY, 2)
        await gone(namespace, "demo-head-1")
        uid = made.incarnation("demo")
        made.want(config(env=(("A", "1"),)), owner)
        async with asyncio.timeout(30), told._news:
            await told._news.wait_for(lambda: "spec.head has changed since" in told.facts[-1][1].detail)
        assert (made.incarnation("demo"), told.facts[-1][1].phase) == (uid, HeadPhase.READY)


async def test_of_a_service_only_what_breaks_its_contract_is_put_right(namespace):
    async with staged(namespace) as (made, _, endpoints, owner):
        made.want(config(), owner)
        await endpoints.until("demo-head-1")
        path = f"{namespace.path('services')}/demo-head"
        before = await namespace.api.get(path)
        user = {
            "metadata": {"annotations": {"mine": "1"}},
            "spec": {"type": "NodePort", "selector": {"app": "other"}, "publishNotReadyAddresses": True},
        }
        await namespace.api.patch(path, user)
        found = await namespace.api.wait(
            namespace.path("services"), "demo-head", lambda it: it["spec"]["selector"] == labels.head_selector("demo", 1)
        )
        await endpoints.until("demo-head-1")
        assert (found["spec"]["type"], found["metadata"]["annotations"]["mine"]) == ("NodePort", "1")
        assert found["spec"]["clusterIP"] == before["spec"]["clusterIP"]
        assert "publishNotReadyAddresses" not in found["spec"]
        await namespace.api.delete(path)
        await namespace.api.wait(
            namespace.path("services"), "demo-head", lambda it: it is not None and it["metadata"]["uid"] != found["metadata"]["uid"]
        )
        await endpoints.until("demo-head-1")


async def test_what_is_missing_is_told_and_the_head_comes_up_once_it_is_there(namespace):
    made_map = await namespace.api.create(namespace.path("configmaps"), {"metadata": {"name": "demo"}})
    owner = Owner("v1", "ConfigMap", "demo", made_map["metadata"]["uid"])
    async with bed.entered(namespace) as client, tending(client, FAST, namespace.name) as (made, told):
        made.want(config(), owner)
        await told.until(HeadPhase.MISSING, 1, 'serviceaccount "rayscaler-head" not found')
        await namespace.api.create(namespace.path("serviceaccounts"), {"metadata": {"name": heads.SERVICE_ACCOUNT}})
        await told.until(HeadPhase.READY, 1)


async def test_each_right_of_a_head_is_needed_and_its_lack_is_named(namespace):
    owner = await prepared(namespace)
    for number, (kind, verb, cluster) in enumerate((("services", "create", "a"), ("services", "patch", "b"), ("services", "list", "c")), 1):
        rules = [
            {**rule, "verbs": [each for each in rule["verbs"] if (rule["resources"], each) != ([kind], verb)]} for rule in bed.ROLE["rules"]
        ]
        account = await namespace.account(f"less-{number}", rules)
        client = await bed.connect(account.kubeconfig)
        try:
            async with tending(client, replace(FAST, list_wait_s=1.0), namespace.name) as (made, told):
                made.want(ClusterConfig(cluster, (), head=config().head), owner)
                if verb == "patch":
                    await told.until(HeadPhase.READY, cluster=cluster)
                    await namespace.api.delete(f"{namespace.path('pods')}/{cluster}-head-1")
                phase = HeadPhase.LOST if verb == "patch" else HeadPhase.MISSING
                await told.until(phase, reason=f"lacks the right to {verb} {kind} in {namespace.name}", cluster=cluster)
        finally:
            await client.close()


async def test_cd10_deleting_the_definition_deletes_its_head_and_service_without_rayscaler(namespace):
    async with staged(namespace) as (made, told, _, owner):
        made.want(config(), owner)
        await told.until(HeadPhase.READY, 1)
        made.forget("demo")
        await namespace.api.delete(f"{namespace.path('configmaps')}/demo")
        await namespace.api.wait(namespace.path("services"), "demo-head", lambda it: it is None)
        await gone(namespace, "demo-head-1")


async def test_a_definition_of_the_same_name_made_anew_has_a_head_of_its_own(namespace):
    async with staged(namespace) as (made, told, endpoints, owner):
        made.want(config(), owner)
        await told.until(HeadPhase.READY, 1)
        old = made.incarnation("demo")
        await namespace.api.delete(f"{namespace.path('configmaps')}/demo")
        again = await namespace.api.create(namespace.path("configmaps"), {"metadata": {"name": "demo"}})
        made.want(config(), Owner("v1", "ConfigMap", "demo", again["metadata"]["uid"]))
        await told.until(HeadPhase.READY, 2)
        await gone(namespace, "demo-head-1")
        await endpoints.until("demo-head-2")
        service = await namespace.api.get(f"{namespace.path('services')}/demo-head")
        assert service["metadata"]["ownerReferences"][0]["uid"] == again["metadata"]["uid"]
        assert made.incarnation("demo") != old
        assert_one_epoch_at_a_time(endpoints)


async def test_pt1_the_restricted_profile_takes_a_head_with_its_monitor(namespace):
    await namespace.restrict()
    async with staged(namespace) as (made, told, _, owner):
        made.want(config(container={"securityContext": RESTRICTED}), owner)
        await told.until(HeadPhase.READY, 1)
