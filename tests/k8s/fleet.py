"""One cluster on a real API server: the whole service but its sockets, and a pretend Ray in which each running worker's pod is a node.

async with fleet.running(namespace, fleet.config(fleet.node_type("small", cpus=2))) as f:
    f.gcs.submit(Resources.of(CPU=1), 6)                 # what a user does: see FakeGcs
    await f.until(lambda: f.nodes() == {"small": 3})
    await namespace.api.delete(...)                      # what the world does: by the administrator, or by `sim` of a node type

The reconciler, the monitor, the executor and every conversion between them are the real ones, with the Role's rights alone; pods run and
end as the simulated nodes have it. What Ray would see of a pod is seen by the administrator's own watch, so that it can bear witness:
`events` has nothing from rayscaler itself.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any

from rayscaler.clock import SystemClock
from rayscaler.k8s import labels
from rayscaler.k8s.executor import KubernetesExecutor, Options
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from rayscaler.model.status import ClusterStatus
from rayscaler.monitor.main import Monitor
from rayscaler.reconciler.cluster import ClusterReconciler
from rayscaler.reconciler.registry import Registry
from rayscaler.settings import Timings
from rayscaler.store.base import Store
from rayscaler.testing.fake_gcs import UNEXPECTED, FakeGcs
from rayscaler.testing.memory_store import MemoryStore
from tests.cluster.api import JSON
from tests.cluster.namespaces import REGISTERED, Namespace, condition
from tests.k8s import bed
from tests.simulation.whole import InProcess

LOOK_S = 0.05
"""Between two looks of `until`: what it looks at is in memory, and nobody tells of its changes."""
HEAD = "c-head:6379"
"""Nobody dials it: the pods are simulated."""


@dataclass(frozen=True)
class Event:
    """What was seen of a worker's pod or node from outside; `at` is monotonic seconds."""

    at: float
    what: str
    instance_id: str
    node_type: str


