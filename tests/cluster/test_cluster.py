"""The test bed keeps its promises: rights end where they should, ownership is swept, deeds are on record, pods by the hundred run in seconds."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import aiohttp
import pytest

from tests.cluster import binary
from tests.cluster.api import Api, ApiError
from tests.cluster.namespaces import create_all, fresh, pod
from tests.counts import counted

pytestmark = pytest.mark.tier("cluster")

PODS = counted(gate=300, full=1000)
KUBECTL = shutil.which("kubectl")


def test_the_go_sources_are_formatted():
    assert binary.unformatted() == ""


async def test_an_account_has_rights_in_its_namespace_and_nowhere_else(cluster, admin, namespace):
    account = await namespace.account()
    other = await fresh(cluster, admin)
    async with Api(cluster, account.token) as api:
        await api.create(namespace.path("pods"), pod("mine"))
        for refused in (
            api.get(other.path("pods")),
            api.create(other.path("pods"), pod("theirs")),
            api.get("/api/v1/pods"),
            api.get("/api/v1/nodes"),
            api.get(namespace.path("secrets")),
        ):
            with pytest.raises(ApiError, match="403 Forbidden"):
                await refused


@pytest.mark.skipif(KUBECTL is None, reason="kubectl is not on this machine")
async def test_kubectl_takes_the_kubeconfig(namespace):
    account = await namespace.account()
    argv = [KUBECTL, f"--kubeconfig={account.kubeconfig}", "auth", "can-i", "create", "pods"]
    process = await asyncio.create_subprocess_exec(*argv, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert out == b"yes\n"


async def test_the_record_says_who_did_what(cluster, namespace):
    account = await namespace.account()
    async with Api(cluster, account.token) as api:
        await api.create(namespace.path("pods"), pod("a"))
        await api.get(namespace.path("pods"))
        await api.delete(namespace.path("pods/a"))
        with pytest.raises(ApiError):
            await api.get("/api/v1/nodes")
    seen = await namespace.audited(account.user, at_least=4)
    assert [(event["verb"], event["objectRef"].get("name"), event["responseStatus"]["code"]) for event in seen] == [
        ("create", "a", 201),
        ("list", None, 200),
        ("delete", "a", 200),
        ("list", None, 403),
    ]
    assert {event["verb"] for event in namespace.audit(account.user, "nodes")} == {"list"}


async def test_what_an_object_owned_goes_with_it(namespace):
    owner = await namespace.api.create(namespace.path("configmaps"), {"metadata": {"name": "definition"}})
    owner |= {"apiVersion": "v1", "kind": "ConfigMap"}
    await create_all(namespace, [pod("owned", owner=owner), pod("free")])
    await namespace.settled("owned", "Running")
    await namespace.api.delete(namespace.path("configmaps/definition"), {"propagationPolicy": "Background"})
    await namespace.api.wait(namespace.path("pods"), "owned", lambda it: it is None)
    assert (await namespace.api.get(namespace.path("pods/free")))["metadata"].get("deletionTimestamp") is None


async def test_a_quota_refuses(namespace):
    await namespace.api.create(namespace.path("resourcequotas"), {"metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}})
    await namespace.api.wait(namespace.path("resourcequotas"), "few", lambda it: it is not None and "hard" in it.get("status", {}))
    await namespace.api.create(namespace.path("pods"), pod("first"))
    with pytest.raises(ApiError, match="exceeded quota"):
        await namespace.api.create(namespace.path("pods"), pod("second"))


async def test_a_service_knows_its_ready_pods(namespace):
    service = {"metadata": {"name": "head"}, "spec": {"selector": {"app": "head"}, "ports": [{"port": 6379}]}}
    await namespace.api.create(namespace.path("services"), service)
    made = pod("head")
    made["metadata"]["labels"] = {"app": "head"}
    await namespace.api.create(namespace.path("pods"), made)
    ready = await namespace.settled("head", "Running")
    served = await namespace.api.wait(
        namespace.path("endpoints"), "head", lambda it: bool(it and it.get("subsets", [{}])[0].get("addresses"))
    )
    assert served["subsets"][0]["addresses"][0]["ip"] == ready["status"]["podIP"]


async def test_the_api_server_goes_and_comes_back_with_all_it_knew(cluster, namespace):
    await namespace.api.create(namespace.path("pods"), pod("before"))
    await namespace.settled("before", "Running")
    async with cluster.without_api_server():
        with pytest.raises(aiohttp.ClientConnectionError):
            await namespace.api.get(namespace.path("pods"))
    await namespace.settled("before", "Running")
    await namespace.api.create(namespace.path("pods"), pod("after"))
    await namespace.settled("after", "Running")


async def test_hundreds_of_pods_run_in_seconds(namespace, capsys):
    started_at = time.monotonic()

    async def create() -> float:
        await create_all(namespace, [pod(f"p{i}") for i in range(PODS)])
        return time.monotonic() - started_at

    async def watch() -> float:
        running: set[str] = set()
        async for _, each in namespace.api.follow(namespace.path("pods")):
            if each["status"]["phase"] == "Running":
                running.add(each["metadata"]["name"])
            if len(running) == PODS:
                break
        return time.monotonic() - started_at

    async with asyncio.timeout(60):
        created_s, running_s = await asyncio.gather(create(), watch())
    with capsys.disabled():
        print(f"\n{PODS} pods created after {created_s:.1f} s, running after {running_s:.1f} s")


def test_nothing_outlives_the_process_that_started_it(tmp_path):
    code = "import pathlib, sys, time\nfrom tests.cluster import servers\nwith servers.running(pathlib.Path(sys.argv[1])): print('up', flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", code, tmp_path], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"up\n"
        pids = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
        assert len(pids) == 5
        assert all(_runs(pid) for pid in pids)
        holder.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 60
    while any(_runs(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _runs(pid: int) -> bool:
    try:
        return b"controlplane" in Path(f"/proc/{pid}/cmdline").read_bytes() and os.getpgid(pid) > 0
    except (FileNotFoundError, ProcessLookupError):
        return False
