"""Credentials within a namespace (design 2b.11), on a real API server with the Role alone: its Secret, its tokens, its keys."""

import asyncio
import base64
import contextlib
import json
from dataclasses import replace

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.api.head.v1 import head_pb2_grpc
from rayscaler.clock import SystemClock
from rayscaler.errors import Denied, NotFound, Unauthenticated, Unavailable
from rayscaler.k8s import certificates
from rayscaler.k8s.authority import Lives
from rayscaler.k8s.certificates import Certificates
from rayscaler.k8s.identity import Identity
from rayscaler.k8s.objects import SECRETS
from rayscaler.reconciler.registry import Registry
from rayscaler.server.app import Server
from tests.cluster.namespaces import pod
from tests.k8s import bed
from tests.server.sockets import failure, report

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(180)]

CLOCK = SystemClock()
QUICK = certificates.Pauses(look_s=0.2, first_s=0.1, longest_s=0.2)
BRIEF = Lives(server_s=9.0, backdate_s=0.0)
"""Renewed after 6 s."""


@contextlib.asynccontextmanager
async def kept(*tasks):
    """Run eternal work for the length of the block."""
    running = [asyncio.create_task(each) for each in tasks]
    try:
        yield
        assert not [each for each in running if each.done()]
    finally:
        for each in running:
            each.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def until(claim):
    """Wait until it holds: nobody tells when."""
    async with asyncio.timeout(60):
        while not claim():  # noqa: ASYNC110  # see above
            await asyncio.sleep(0.05)


async def until_denied(call, *arguments):
    """Call until the API server has heard that the right is gone."""
    with contextlib.suppress(Denied):
        async with asyncio.timeout(60):
            while True:
                await call(*arguments)
                await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def replicas(client, namespace, count=2, lives=None):
    made = [Certificates(client, namespace.name, clock=CLOCK, lives=lives, pauses=QUICK) for _ in range(count)]
    async with kept(*(each.run() for each in made)):
        async with asyncio.timeout(60):
            for each in made:
                await each.ready()
        yield made


@contextlib.asynccontextmanager
async def identity(client, namespace):
    made = Identity(client, namespace.name, clock=CLOCK)
    async with kept(made.run()):
        await until(lambda: made._issuer)
        yield made


async def token_of(namespace, name, uid, audience="rayscaler", account="rayscaler-head"):
    """Have the API server make a token as kubelet does for a projected volume."""
    reference = {"boundObjectRef": {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}} if name else {}
    answer = await namespace.api.create(
        namespace.path(f"serviceaccounts/{account}/token"), {"spec": {"audiences": [audience], "expirationSeconds": 600, **reference}}
    )
    return answer["status"]["token"]


async def head_pod(namespace, name="demo-head-1"):
    """Return the uid of a pod with the account of heads."""
    return (await namespace.api.create(namespace.path("pods"), pod(name, spec={"serviceAccountName": "rayscaler-head"})))["metadata"]["uid"]


async def heads(namespace):
    await namespace.api.create(namespace.path("serviceaccounts"), {"metadata": {"name": "rayscaler-head"}})


async def test_credentials_within_a_namespace(namespace):
    """Two replicas that begin at once show one certificate, a head's pod is known by its token, and by no other."""
    await heads(namespace)
    uid, other = await head_pod(namespace), await head_pod(namespace, "demo-head-2")
    async with bed.entered(namespace) as client, replicas(client, namespace) as (leader, standby), identity(client, namespace) as known:
        assert leader.current() == standby.current()
        server = Server(
            Registry([]), listen="127.0.0.1:0", max_message_bytes=1 << 20, credentials=standby.current, authenticate=known.authenticate
        )
        port = await server.start()
        told = await namespace.api.get(namespace.path("configmaps/rayscaler-ca"))
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(told["data"]["ca.crt"].encode())) as channel:

            async def answer(token, incarnation=uid):
                request = report(head_incarnation=incarnation, snapshot=pb.Snapshot())
                call = head_pb2_grpc.HeadServiceStub(channel).ReportDemand(request, metadata=[("authorization", f"Bearer {token}")])
                return (await failure(call)).code().name

            own = await token_of(namespace, "demo-head-1", uid)
            assert await answer(own) == "NOT_FOUND"  # what it says to a known caller: this server has no cluster
            assert await answer(own, incarnation=other) == "PERMISSION_DENIED"
            assert await answer(await token_of(namespace, "demo-head-2", other)) == "PERMISSION_DENIED"
            assert await answer(await token_of(namespace, "demo-head-1", uid, audience="another")) == "UNAUTHENTICATED"
            assert await answer(await token_of(namespace, "", "")) == "UNAUTHENTICATED"
            assert await answer(own[:-8] + "AAAAAAAA") == "UNAUTHENTICATED"
        await server.stop(0)