@dataclass
class Fleet:
    """One cluster that runs."""

    namespace: Namespace
    config: ClusterConfig
    gcs: FakeGcs
    executor: KubernetesExecutor
    reconciler: ClusterReconciler
    events: list[Event] = field(default_factory=list)
    """`created`, `joined`, `lost` (its node died with its pod), `marked` (its pod is to be deleted), `gone`."""
    _ours: dict[str, str] = field(default_factory=dict)  # pod's uid -> id of its node
    _seen: dict[str, set[str]] = field(default_factory=dict)  # pod's uid -> what was noted of it

    def of(self, what: str, node_type: str = "") -> list[Event]:
        """Return what happened, in order; to one node type only, if asked."""
        return [each for each in self.events if each.what == what and node_type in {"", each.node_type}]

    def nodes(self) -> dict[str, int]:
        """Return live workers by node type, as Ray has them."""
        return dict(Counter(each.node_type for each in self.gcs.alive()))

    def status(self) -> ClusterStatus:
        """Return what people are told."""
        return self.reconciler.status()

    def instances(self) -> dict[str, str]:
        """Return status by instance id, as people are told."""
        return {each.instance_id: each.status.value for each in self.status().instances}

    async def pods(self) -> list[JSON]:
        """Return the workers' pods of this cluster, as the administrator sees them."""
        selector = f"{labels.CLUSTER}={self.config.name},{labels.ROLE}={labels.WORKER}"
        return (await self.namespace.api.get(self.namespace.path("pods"), labelSelector=selector))["items"]

    async def until(self, is_so: Callable[[], bool], seconds: float = 60.0) -> None:
        """Wait until something is so; raises TimeoutError with what is there instead."""
        try:
            async with asyncio.timeout(seconds):
                while not is_so():  # noqa: ASYNC110 - see LOOK_S
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            told = [f"{each.instance_id} {each.status.value}: {each.detail}" for each in self.status().instances]
            waits = [each.detail for each in self.status().pending]
            raise TimeoutError(f"not so after {seconds:g} s; nodes {self.nodes()}, instances {told}, pending {waits}") from None

    async def follow(self) -> None:
        """Let pods be nodes, for ever."""
        selector = f"{labels.CLUSTER}={self.config.name},{labels.ROLE}={labels.WORKER}"
        async with contextlib.aclosing(self.namespace.api.follow(self.namespace.path("pods"), labelSelector=selector)) as seen:
            async for kind, pod in seen:
                self._take(kind, pod)

    def _take(self, kind: str, pod: JSON) -> None:
        status, uid = pod["status"], pod["metadata"]["uid"]
        has_ended = kind == "DELETED" or status.get("phase") in ("Failed", "Succeeded")
        self._note("created", pod)
        if pod["metadata"].get("deletionTimestamp"):
            self._note("marked", pod)
        if status.get("phase") == "Running" and not has_ended and uid not in self._ours and self._is_registered(pod):
            self._ours[uid] = self._join(pod)
        if has_ended and uid in self._ours:
            self._lose(pod, self._ours[uid])
        if kind == "DELETED":
            self._note("gone", pod)

    def _is_registered(self, pod: JSON) -> bool:
        """Whether its raylet is up: at once, but where the pod's behaviour says when (`registers-after`)."""
        return condition(pod, "Ready").get("status") == "True" and condition(pod, REGISTERED).get("status", "True") == "True"

    def _join(self, pod: JSON) -> str:
        known = self.config.node_type(pod["metadata"]["labels"][labels.NODE_TYPE])
        assert known is not None, pod["metadata"]["labels"]
        self._note("joined", pod)
        return self.gcs.join(pod["metadata"]["annotations"][labels.INSTANCE_ID], known.name, known.resources, known.node_labels())

    def _lose(self, pod: JSON, ray_node_id: str) -> None:
        if any(each.ray_node_id == ray_node_id for each in self.gcs.alive()):
            self._note("lost", pod)
            self.gcs.die(ray_node_id, UNEXPECTED, "its processes are gone")

    def _note(self, what: str, pod: JSON) -> None:
        noted = self._seen.setdefault(pod["metadata"]["uid"], set())
        if what not in noted:
            noted.add(what)
            meta = pod["metadata"]
            self.events.append(
                Event(asyncio.get_running_loop().time(), what, meta["annotations"][labels.INSTANCE_ID], meta["labels"][labels.NODE_TYPE])
            )


def node_type(name: str, cpus: int = 1, *, sim: dict[str, str] | None = None, grace_s: int | None = None, **fields: Any) -> NodeType:
    """Return a node type whose pods behave as `sim` says (controlplane/behaviour.go)."""
    return NodeType(name, Resources.of(CPU=cpus), template=bed.template(sim, grace_s=grace_s), **fields)


def config(*node_types: NodeType, **fields: Any) -> ClusterConfig:
    """Return a cluster of these types."""
    return ClusterConfig(fields.pop("name", "c"), node_types, executor="k8s", **fields)


@contextlib.asynccontextmanager
async def running(
    namespace: Namespace,
    config: ClusterConfig,
    *,
    timings: Timings | None = None,
    options: Options | None = None,
    store: Store | None = None,
    rules: list[JSON] | None = None,
) -> AsyncIterator[Fleet]:
    """Run a cluster in a namespace, with the Role's rights or these; with the store of an earlier one it is that one's next life."""
    clock, ended = SystemClock(), []
    async with bed.entered(namespace, rules=rules) as client:
        executor = KubernetesExecutor(client, namespace.name, on_end=ended.append, options=options)
        reconciler = ClusterReconciler(
            config, executor=executor, store=store or MemoryStore(), clock=clock, timings=timings or Timings(), head_address=lambda: HEAD
        )
        fleet = Fleet(namespace, config, FakeGcs(clock), executor, reconciler)
        monitor = Monitor(fleet.gcs, InProcess(Registry([reconciler])), clock, cluster=config.name)
        tasks = [asyncio.create_task(each, name=each.__qualname__) for each in (reconciler.run(), monitor.run(), fleet.follow())]
        try:
            yield fleet
            assert [each for each in tasks if each.done()] == []
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await executor.close()
    assert ended == []
