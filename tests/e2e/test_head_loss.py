"""Heads, leaders and workers are lost on a real node: the workers' pods stay and join the next head, and work goes on."""

import asyncio
import errno
import json
import os
import signal
import time

import pytest

import rayscaler
from rayscaler.k8s import heads
from tests.cluster.api import JSON
from tests.e2e import images, installed, pods

pytestmark = pytest.mark.tier("e2e")

WORKERS = 3
SPEC = {
    "idleTimeout": "1m",  # so long, too, a floor outlives its head
    "floorAfterDriver": "never",  # whoever asks here ends at once
    "head": {"template": installed.template()},
    "nodeTypes": [
        {
            "name": "small",
            "maxWorkers": 5,
            "idleTimeout": "5s",
            "resources": {"CPU": 1, "slot": 1},
            "labels": {"disk": "fast"},
            "spot": True,
            "env": {"RAY_NODE_ZONE": "a", "RAY_NODE_REGION": "north"},
            "template": installed.template(),
        }
    ],
}
ODD = {
    "name": "odd",
    "minWorkers": 1,
    "maxWorkers": 1,
    "resources": {"CPU": 1, "slot": 1},
    "template": installed.template(images.ODD_RAY, images.ODD_USER),
}
"""A type whose one worker runs an image of another make."""
LABELS = {
    "disk": "fast",
    "ray.io/node-group": "small",
    "ray.io/market-type": "spot",
    "ray.io/availability-zone": "a",
    "ray.io/availability-region": "north",
}
"""What Ray shows of such a worker, besides the node's own id."""
LOST_S = 20.0
"""From a head's loss to the next task, on an idle machine: printed, and asserted with a multiple that a busy one needs."""
BUSY = 4
UP_S = 120.0
"""For three workers to be up at once on two cores."""
DRAIN_S = 30.0
"""For so long `ray start` waits for the work of a node that is told to end."""
KILLED = 128 + signal.SIGKILL
UNWRITABLE = os.strerror(errno.EROFS)
WORK_S = 15.0
"""Of a task that is well within that when its pod is deleted."""
JOB = """
import json, os, pathlib, sys, time, ray
from ray.experimental import internal_kv

def say(**what):
    print(json.dumps({"at": time.time(), **what}), flush=True)

@ray.remote(num_cpus=0.25)  # finds room beside a long one
def short():
    return [time.time(), os.environ["RAY_CLOUD_INSTANCE_ID"]]

@ray.remote(num_cpus=0.5, resources={"slot": 1})
def long(seconds, name):  # what Ray runs again ends at once
    began, task = time.time(), ray.get_runtime_context().get_task_id()
    is_first = not internal_kv._internal_kv_put(task, "began", overwrite=False)
    pathlib.Path("/tmp", name).write_text(f"{os.getpid()} ")
    time.sleep(seconds if is_first else 0)
    return {"where": os.environ["RAY_CLOUD_INSTANCE_ID"], "began": began, "ended": time.time(), "is_first": is_first}

number, submitted = 0, False
while True:
    number += 1
    try:
        ray.init("ray://demo-head:10001", log_to_driver=False)
        connected = time.time()
        if sys.argv[1] == "busy":
            refs = [long.remote(float(sys.argv[3]), sys.argv[2]) for _ in range(int(sys.argv[4]))]
            submitted = True
            say(submitted=len(refs))
            for done in ray.get(refs):
                say(**done)
            break
        began, where = ray.get(short.remote(), timeout=60)
        say(number=number, connected=connected, began=began, where=where)
        if sys.argv[1] == "once":
            break
    except Exception as error:  # whatever a lost head looks like from here: this loop goes on
        say(number=number, error=type(error).__name__)
        if submitted:  # before that, Ray's client server has broken off a session that began beside another
            break
        time.sleep(0.1)
    finally:
        try:
            ray.shutdown()
        except Exception as error:
            say(shutdown=type(error).__name__)
"""
FLOOR = """
import ray; from ray.autoscaler.sdk import request_resources
ray.init(address="auto", log_to_driver=False); request_resources(num_cpus={cpus}); print("asked")
"""
IS_BUSY = """
import os, pathlib
try:
    pid, end, _ = pathlib.Path("/tmp", "{name}").read_text().partition(" ")
    print(bool(end) and b"ray::long" in pathlib.Path("/proc", pid, "cmdline").read_bytes())
except OSError:
    print(False)
"""
"""Whether a task of that name runs in a pod: it has left its process there."""
ROOT = """
try:
    open("/home/ray/a", "w")
except OSError as error:
    print(error.strerror)
"""
WHO = """
import json, os, shutil, sys
print(json.dumps([os.getuid(), sys.executable, shutil.which("ps")]))
"""
TABLE = """
import json, ray
ray.init(address="auto", log_to_driver=False)
print(json.dumps(ray.nodes()))
"""
KILL_GCS = """
import os
for pid in filter(str.isdigit, os.listdir("/proc")):
    try:
        name = open(f"/proc/{pid}/stat").read().split("(")[1].split(")")[0]
    except OSError:
        continue
    if name == "gcs_server": os.kill(int(pid), 9); print("killed")
"""


