"""Case `k8s-task`: a task submitted on a real head to its pod's being created; and what the service asks of the API server when nothing happens.

The head is a process on this machine with a real monitor beside it, and stands for the pod that the service made; the pod is seen by a
separate observer. Each task needs a node of its own, of which none ever joins, so each makes one pod.

As a program, python -m tests.bench.k8s_task ADDRESS, it is the job: at each line of standard input it submits a task and prints the moment.
"""

import asyncio
import contextlib
import os
import random
import statistics
import sys
import time

from tests.bench import k8s_world, worlds
from tests.bench.result import Options, Result, say, spread
from tests.cluster.product import WORKERS, Site, document

SAMPLES = 10
TARGET_S, MOST_S = 1.3, 2.0
"""KubeRay with Ray's autoscaler v2 took a median of 2.6 s and at most 4.2 s on such a machine, measured once: no anchor of this run."""
IDLE_S, IDLE_TARGET = 60.0, 0.2
PHASE_S = 1.0
"""Ray sums its backlog once a second: the submission waits for a moment drawn by seed."""
WITHIN_S = 60.0


def run(options: Options) -> Result:
    """Measure all samples, then a quiet minute."""
    samples = options.samples or SAMPLES
    with k8s_world.kubernetes() as cluster:
        took, idle = asyncio.run(_measured(cluster, samples, random.Random(options.seed)))
    median, most = statistics.median(took), max(took)
    is_met = median <= TARGET_S and most <= MOST_S and idle <= IDLE_TARGET
    target = f"median <= {TARGET_S} s, max <= {MOST_S} s, idle <= {IDLE_TARGET} requests/s"
    return Result("k8s-task", median, None, target, is_met, samples, {"spread": spread(took), "idle_requests_per_s": round(idle, 3)}, False)


async def _measured(cluster, samples: int, rng: random.Random) -> tuple[list[float], float]:
    async with k8s_world.namespace(cluster) as namespace, k8s_world.site(namespace) as site:
        service = await site.serve()
        definition = document("bench", {"name": "small", "resources": {"CPU": 1}})
        await site.define(definition)
        uid = (await site.head("bench"))["metadata"]["uid"]
        with contextlib.closing(worlds.World()) as world:
            await asyncio.to_thread(world.start_head, worlds.HeadOptions(), world.head_argv(), {})
            argv = ["--cluster", "bench", "--gcs", world.address, "--service", service.address, "--incarnation", uid]
            world.spawn("monitor", [sys.executable, "-m", "rayscaler", "monitor", *argv])
            took = await _tasks(site, world.address, samples, rng)
            await asyncio.sleep(IDLE_S / 4)  # what the last task brings about is over
            return took, await _idle(site)


async def _tasks(site: Site, address: str, samples: int, rng: random.Random) -> list[float]:
    driver = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.k8s_task", address, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    took: list[float] = []
    try:
        if (await driver.stdout.readline()).strip() != b"ready":
            raise RuntimeError("the driver did not connect")
        async with k8s_world.observer(site.namespace, WORKERS.format("bench")) as observer:
            for index in range(samples):
                await asyncio.sleep(2.0 + rng.uniform(0.0, PHASE_S))  # the one before is over
                driver.stdin.write(b"\n")
                submitted_at = float(await driver.stdout.readline())
                (pod,) = await observer.pods(1, WITHIN_S)
                took.append(pod["at"] - submitted_at)
                say(f"task {index + 1}: {took[-1]:.2f} s; {k8s_world.load()}")
    finally:
        driver.kill()
        await driver.wait()
    return took


async def _idle(site: Site) -> float:
    """Return the service's requests per second while nothing happens, besides those for the Lease."""
    before = len(_asked(site))
    await asyncio.sleep(IDLE_S)  # the minute that is measured
    return (len(_asked(site)) - before) / IDLE_S


def _asked(site: Site) -> list[dict]:
    return [each for each in site.namespace.audit(site.account.user) if each["objectRef"]["resource"] != "leases"]


def main(address: str) -> None:
    """Be the job."""
    import ray

    ray.init(address=address, log_to_driver=False)

    @ray.remote(num_cpus=1)
    def task() -> None:
        """Ask for a node; none joins, so it never starts."""

    kept = []
    print("ready", flush=True)
    for _ in sys.stdin:
        at = time.monotonic()
        kept.append(task.remote())
        print(at, flush=True)


if __name__ == "__main__":
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    main(sys.argv[1])