async def test_a_token_of_the_api_server_says_whose_it_is_and_one_of_another_namespace_does_not_count(namespace):
    await heads(namespace)
    uid = await head_pod(namespace)
    token = await token_of(namespace, "demo-head-1", uid)
    async with bed.entered(namespace) as client, identity(client, namespace) as known:
        caller = known.authenticate(token)
        assert (caller.namespace, caller.pod, caller.uid) == (namespace.name, "demo-head-1", uid)
        with pytest.raises(Unauthenticated, match="audience"):
            known.authenticate(await token_of(namespace, "demo-head-1", uid, audience="https://kubernetes.default.svc"))
        async with identity(client, replace(namespace, name="default")) as elsewhere:
            with pytest.raises(Denied, match="serves 'default' alone"):
                elsewhere.authenticate(token)


async def test_who_may_not_read_the_issuers_keys_lets_nobody_in_and_is_told_what_to_bind(namespace, admin, cluster):
    """The right is every ServiceAccount's by a binding of Kubernetes' own, which some take away; an account without its groups shows it."""
    await heads(namespace)
    uid = await head_pod(namespace)
    token = await token_of(namespace, "demo-head-1", uid)
    binding = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/system:service-account-issuer-discovery"
    found = await admin.get(binding)
    assert [(each["kind"], each["name"]) for each in found["subjects"]] == [("Group", "system:serviceaccounts")]
    await admin.patch(binding, {"subjects": []})
    try:
        async with bed.entered(namespace) as client:
            await until_denied(client.read, "openid/v1/jwks")
            known = Identity(client, namespace.name, clock=CLOCK)
            async with kept(known.run()):
                await until(lambda: "bind the ClusterRole system:service-account-issuer-discovery" in known._problem)
                with pytest.raises(Unavailable, match=r"tokens cannot be checked: get /\.well-known/openid-configuration: "):
                    known.authenticate(token)
                await admin.patch(binding, {"subjects": found["subjects"]})
                await until(lambda: known._issuer)
                assert known.authenticate(token).uid == uid
    finally:
        await admin.patch(binding, {"subjects": found["subjects"]})


async def test_a_certificate_is_renewed_for_all_replicas_while_they_serve(namespace):
    async with bed.entered(namespace) as client, replicas(client, namespace, lives=BRIEF) as (one, two):
        server = Server(Registry([]), listen="127.0.0.1:0", max_message_bytes=1 << 20, credentials=one.current)
        port = await server.start()
        first = one.current()
        roots = (await client.get(SECRETS, namespace.name, "rayscaler-tls")).data["ca.crt"]
        await until(lambda: one.current() != first and two.current() == one.current())
        await asyncio.sleep(4.0)  # until the first one has expired: 9 s after it was made
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(roots)) as channel:
            assert await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
        await server.stop(0)


async def test_a_secret_that_was_deleted_or_spoilt_and_a_config_map_that_was_edited(namespace):
    path = namespace.path("secrets/rayscaler-tls")
    async with bed.entered(namespace) as client, replicas(client, namespace) as (one, two):
        first = one.current()
        await namespace.api.patch(path, {"data": {"tls.key": base64.b64encode(b"spoilt").decode()}})
        await asyncio.sleep(1.0)  # a few looks
        assert one.current() == first  # the last good one is shown
        await namespace.api.delete(path)
        await until(lambda: one.current() != first and two.current() == one.current())
        made = await namespace.api.get(path)
        assert (made["type"], made["metadata"]["labels"]) == ("kubernetes.io/tls", {"app.kubernetes.io/managed-by": "rayscaler"})
        told = namespace.path("configmaps")
        await namespace.api.patch(f"{told}/rayscaler-ca", {"data": {"ca.crt": "no"}})
        authority = base64.b64decode(made["data"]["ca.crt"]).decode()
        found = await namespace.api.wait(told, "rayscaler-ca", lambda it: it is not None and it["data"]["ca.crt"] == authority)
        assert found["data"]["ca.crt"] == authority


async def test_the_rights_are_to_one_secret_and_to_nothing_that_lists_them(namespace):
    await namespace.api.create(namespace.path("secrets"), {"metadata": {"name": "others"}, "stringData": {"password": "x"}})
    async with bed.entered(namespace) as client:
        for forbidden in (client.get(SECRETS, namespace.name, "others"), client.list(SECRETS, namespace.name)):
            with pytest.raises(Denied):
                await forbidden
        with pytest.raises(NotFound):
            await client.get(SECRETS, namespace.name, certificates.SECRET)
        async with replicas(client, namespace, count=1):
            pass
    deeds = {
        (each["verb"], each["objectRef"]["resource"]) for each in namespace.audit(f"system:serviceaccount:{namespace.name}:rayscaler-0")
    }
    assert deeds <= {(verb, kind) for verb in ("get", "create", "list") for kind in ("secrets", "configmaps")}


async def test_what_kubernetes_says_of_itself_is_what_the_identity_reads(namespace):
    async with bed.entered(namespace) as client:
        assert json.loads(await client.read(".well-known/openid-configuration"))["issuer"] == "https://kubernetes.default.svc"
        assert json.loads(await client.read("openid/v1/jwks"))["keys"][0]["alg"] == "RS256"
        with pytest.raises(Denied, match="get /metrics"):
            await client.read("metrics")
