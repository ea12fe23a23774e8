"""What a user does, on a real node: helm install, kubectl apply, ray.init from a pod; workers come with work and go without."""

import statistics

import pytest

from tests.cluster.api import JSON
from tests.cluster.product import UP_S
from tests.e2e import installed
from tests.e2e.pods import execute

pytestmark = pytest.mark.tier("e2e")

TRIES = 4
GONE_S = 120.0
"""For a worker to be drained and gone after its idle timeout; 2 s on an idle machine, and here the tests share it."""
JOB = (
    """
import json, sys, time, ray

def say(**what):
    print(json.dumps(what), flush=True)

@ray.remote(num_cpus=1)
def task():
    return time.time()
"""
    + installed.CONNECT
    + """
say(connected=time.time())
for number in range(int(sys.argv[1])):
    while len(ray.nodes()) > 1 and any(node["Alive"] for node in ray.nodes() if "node:__internal_head__" not in node["Resources"]):
        time.sleep(0.2)
    time.sleep(3)
    at = time.time()
    began = ray.get(task.remote())
    say(number=number, submitted=at, began=began, ended=time.time())
ray.shutdown()
"""
)


async def test_a_cluster_is_installed_defined_used_and_taken_away(kube_namespace, tmp_path, capsys):
    async with installed.install(kube_namespace, tmp_path) as site:
        assert "answers with TLSv1.3, its certificate is good" in await site.deployer.helm("test", "any-name", "--logs")
        async with installed.moments(site, "demo") as seen:
            await site.apply(installed.example(idleTimeout="1s"))
            head = await site.head("demo")
            assert await site.workers("demo") == []
            client = await site.client("client", JOB, str(TRIES))
            tries = []
            for number in range(TRIES):
                if number == TRIES - 1:  # the client waits for some seconds more
                    await seen.until(tries[-1]["pod"], "gone", GONE_S)
                    await site.apply(installed.example())  # with an idle timeout of a minute, as it stands there
                line = await client.said(lambda it, number=number: it.get("number") == number, 2 * UP_S)
                (pod,) = [name for name in seen.of if name.startswith("demo-small-") and name not in {each["pod"] for each in tries}]
                nodes = await site.table("demo", has_dead=True)  # its idle timeout is as short as this takes
                tries.append({"pod": pod, **line, "joined": nodes[pod]["joined"], **seen.of[pod]})
            last = tries[-1]
            gone = await seen.until(last["pod"], "gone", 60.0 + GONE_S)
            with capsys.disabled():
                report(tries, seen.of[last["pod"]]["deleted"] - last["ended"], gone - last["ended"])
            assert gone - last["ended"] > 59.0, "an edit of the idle timeout counts"
            assert await site.workers("demo") == []
            assert (await site.head("demo"))["metadata"]["uid"] == head["metadata"]["uid"]
        said = (await execute(kube_namespace, (await replicas(site))[0], ["rayscaler", "-n", kube_namespace.name, "status"]))[1]
        assert "demo: its head reports" in said
        await installed.taken_away(site)


def report(tries: list[JSON], deleted_s: float, gone_s: float) -> None:
    """Print how long it took from nothing to a task, and what of that was whose."""
    steps = ("submitted", "created", "scheduled", "started", "joined", "began")
    print(f"\nfrom no worker to a task that runs, {len(tries)} tries, seconds after its submission:")
    for each in tries:
        print("  " + "  ".join(f"{step} {each[step] - each['submitted']:.2f}" for step in steps[1:]))
    whole = statistics.median(each["began"] - each["submitted"] for each in tries)
    ours = statistics.median(each["created"] - each["submitted"] for each in tries)
    print(f"  median {whole:.2f} s, of it until its pod was created {ours:.2f} s")
    print(f"  after an idle timeout of 60 s: drained and deleted {deleted_s:.1f} s after the last task, gone after {gone_s:.1f} s")


async def replicas(site: installed.Installed) -> list[str]:
    """Return the names of the service's pods."""
    return [each["metadata"]["name"] for each in await site.pods("app.kubernetes.io/component=service")]
