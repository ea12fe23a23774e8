"""A replica of the service as far as leadership goes, in a process of its own, so that it can be stopped and killed.

python -m tests.k8s.leader_main KUBECONFIG NAMESPACE HOLDER FACTOR DEMAND [fence]: leads the cluster `demo`, for which as many tasks wait as
the file DEMAND says. Durations of the Lease are divided by FACTOR. With `fence` it neither renews nor looks at its Lease: then the
record alone stops it. It prints `leads` and, at the end, why it ended.
"""

import asyncio
import contextlib
import json
import signal
import sys
from pathlib import Path

from rayscaler.clock import SystemClock
from rayscaler.errors import Fenced, Superseded, Unavailable
from rayscaler.k8s.client import connect
from rayscaler.k8s.executor import KubernetesExecutor, Options
from rayscaler.k8s.lease import Leadership
from rayscaler.k8s.record import ConfigMapStore
from rayscaler.model.demand import Bundle, Demand, DemandReport, Session, Snapshot
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from rayscaler.reconciler.cluster import ClusterReconciler
from rayscaler.settings import Timings

PER_SECOND = 40
"""Creates: so few that whoever is to be killed in the middle of hundreds is."""
TEMPLATE = json.dumps({"spec": {"containers": [{"name": "ray", "image": "ray:test"}]}})
CONFIG = ClusterConfig("demo", (NodeType("small", Resources.of(CPU=1), template=TEMPLATE),), idle_timeout_s=600.0)


def say(*words: object) -> None:
    print(*words, flush=True)


async def report(reconciler: ClusterReconciler, demand: Path) -> None:
    """Report what the file says, as a monitor would."""
    epoch = int(SystemClock().now() * 1000)
    sequence = 0
    while True:
        sequence += 1
        count = int(demand.read_text() or 0)  # noqa: ASYNC240 - a few bytes
        waiting = (Demand(Bundle(Resources.of(CPU=1)), count),) if count else ()
        snapshot = Snapshot(demands=waiting, live_jobs=1, gcs_version=sequence)
        with contextlib.suppress(Unavailable, Superseded):  # the record is not read yet
            reconciler.submit(DemandReport("demo", Session("c", "s"), epoch, sequence, 0.0, snapshot))
        await asyncio.sleep(0.1)


async def lead(kubeconfig: str, namespace: str, holder: str, factor: float, demand: Path, *, is_fence_alone: bool) -> None:
    """Wait, lead, and end as the service does."""
    own = await connect(Path(kubeconfig))
    leadership = Leadership(own, namespace, holder=holder, clock=SystemClock(), timings=Timings().divided_by(factor))
    client = await connect(Path(kubeconfig), may_write=(lambda: None) if is_fence_alone else leadership.check)
    await leadership.acquire()
    say("leads", leadership.transitions)
    executor = KubernetesExecutor(client, namespace, on_end=say, options=Options(per_second=PER_SECOND))
    store = ConfigMapStore(client, namespace, holder=holder, transitions=lambda: leadership.transitions, owner=lambda _: None)
    reconciler = ClusterReconciler(
        CONFIG, executor=executor, store=store, clock=SystemClock(), timings=Timings(), head_address=lambda: "192.0.2.9:6379"
    )
    work = [asyncio.create_task(reconciler.run()), asyncio.create_task(report(reconciler, demand))]
    work += [] if is_fence_alone else [asyncio.create_task(leadership.keep())]
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    work.append(asyncio.create_task(stopped.wait()))
    done, _ = await asyncio.wait(work, return_when=asyncio.FIRST_COMPLETED)
    for task in work:
        task.cancel()
    await asyncio.gather(*work, return_exceptions=True)
    await executor.close()
    await leadership.release()
    await client.close()
    await own.close()
    for task in done:
        task.result()


def main() -> int:
    kubeconfig, namespace, holder, factor, demand, *fence = sys.argv[1:]
    try:
        asyncio.run(lead(kubeconfig, namespace, holder, float(factor), Path(demand), is_fence_alone=bool(fence)))
    except (Fenced, ExceptionGroup) as error:
        found = error if isinstance(error, Fenced) else error.subgroup(Fenced)
        say("fenced", repr(found))
        return 3 if found is not None else 4
    say("released")
    return 0


if __name__ == "__main__":
    sys.exit(main())
