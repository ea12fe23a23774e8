"""The real node keeps its promises: pods run and reach each other by name, say what they do, obey their limits, and nothing outlives the bed."""

import asyncio
import contextlib
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import rayscaler
from tests.cluster.namespaces import RESTRICTED
from tests.cluster.product import awaited
from tests.e2e import bed, host, images
from tests.e2e.pods import execute, log, pod

pytestmark = pytest.mark.tier("e2e")

START_S = 120.0
"""For a pod to run; 2 s on an idle machine."""
OWN = Path("/proc/self")
ASK = """
import time, urllib.error, urllib.request
for _ in range(200):  # who turns a Service's packets hears of its pods a moment after they are ready
    try:
        print(urllib.request.urlopen("http://web", timeout=20).status)
        break
    except urllib.error.URLError:
        time.sleep(0.1)
"""
SERVE = ["python3", "-c", "import http.server as it; it.test(it.SimpleHTTPRequestHandler, port=8000)"]


async def test_a_service_is_reached_by_name_from_another_pod_and_by_address_from_the_test(kube_namespace):
    service = {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": [{"port": 80, "targetPort": 8000}]}}
    made = await kube_namespace.api.create(kube_namespace.path("services"), service)
    ready = {"readinessProbe": {"tcpSocket": {"port": 8000}, "periodSeconds": 1}}
    await kube_namespace.api.create(kube_namespace.path("pods"), pod("web", images.RAY, SERVE, **ready))
    await kube_namespace.api.create(kube_namespace.path("pods"), pod("client", images.RAY, ["sleep", "inf"]))
    for name in ("web", "client"):
        await kube_namespace.settled(name, "Running", START_S)
    assert await execute(kube_namespace, "client", ["python3", "-c", ASK]) == (0, "200\n")
    _, writer = await asyncio.open_connection(made["spec"]["clusterIP"], 80)
    writer.close()

    async def is_logged() -> bool:
        return '"GET / HTTP/1.1" 200' in await log(kube_namespace, "web")

    await awaited(is_logged)  # a container's words are written down a moment later


async def test_a_program_in_a_pod_ends_with_its_code(kube_namespace):
    await kube_namespace.api.create(kube_namespace.path("pods"), pod("p", images.RAY, ["sleep", "inf"]))
    await kube_namespace.settled("p", "Running", START_S)
    assert await execute(kube_namespace, "p", ["bash", "-c", "id -u; exit 7"]) == (7, "1000\n")


async def test_the_service_s_image_runs_under_the_strictest_limits(kube_namespace):
    await kube_namespace.restrict()
    made = pod("version", images.SERVICE, ["version", "--json"], securityContext=RESTRICTED)
    await kube_namespace.api.create(kube_namespace.path("pods"), made)
    await kube_namespace.settled("version", "Succeeded", START_S)
    assert json.loads(await log(kube_namespace, "version"))["rayscaler"] == rayscaler.__version__


async def test_a_pod_reaches_the_api_server_with_its_own_account(kube_namespace):
    code = (
        "import asyncio, kubernetes.aio as k\n"
        "async def main():\n"
        "    k.config.load_incluster_config()\n"
        "    async with k.client.ApiClient() as client: print((await k.client.VersionApi(client).get_code()).git_version)\n"
        "asyncio.run(main())\n"
    )
    made = pod("inside", images.SERVICE, ["-c", code], command=["python3"], securityContext=RESTRICTED)
    made["spec"]["automountServiceAccountToken"] = True
    await kube_namespace.api.create(kube_namespace.path("pods"), made)
    await kube_namespace.settled("inside", "Succeeded", START_S)
    assert await log(kube_namespace, "inside") == "v1.34.4\n"


async def test_ray_s_image_runs_a_head(kube_namespace):
    start = ["ray", "start", "--head", "--block", "--num-cpus=0", "--include-dashboard=false", "--object-store-memory=80000000"]
    made = pod("head", images.RAY, start, readinessProbe={"tcpSocket": {"port": 6379}, "periodSeconds": 1})
    shm = {"volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}]}
    made["spec"]["containers"][0] |= shm
    made["spec"]["volumes"] = [{"name": "shm", "emptyDir": {"medium": "Memory"}}]
    await kube_namespace.api.create(kube_namespace.path("pods"), made)
    await kube_namespace.settled("head", "Running", 2 * START_S)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_the_process_that_started_it(how, kube):
    code = (
        "import signal, sys, time\nfrom tests.e2e import bed\nsignal.signal(signal.SIGTERM, lambda *_: sys.exit())\n"
        "with bed.running() as it: print(it.place.number, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, cwd=bed.ROOT) as holder:
        try:
            assert holder.stdout is not None
            place = bed.Place(int(holder.stdout.readline()))
            assert place != kube.place
            namespace = next(_namespace(each) for each in _processes() if _is_keeper(each, place) and _namespace(each) != _namespace(OWN))
            assert {each.partition(" ")[0] for each in _left(place, namespace)} == {"process", "group", "interface", "route"}
        finally:
            holder.send_signal(how)
    deadline = time.monotonic() + bed.END_S
    while left := _left(place, namespace):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def _left(place: bed.Place, namespace: str) -> list[str]:
    """Return what a bed has on this machine as seen from outside; its namespace of processes holds its pods, too."""
    routes = subprocess.run(["ip", "route", "show", place.services], capture_output=True, check=True, text=True).stdout.splitlines()
    mounts = Path("/proc/mounts").read_text().splitlines()
    return [
        *(f"process {process.name}" for process in _processes() if _namespace(process) == namespace),
        *(f"group {path}" for each in host.hierarchies() for path in each.glob(place.group)),
        *(f"interface {path.name}" for path in Path("/sys/class/net").glob(place.interface)),
        *(f"route {line}" for line in routes),
        *(f"mount {line}" for line in mounts if str(place.directory) in line or "/run/netns" in line),
    ]


def _processes() -> list[Path]:
    return list(Path("/proc").glob("[0-9]*"))


def _namespace(process: Path) -> str:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or none of ours
        return str((process / "ns/pid").readlink())
    return ""


def _is_keeper(process: Path, place: bed.Place) -> bool:
    with contextlib.suppress(FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or none of ours
        return f"tests.e2e.keep\0{place.number}\0".encode() in (process / "cmdline").read_bytes()
    return False