async def test_workers_join_the_next_head_and_work_goes_on(kube_namespace, tmp_path, capsys):
    async with installed.install(kube_namespace, tmp_path) as site:
        await site.define("demo", **{**SPEC, "nodeTypes": [*SPEC["nodeTypes"], ODD]})
        head = await site.head("demo")
        workers = await floored(site, WORKERS)
        (odd,) = [name for name in workers if name.startswith("demo-odd-")]
        assert await in_worker(site, odd, WHO) == json.dumps([images.ODD_USER, f"/{images.ODD_PLACE}/bin/python3", None])
        loop = await site.client("loop", JOB, "loop")
        await loop.said(lambda it: "began" in it)

        async def gcs() -> JSON:
            assert await site.in_head("demo", KILL_GCS) == "killed"
            return head

        async def pod() -> JSON:
            await site.deployer.kubectl("delete", "pod", head["metadata"]["name"], "--wait=false")
            return await site.next_head("demo", head)

        for what, lose in (("the GCS killed", gcs), ("the head's pod deleted", pod)):
            name, old = f"busy-{lose.__name__}", head["metadata"]["name"]
            await site.client(name, JOB, "busy", name, "3600", str(WORKERS))
            assert await working(site, name, WORKERS) == set(workers)
            async with installed.moments(site, "demo") as seen:
                lost_at = time.time()
                again = asyncio.create_task(site.client(f"again-{lose.__name__}", JOB, "once"))
                head = await lose()
                line = await (await again).said(lambda it: "began" in it)
                nodes = await joined(site, workers)
                with capsys.disabled():
                    report(what, lost_at, line, nodes, seen.of.get(head["metadata"]["name"], {}))
                if lose is pod:
                    gone_s = await seen.until(old, "gone", BUSY * heads.GRACE_S) - seen.of[old]["deleted"]
                    with capsys.disabled():
                        print(f"  the old head's pod was gone {gone_s:.1f} s after its deletion, exit codes {json.dumps(seen.ended[old])}")
                    assert set(seen.ended[old]) == {"ray", installed.MONITOR}
                    assert KILLED not in seen.ended[old].values()
            assert line["where"] in workers
            assert line["began"] - lost_at < BUSY * LOST_S
            await asyncio.sleep(8.0)  # longer than the idle timeout of the type: the floor alone keeps them now
            assert uids(await site.workers("demo")) == workers
            await loop.said(lambda it, after=line["began"]: "began" in it and it["at"] > after)
            assert await floored(site, WORKERS) == workers
        with capsys.disabled():
            lines = await loop.lines()
            print(f"  a driver that connects again and again: {sum('began' in it for it in lines)} times done, failed as {failures(lines)}")


async def test_installed_by_one_file_work_goes_on_without_the_leader_and_a_lost_worker_is_replaced(kube_namespace, tmp_path, capsys):
    async with installed.applied(kube_namespace, tmp_path) as site:
        await site.define("demo", **SPEC)
        await site.head("demo")
        lost = await floored(site, 2)
        await known(site, lost)
        assert await service_images(site) == {f"rayscaler:{rayscaler.__version__}"}
        assert [await site.in_head("demo", ROOT), *[await in_worker(site, name, ROOT) for name in lost]] == [UNWRITABLE] * 3
        now = await replaced(site, lost, capsys)
        (leader,) = await site.pods("rayscaler.io/leader=true")
        lost_at = time.time()
        await site.namespace.api.delete(site.namespace.path(f"pods/{leader['metadata']['name']}"), gracePeriodSeconds="0")
        assert await site.in_head("demo", FLOOR.format(cpus=3)) == "asked"
        after = uids(await site.counted("demo", 3, UP_S))
        with capsys.disabled():
            print(f"the leader's pod deleted: scaled up {time.time() - lost_at:.1f} s later, asked for at once")
        assert set(now.items()) <= set(after.items())
        await joined(site, after)


