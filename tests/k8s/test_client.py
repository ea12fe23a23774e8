"""The door to the API server: what it needs, and what it says when that is missing."""

import asyncio
import contextlib

import pytest
from kubernetes.aio.client.configuration import Configuration

from rayscaler.errors import Busy, InvalidRequest, NotFound, Unavailable
from rayscaler.k8s import failures
from rayscaler.k8s.client import Client, connect
from rayscaler.k8s.objects import PODS
from tests.k8s.fake_api import pod, serving

pytestmark = pytest.mark.tier("protocol")


@pytest.mark.parametrize(
    ("text", "said"),
    [(None, "Invalid kube-config"), ("{", "run in a pod, or name a kubeconfig"), ("a: 1", "run in a pod, or name a kubeconfig")],
)
async def test_a_kubeconfig_that_is_none_is_named(tmp_path, text, said):
    path = tmp_path / "config"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InvalidRequest, match=str(path)) as refused:
        await connect(path)
    assert said in str(refused.value)


async def test_outside_of_a_pod_there_is_no_account(monkeypatch):
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(InvalidRequest, match="service account of this pod"):
        await connect()


async def test_the_verbs_and_their_refusals():
    async with serving() as (_, client):
        made = await client.create(PODS, "ns", pod("a"))
        assert (await client.get(PODS, "ns", "a")).metadata.uid == made.metadata.uid
        with pytest.raises(failures.AlreadyExists):
            await client.create(PODS, "ns", pod("a"))
        with pytest.raises(Busy):
            await client.delete(PODS, "ns", "a", uid="another")
        await client.delete(PODS, "ns", "a", uid=made.metadata.uid)
        with pytest.raises(NotFound, match="get pods in ns: "):
            await client.get(PODS, "ns", "a")


async def test_a_name_cannot_lead_elsewhere():
    async with serving() as (api, client):
        await client.create(PODS, "ns", pod("a"))
        with pytest.raises(NotFound):
            await client.delete(PODS, "ns", "../pods/a")
        assert "a" in api.pods


async def test_no_answer_and_nobody_there_are_unavailable():
    async with serving() as (api, client), contextlib.AsyncExitStack() as stack:
        hasty = Client(client._configuration, call_s=0.5)
        stack.push_async_callback(hasty.close)
        api.refuse["get"] = [(429, {"Retry-After": "9"}, {"message": "busy"})]
        with pytest.raises(Unavailable, match="busy"):
            await client.get(PODS, "ns", "a")
        async with api._news:
            with pytest.raises(Unavailable, match=r"create pods in ns: no answer within 0\.5 s"):
                await hasty.create(PODS, "ns", pod("a"))
        await api.stop()
        with pytest.raises(Unavailable, match="get pods in ns: "):
            await client.get(PODS, "ns", "a")


@pytest.mark.parametrize(
    ("environment", "of_kubeconfig", "is_asked"),
    [
        ({}, "", False),
        ({"http_proxy": "PROXY"}, "", True),
        ({"http_proxy": "PROXY", "no_proxy": "api.example"}, "", False),
        ({"http_proxy": "http://127.0.0.1:1"}, "PROXY", True),
    ],
)
async def test_a_proxy_is_the_kubeconfigs_else_the_environments(monkeypatch, environment, of_kubeconfig, is_asked):
    asked = []

    async def answer(reader, writer):
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[1].decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        writer.close()

    for name in ("http_proxy", "no_proxy", "HTTP_PROXY", "NO_PROXY", "REQUEST_METHOD"):
        monkeypatch.delenv(name, raising=False)
    async with await asyncio.start_server(answer, "127.0.0.1", 0) as proxy:
        url = f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}"
        for name, value in environment.items():
            monkeypatch.setenv(name, value.replace("PROXY", url))
        configuration = Configuration(host="http://api.example:6443", proxy=of_kubeconfig.replace("PROXY", url) or None)
        client = Client(configuration, call_s=5)
        try:
            with contextlib.nullcontext() if is_asked else pytest.raises(Unavailable):
                await client.get(PODS, "ns", "a")
        finally:
            await client.close()
    assert asked == (["http://api.example:6443/api/v1/namespaces/ns/pods/a"] if is_asked else [])
