"""KubernetesExecutor: each instance is a pod in one namespace. Knows nothing of demand or plans.

The pods are the memory: what an instance was launched with stands in its annotations. One reflector follows the pods of all clusters;
what it tells becomes observations. A pod whose Ray container has ended is gone as an instance, and is deleted here: it is never
started again, and nobody else would.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

import structlog

from rayscaler.clock import Clock, SystemClock
from rayscaler.errors import Busy, Conflict, Denied, NotFound, RayscalerError, Unavailable, Unsupported
from rayscaler.executor.base import LaunchSpec
from rayscaler.executor.feed import Feed
from rayscaler.executor.record import make_from, spec_hash
from rayscaler.k8s import growth, labels, phases, podgroups, pods, services
from rayscaler.k8s.client import STRATEGIC, Client
from rayscaler.k8s.failures import AlreadyExists
from rayscaler.k8s.objects import CONFIG_MAPS, PODS, SERVICES, Kind, Meta, Pod
from rayscaler.k8s.phases import Standing
from rayscaler.k8s.reflector import Pauses, Reflector
from rayscaler.k8s.replicas import Replicas
from rayscaler.model.instance import InstanceObservation, Phase, Size
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.model.scheduling import GangScheduler, Membership, WantedGroup
from rayscaler.settings import CALLS_PER_SECOND
from rayscaler.tasks import guard
from rayscaler.throttle import Pace, Throttle

log = structlog.get_logger(__name__)

ORDER = (Phase.UNSCHEDULED, Phase.PULLING, Phase.STARTING, Phase.REGISTERING, Phase.ENDING, Phase.GONE)
"""A pod may skip phases; it never goes back."""


@dataclass(frozen=True)
class Options:
    """How the executor treats the API server; seconds."""

    per_second: int = CALLS_PER_SECOND
    """Creates and deletes."""
    in_flight: int = 100
    """At the same time: bare creates were fastest with as many (decision 55)."""
    list_wait_s: float = 10.0
    """A list waits so long for the first complete one, or for a broken watch."""
    force_after_s: float = 30.0
    """A pod that outlasts its grace by so long is deleted without one when its end is asked again: its node is lost."""
    entry_again_s: float = 60.0
    """The supervisor's ConfigMap, and the Service of replicas' hosts, are made again so long after: somebody may have deleted them."""
    clean_retry_s: float = 60.0
    """Longest pause between two tries to delete a pod that has ended."""
    pauses: Pauses = field(default_factory=Pauses)


@dataclass(slots=True)
class _Worker:
    """An instance in memory: what was told of it last, and whether its end was asked for."""

    instance_id: str
    node_type: str
    pod_name: str
    made_as: str
    standing: Standing
    is_asked: bool = False
    replica: str = ""
    host: int = 0
    size: Size | None = None
    membership: Membership | None = None


class KubernetesExecutor:
    """Launches and ends Ray workers as pods of `namespace`; the client stays the caller's. `on_end` hears of a bug that ended the watch."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        *,
        on_end: Callable[[str], None],
        owner: Callable[[str], pods.Owner | None] = lambda _: None,
        options: Options | None = None,
        pace: Pace | None = None,
        clock: Clock | None = None,
    ) -> None:
        """Take what the objects of a cluster belong to as `owner`, by the cluster's name."""
        self._client = client
        self._namespace = namespace
        self._on_end = on_end
        self._owner = owner
        self._options = options or Options()
        self.pace: Pace = pace or Throttle(per_second=self._options.per_second, in_flight=self._options.in_flight)
        self._clock = clock or SystemClock()
        self._feed = Feed()
        self._workers: dict[str, dict[str, _Worker]] = {}  # by cluster, then by the pod's uid
        self._replicas = Replicas()
        self._groups = podgroups.PodGroups(client, namespace, self._clock)
        self._entry_text = pods.entry_text()
        self._entries: dict[str, float] = {}  # names of what pods need beside them, and when each was made sure of
        self._making: dict[str, asyncio.Task[None]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._is_following = False
        self._reflector = Reflector(
            client, PODS, namespace, labels.OURS_SELECTOR, tell=self._changed, clock=self._clock, pauses=self._options.pauses
        )

    async def launch(self, spec: LaunchSpec) -> str:
        """Create the pod; one that is there already is success if it was made by the same spec."""
        self._follow()
        owner = self._owner(spec.cluster)
        entry = pods.entry_config_map(spec.cluster, self._entry_text, owner)
        if spec.replica:
            await self._reflector.synced(self._options.list_wait_s)  # which indices are taken stands on pods
        with self._replicas.launching(spec) as index:
            manifest = pods.worker(spec, namespace=self._namespace, entry=entry["metadata"]["name"], owner=owner, replica_index=index)
            name = str(manifest["metadata"]["name"])
            try:
                await self._make_sure_of(CONFIG_MAPS, entry)
                if spec.replica:
                    await self._make_sure_of(SERVICES, services.headless(spec.cluster, owner))
                pod = await self._create(name, manifest, spec)
            except NotFound as error:
                raise Unavailable(f"{error}; the namespace is missing, or is just ending") from error
            self._reflector.note(pod)
        return name

    async def terminate(self, cluster: str, instance_id: str) -> None:
        """Delete the pod, with its own grace; asked again after that has passed without effect, without any."""
        try:
            await self._end(await self._pod(cluster, instance_id))
        except NotFound:
            return

    async def resize(self, cluster: str, instance_id: str, resources: Resources) -> None:
        """Ask for another size of the pod's container; kubelet sees to it, or says why not."""
        pod = await self._pod(cluster, instance_id)
        name, made_as = pod.metadata.name, _made_as(pod.metadata.annotations.made_as)
        body = growth.patch(pod, made_as, resources)
        try:
            resized = await self._client.patch(PODS, self._namespace, name, body, form=STRATEGIC, part="resize")
        except NotFound as error:
            await self._client.get(PODS, self._namespace, name)
            raise Unsupported("this API server resizes no pods; Kubernetes does from 1.33 on") from error
        except Denied as error:
            raise Denied(f"{error}; a cluster administrator gives the right with resize.enabled of the chart") from error
        self._reflector.note(resized)

    async def group(self, cluster: str, scheduler: GangScheduler, groups: Sequence[WantedGroup]) -> None:
        """Have just these PodGroups."""
        await self._groups.have(cluster, scheduler, groups, self._owner(cluster))

    async def list(self, cluster: str) -> list[InstanceObservation]:
        """Tell every instance of the cluster that is not gone, from the followed copy of the namespace."""
        self._follow()
        await self._reflector.synced(self._options.list_wait_s)
        workers = self._workers.get(cluster, {}).values()
        return [self._observation(each, each.standing) for each in workers if each.standing.phase is not Phase.GONE]

    def watch(self, cluster: str) -> AsyncIterator[InstanceObservation]:
        """Yield an observation at each change of phase, from this call on."""
        self._follow()
        return self._feed.watch(cluster)

    async def close(self) -> None:
        """Stop following; the pods live on."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pod(self, cluster: str, instance_id: str) -> Pod:
        """Return an instance's pod; raises NotFound."""
        self._follow()
        name = labels.pod_name(cluster, instance_id)
        pod = self._reflector.objects.get(name)
        if pod is None:
            pod = await self._client.get(PODS, self._namespace, name)
            self._reflector.note(pod)
        if pod.metadata.labels.cluster != cluster or pod.metadata.annotations.instance_id != instance_id:
            raise NotFound(f"pod {name} is another one")
        return pod

    async def _create(self, name: str, manifest: pods.Manifest, spec: LaunchSpec) -> Pod:
        """Return the pod, new or there already; raises Conflict if another spec made it."""
        try:
            return await self._client.create(PODS, self._namespace, manifest)
        except AlreadyExists:
            pod = await self._client.get(PODS, self._namespace, name)
        if pod.metadata.labels.cluster != spec.cluster or pod.metadata.annotations.spec_hash != spec_hash(spec):
            raise Conflict(f"{spec.instance_id}: pod {name} exists with another spec; use a new instance_id")
        return pod

    async def _end(self, pod: Pod) -> None:
        ends_at = pod.metadata.deletion_timestamp
        if ends_at and self._clock.now() < phases.seconds(ends_at) + self._options.force_after_s:
            return
        worker = self._workers.get(pod.metadata.labels.cluster, {}).get(pod.metadata.uid)
        if worker is not None:
            worker.is_asked = True
        if ends_at:
            log.warning("pod.forced", pod=pod.metadata.name, detail="it outlasted its grace; its node is lost or its kubelet stuck")
        await self._delete(pod, grace_s=0 if ends_at else None)

    async def _delete(self, pod: Pod, *, grace_s: int | None = None) -> None:
        try:
            ending = await self._client.delete(PODS, self._namespace, pod.metadata.name, uid=pod.metadata.uid, grace_s=grace_s)
        except (NotFound, Busy):  # gone, or the name has another pod now
            return
        if ending is not None:
            self._reflector.note(ending)

    async def _make_sure_of(self, kind: Kind[Any], entry: pods.Manifest) -> None:
        """Create what pods need beside them unless that was done lately; who comes meanwhile waits for the same call."""
        name = str(entry["metadata"]["name"])
        made_at = self._entries.get(name)
        if made_at is not None and self._clock.mono() - made_at < self._options.entry_again_s:
            return
        making = self._making.get(name)
        if making is None:
            making = self._making[name] = self._own(self._make(kind, name, entry), f"make {name}")
            making.add_done_callback(lambda _: self._making.pop(name))
        await asyncio.shield(making)

    async def _make(self, kind: Kind[Any], name: str, entry: pods.Manifest) -> None:
        try:
            await self._client.create(kind, self._namespace, entry)
        except AlreadyExists:
            log.debug("entry.exists", name=name)
        self._entries[name] = self._clock.mono()

    def pods_of(self, cluster: str) -> dict[str, pods.Owner]:
        """Return the cluster's pods by instance, as what an event can regard."""
        return {each.instance_id: pods.Owner("v1", "Pod", each.pod_name, uid) for uid, each in self._workers.get(cluster, {}).items()}

    def _follow(self) -> None:
        """Begin to follow the pods, at the first call that needs it."""
        if not self._is_following:
            self._is_following = True
            name = f"pods of {self._namespace}"
            self._own(guard(name, self._reflector.run(), self._on_end), name)

    def _own(self, work: Coroutine[Any, Any, None], name: str) -> asyncio.Task[None]:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def _changed(self, pod: Pod, is_gone: bool) -> None:
        """Take a change of a pod: tell what is new of its instance."""
        meta = pod.metadata
        if meta.labels.role != labels.WORKER or not meta.annotations.instance_id:
            return
        workers = self._workers.setdefault(meta.labels.cluster, {})
        worker = workers.get(meta.uid)
        if worker is None:
            worker = workers[meta.uid] = _Worker(
                meta.annotations.instance_id,
                meta.labels.node_type,
                meta.name,
                meta.annotations.made_as,
                Standing(Phase.UNSCHEDULED, "new"),
                is_asked=bool(meta.deletion_timestamp),  # before our time: nobody knows by whom
                replica=meta.annotations.replica,
                host=int(meta.annotations.host) if meta.annotations.host.isdecimal() else 0,
                membership=podgroups.membership_of(meta.annotations.scheduler, meta.annotations.pod_group, meta.annotations.gangs),
            )
        before = worker.standing.phase
        if is_gone:
            del workers[meta.uid]
        if before is Phase.GONE:
            return
        standing = phases.deleted(pod, was_asked=worker.is_asked) if is_gone else phases.of(pod)
        if worker.is_asked and standing.ends_at is not None:
            standing = replace(standing, ends_at=None, error="")  # our own doing
        size = None if is_gone else growth.size_of(pod, _made_as(worker.made_as))
        if is_gone and worker.is_asked and before is not Phase.ENDING:
            # A pod that no kubelet had is deleted at once, without a moment in which it ends.
            self._tell(meta.labels.cluster, worker, Standing(Phase.ENDING, standing.detail))
        self._tell(meta.labels.cluster, worker, replace(standing, phase=max(before, standing.phase, key=ORDER.index)), size)
        self._count(meta, worker)
        if standing.phase is Phase.GONE and not is_gone:
            self._own(self._clean(pod), f"delete {meta.name}")

    def _count(self, meta: Meta, worker: _Worker) -> None:
        """Note that a replica has this host, or has it no more."""
        if not worker.replica:
            return
        which = (meta.labels.cluster, worker.node_type, worker.replica, meta.uid)
        if worker.standing.phase in (Phase.ENDING, Phase.GONE):
            self._replicas.left(*which)
        else:
            self._replicas.joined(*which, meta.labels.replica_index)

    async def _clean(self, pod: Pod) -> None:
        """Delete a pod that has ended, however often that fails."""
        pause_s = 1.0
        while True:
            try:
                async with self.pace.turn(pod.metadata.labels.cluster):
                    await self._delete(pod)
            except RayscalerError as error:
                log.warning("pod.clean.failed", pod=pod.metadata.name, error=str(error))
            else:
                return
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, self._options.clean_retry_s)

    def _tell(self, cluster: str, worker: _Worker, standing: Standing, size: Size | None = None) -> None:
        if standing != worker.standing or size != worker.size:
            worker.standing, worker.size = standing, size
            self._feed.tell(cluster, self._observation(worker, standing))

    def _observation(self, worker: _Worker, standing: Standing) -> InstanceObservation:
        return InstanceObservation(
            instance_id=worker.instance_id,
            node_type=worker.node_type,
            external_id=worker.pod_name,
            phase=standing.phase,
            detail=standing.detail,
            observed_at=self._clock.now(),
            error=standing.error,
            made_as=_made_as(worker.made_as),
            trouble=standing.trouble,
            ends_at=standing.ends_at,
            replica=worker.replica,
            host=worker.host,
            size=worker.size,
            membership=worker.membership,
        )


@lru_cache(maxsize=1024)
def _made_as(text: str) -> NodeType | None:
    """Return what an annotation says a pod was made with; None if it is not ours any more. Pods of a type share one."""
    try:
        return make_from(json.loads(text))
    except (ValueError, LookupError, TypeError, AttributeError):
        return None