async def replaced(site: installed.Installed, lost: dict[str, str], capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    """Delete the pods of two busy workers, and return those that come for them once all work has ended: in its old pod what the drain has time for."""
    lasting = await site.client("lasting", JOB, "busy", "lasting", "3600", "1")
    (over_long,) = await working(site, "lasting", 1)
    brief = await site.client("brief", JOB, "busy", "brief", str(WORK_S), "1")
    (within,) = await working(site, "brief", 1)
    assert {over_long, within} == set(lost)
    lost_at = time.time()
    for name in lost:
        await site.namespace.api.delete(site.namespace.path(f"pods/{name}"))
    async with asyncio.timeout(UP_S):
        while set(lost) & set(now := uids(await site.workers("demo"))) or len(now) < 2:  # noqa: ASYNC110  # see Seen.counted
            await asyncio.sleep(0.1)
    replaced_s = time.time() - lost_at
    ended = await brief.said(lambda it: "ended" in it)
    again = await lasting.said(lambda it: "ended" in it)
    with capsys.disabled():
        print(f"\ntwo busy workers' pods deleted: others made after {replaced_s:.1f} s")
        print(f"  work within the drain of {DRAIN_S:.0f} s ended {ended['ended'] - lost_at:.1f} s after, in its old pod")
        print(f"  work over it began again {again['began'] - lost_at:.1f} s after, in a new one")
    assert (ended["where"], ended["is_first"]) == (within, True)
    assert ended["ended"] > lost_at
    assert (again["where"] in now, again["is_first"]) == (True, False)
    await joined(site, now)
    return now


async def service_images(site: installed.Installed) -> set[str]:
    """Return what the service and the heads' monitors run from."""
    found = [*await site.pods("app.kubernetes.io/component=service"), *await site.pods("rayscaler.io/role=head")]
    containers = [each for pod in found for each in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"])]
    return {each["image"] for each in containers if each["name"].startswith("rayscaler")}


async def floored(site: installed.Installed, cpus: int) -> dict[str, str]:
    """Ask for a floor of so many workers in the head, and return them once Ray has them."""
    assert await site.in_head("demo", FLOOR.format(cpus=cpus)) == "asked"
    workers = uids(await site.counted("demo", cpus, UP_S))
    await joined(site, workers)
    return workers


async def joined(site: installed.Installed, workers: dict[str, str]) -> dict[str, JSON]:
    """Wait until Ray shows just these workers, and return what it says of them."""
    nodes: dict[str, JSON] = {}
    try:
        async with asyncio.timeout(UP_S):
            while set(nodes := await site.nodes("demo")) != set(workers):  # noqa: ASYNC110  # see Seen.counted
                await asyncio.sleep(0.5)
    except TimeoutError:
        raise TimeoutError(f"Ray has {sorted(nodes)}, and pods are {sorted(workers)}") from None
    return nodes


async def in_worker(site: installed.Installed, name: str, code: str) -> str:
    """Run a program in a worker's pod and return what it printed last."""
    status, said = await pods.execute(site.namespace, name, ["python3", "-c", code], container="ray")
    assert not status, said
    return said.splitlines()[-1]


async def working(site: installed.Installed, name: str, count: int) -> set[str]:
    """Wait until tasks of that name run in so many workers' pods, seen in the pods themselves, and return these."""
    found: set[str] = set()
    try:
        async with asyncio.timeout(UP_S):
            while len(found) < count:
                names = list(uids(await site.workers("demo")))
                found = {each for each in names if await in_worker(site, each, IS_BUSY.format(name=name)) == "True"}
    except TimeoutError:
        raise TimeoutError(f"after {UP_S:g} s tasks of {name} run in {sorted(found)}, not in {count} pods") from None
    return found


async def known(site: installed.Installed, workers: dict[str, str]) -> None:
    """Hold Ray's own tables against who the nodes are (features 2.5): instance, type and labels, of the head too."""
    shown = {each["NodeID"]: each["Labels"] for each in json.loads(await site.in_head("demo", TABLE)) if each["Alive"]}
    head = (await site.head("demo"))["metadata"]["name"]
    nodes = await site.table("demo")
    assert {name: each["type"] for name, each in nodes.items()} == {head: "head", **dict.fromkeys(workers, "small")}
    for name, each in nodes.items():
        labels = {"ray.io/node-group": "head"} if name == head else LABELS
        assert each["labels"] == shown[each["id"]] == {**labels, "ray.io/node-id": each["id"]}


def uids(found: list[JSON]) -> dict[str, str]:
    """Return pods' uids by their names."""
    return {each["metadata"]["name"]: each["metadata"]["uid"] for each in found}


def failures(lines: list[JSON]) -> str:
    """Return how often a driver failed with what."""
    names = [each["error"] for each in lines if "error" in each]
    return json.dumps({name: names.count(name) for name in sorted(set(names))})


def report(what: str, lost_at: float, line: JSON, nodes: dict[str, JSON], head: dict[str, float]) -> None:
    """Print when what happened after a loss."""
    moments = {
        f"pod {name}": at for name, at in head.items() if name in {"created", "scheduled", "started", "ready"} and at > lost_at + 0.2
    }
    moments |= {"first worker joined": min(each["joined"] for each in nodes.values())}
    moments |= {"last worker joined": max(each["joined"] for each in nodes.values())}
    moments |= {"new driver connected": line["connected"], "its task runs": line["began"]}
    told = ", ".join(f"{name} {at - lost_at:.1f}" for name, at in sorted(moments.items(), key=lambda it: it[1]))
    print(f"\n{what}, seconds after: {told}")
