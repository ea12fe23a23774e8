"""Heads: keeps one head pod and one Service in being for each cluster that is wanted. Decides nothing: `succession` does.

Service and pods are the memory. Each cluster has a task of its own, which wakes at each change of its objects, does one thing at a time and
looks again. What has failed is tried again after a pause that grows, and at once when the definition changes.
"""

import asyncio
import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NoReturn

import structlog

from rayscaler.clock import Clock
from rayscaler.errors import Busy, Conflict, NotFound, RayscalerError, Unavailable
from rayscaler.executor.record import head_hash
from rayscaler.k8s import heads, labels, pods, services, succession
from rayscaler.k8s.client import Client
from rayscaler.k8s.failures import AlreadyExists
from rayscaler.k8s.heads import Sidecar
from rayscaler.k8s.objects import CONFIG_MAPS, HEAD_PODS, SERVICES, HeadPod, Service
from rayscaler.k8s.reflector import Pauses, Reflector
from rayscaler.k8s.succession import PAUSES_S, Deed, HeadFact, Scene, Step
from rayscaler.model.nodetype import ClusterConfig

log = structlog.get_logger(__name__)

DELETE_AGAIN_S = 10.0
"""An old head that could not be deleted is tried again so long after."""
Told = Callable[[str, HeadFact], None]
"""Hears a cluster's name and where its head stands, at each change."""


@dataclass(frozen=True)
class Options:
    """Seconds."""

    pauses_s: tuple[float, ...] = PAUSES_S
    away_s: float = 10.0
    """Longest pause where the API server is away: it comes back, and nobody tells."""
    lived_s: float = succession.LIVED_S
    unreachable_s: float = succession.UNREACHABLE_S
    list_wait_s: float = 10.0
    """So long a complete list, or a watch that broke, is waited for."""
    reflector: Pauses = field(default_factory=Pauses)


@dataclass(slots=True)
class _Tended:
    """A cluster that is wanted."""

    config: ClusterConfig
    owner: pods.Owner | None
    wake: asyncio.Event
    task: asyncio.Task[None] | None = None
    fact: HeadFact | None = None
    trouble: str = ""
    losses: int = 0
    errors: int = 0
    next_at: float = 0.0
    """Wall and monotonic seconds before which nothing is made."""
    not_before: float = 0.0
    lost_epoch: int = 0
    born: tuple[str, float] = ("", 0.0)
    """Uid of the present head, and when it was first seen."""
    unreachable_at: float | None = None


class Heads:
    """The heads of a namespace; the client stays the caller's. `run` goes on for ever; `want` and `forget` may come before and while it runs."""

    def __init__(
        self, client: Client, namespace: str, *, sidecar: Sidecar, told: Told, clock: Clock, options: Options | None = None
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._sidecar = sidecar
        self._told = told
        self._clock = clock
        self._options = options or Options()
        self._entry_text = pods.entry_text()
        self._tended: dict[str, _Tended] = {}
        self._made: dict[str, tuple[int, str]] = {}  # by cluster: epoch and uid of the newest pod ever seen
        self._is_listed = False
        self._tasks: asyncio.TaskGroup | None = None
        selector, pauses = labels.HEADS_SELECTOR, self._options.reflector
        self._pods = Reflector(client, HEAD_PODS, namespace, selector, tell=self._pod_changed, clock=clock, pauses=pauses)
        self._services = Reflector(client, SERVICES, namespace, selector, tell=self._service_changed, clock=clock, pauses=pauses)

    def want(self, config: ClusterConfig, owner: pods.Owner | None) -> None:
        """Keep a head in being for a cluster, as this definition has it; a head that was up stays as it is."""
        known = self._tended.get(config.name)
        if known is None:
            self._tended[config.name] = _Tended(config, owner, asyncio.Event())
            self._begin(config.name)
            return
        if known.config.head != config.head or known.owner != owner:
            known.losses, known.errors, known.not_before = 0, 0, 0.0
        known.config, known.owner = config, owner
        known.wake.set()

    def forget(self, cluster: str) -> None:
        """Do nothing more for a cluster: its definition is gone or held. All stays as it is; deleting is the owner references' job."""
        known = self._tended.pop(cluster, None)
        if known is not None and known.task is not None:
            known.task.cancel()

    def incarnation(self, cluster: str) -> str:
        """Return the uid of the pod that was made last, whose monitor alone is to be heard; "" while nothing is known.

        Between the swap of an epoch and its pod it is the name of that pod, which nobody reports: the old head is not heard any more.
        """
        if not self._is_listed:
            return ""
        service = self._services.objects.get(labels.head_service(cluster))
        durable = 0 if service is None else services.epoch_of(service)
        made, uid = self._made.get(cluster, (0, ""))
        return labels.head_pod(cluster, durable) if durable > made else uid

    async def run(self) -> NoReturn:
        """Follow pods and Services, and tend every wanted cluster, for ever."""
        async with asyncio.TaskGroup() as tasks:
            self._tasks = tasks
            tasks.create_task(self._services.run(), name=f"heads' services of {self._namespace}")
            for cluster in self._tended:
                self._begin(cluster)
            await self._pods.run()

    def _begin(self, cluster: str) -> None:
        if self._tasks is not None:
            self._tended[cluster].task = self._tasks.create_task(self._tend(cluster), name=f"head of {cluster}")

    async def _tend(self, cluster: str) -> None:
        tended = self._tended[cluster]
        while True:
            tended.wake.clear()
            wait_s: float | None = None
            try:
                await self._synced()
                wait_s = await self._look(cluster, tended)
            except RayscalerError as error:
                wait_s = self._failed(cluster, tended, error)
            except Exception:
                # A bug in tending one cluster must not stop the others (FH-10); it is told, and tried again later.
                log.exception("head.bug", cluster=cluster)
                wait_s = self._options.pauses_s[-1]
            if wait_s is None or wait_s > 0:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await tended.wake.wait()

    async def _synced(self) -> None:
        await self._services.synced(self._options.list_wait_s)
        await self._pods.synced(self._options.list_wait_s)
        self._is_listed = True

    async def _look(self, cluster: str, tended: _Tended) -> float | None:
        """Do what is to be done next, if anything; return the seconds until the next look, None if only a change calls for one."""
        scene = self._scene(cluster, tended)
        step = succession.decide(scene)
        self._note_loss(tended, scene, step)
        is_clean = await self._delete(succession.superseded(scene))
        wait_s = tended.not_before - self._clock.mono()
        if step.deed is Deed.REST:
            tended.trouble, tended.errors, wait_s = "", 0, 0.0
        self._tell(cluster, tended, scene, is_waiting=wait_s > 0)
        if wait_s > 0:
            return wait_s
        if step.deed is Deed.REST and not is_clean:
            return DELETE_AGAIN_S
        if step.deed is Deed.REST:
            return None if tended.unreachable_at is None else max(0.1, scene.patience_s - scene.unreachable_s)
        log.info("head.step", cluster=cluster, deed=step.deed.value, epoch=step.epoch, lost=step.lost)
        await self._do(step, tended)
        tended.trouble, tended.errors = "", 0
        return 0.0

    def _scene(self, cluster: str, tended: _Tended) -> Scene:
        known = {
            labels.head_epoch(cluster, name): each for name, each in self._pods.objects.items() if each.metadata.labels.cluster == cluster
        }
        known.pop(0, None)
        service = self._services.objects.get(labels.head_service(cluster))
        made, _ = self._made.get(cluster, (0, ""))
        scene = Scene(cluster, tended.owner, head_hash(tended.config.head), service, known, made)
        pod, mono = scene.pod, self._clock.mono()
        if pod is None or not succession.is_unreachable(pod):
            tended.unreachable_at = None
        elif tended.unreachable_at is None:
            tended.unreachable_at = mono
        if pod is not None and pod.metadata.uid != tended.born[0]:
            tended.born = (pod.metadata.uid, mono)
        unreachable_s = 0.0 if tended.unreachable_at is None else mono - tended.unreachable_at
        return replace(scene, unreachable_s=unreachable_s, patience_s=self._options.unreachable_s)

    def _note_loss(self, tended: _Tended, scene: Scene, step: Step) -> None:
        """Count a head that is lost, once, and so set the pause before its successor."""
        if not step.lost or tended.lost_epoch == scene.epoch:
            return
        tended.lost_epoch = scene.epoch
        log.warning("head.lost", cluster=scene.cluster, epoch=scene.epoch, reason=step.lost)
        if self._clock.mono() - tended.born[1] >= self._options.lived_s:
            tended.losses = 0
        self._pause(tended, tended.losses, math.inf)
        tended.losses += 1

    def _pause(self, tended: _Tended, number: int, longest_s: float) -> float:
        pauses = self._options.pauses_s
        pause_s = min(pauses[min(number, len(pauses) - 1)], longest_s)
        tended.not_before, tended.next_at = self._clock.mono() + pause_s, self._clock.now() + pause_s
        return pause_s

    def _failed(self, cluster: str, tended: _Tended, error: RayscalerError) -> float:
        """Note what went wrong; return the seconds until the next try."""
        log.warning("head.failed", cluster=cluster, error=str(error), error_name=error.name)
        tended.errors += 1
        tended.trouble = str(error)
        pause_s = self._pause(tended, tended.errors, self._options.away_s if isinstance(error, Unavailable) else math.inf)
        self._tell(cluster, tended, self._scene(cluster, tended), is_waiting=True)
        return pause_s

    def _tell(self, cluster: str, tended: _Tended, scene: Scene, *, is_waiting: bool) -> None:
        next_at = tended.next_at if is_waiting else 0.0
        fact = succession.fact(scene, trouble=tended.trouble, now=self._clock.now(), next_at=next_at)
        before = tended.fact
        if before is not None and (before.epoch, before.phase) == (fact.epoch, fact.phase):
            fact = replace(fact, since=before.since)
        if fact != before:
            tended.fact = fact
            self._told(cluster, fact)

    async def _do(self, step: Step, tended: _Tended) -> None:
        if step.deed is Deed.MAKE_SERVICE:
            await self._make_service(step.epoch, tended)
        elif step.deed is Deed.MEND_SERVICE:
            await self._mend_service(step.epoch, tended)
        else:
            await self._make_pod(step.epoch, tended)

    async def _make_service(self, epoch: int, tended: _Tended) -> None:
        manifest = services.head(tended.config.name, epoch, tended.owner)
        try:
            made = await self._client.create(SERVICES, self._namespace, manifest)
        except AlreadyExists:
            made = await self._client.get(SERVICES, self._namespace, manifest["metadata"]["name"])
        self._check_ours(made, tended.config.name, "Service")
        self._services.note(made)

    async def _mend_service(self, epoch: int, tended: _Tended) -> None:
        """Swap the Service's epoch, or put it right: only if it is still the version that was decided on."""
        name = labels.head_service(tended.config.name)
        known = self._services.objects[name]
        try:
            made = await self._client.patch(SERVICES, self._namespace, name, services.mending(known, epoch, tended.owner))
        except Busy:  # somebody was faster; the next look is at what is there now
            made = await self._client.get(SERVICES, self._namespace, name)
            if made.metadata.resource_version == known.metadata.resource_version:
                raise
        self._services.note(made)

    async def _make_pod(self, epoch: int, tended: _Tended) -> None:
        entry = pods.entry_config_map(tended.config.name, self._entry_text, tended.owner)
        manifest = heads.head(
            tended.config,
            epoch,
            namespace=self._namespace,
            entry=entry["metadata"]["name"],
            sidecar=self._sidecar,
            owner=tended.owner,
        )
        with contextlib.suppress(AlreadyExists):
            await self._client.create(CONFIG_MAPS, self._namespace, entry)
        try:
            made = await self._client.create(HEAD_PODS, self._namespace, manifest)
        except AlreadyExists:
            made = await self._client.get(HEAD_PODS, self._namespace, manifest["metadata"]["name"])
        self._check_ours(made, tended.config.name, "pod")
        self._pods.note(made)

    def _check_ours(self, found: HeadPod | Service, cluster: str, kind: str) -> None:
        mine = found.metadata.labels
        if (mine.manager, mine.cluster, mine.role) != (labels.MANAGER, cluster, labels.HEAD):
            raise Conflict(f"{kind} {found.metadata.name} is there, and is not rayscaler's; delete it, or name the cluster otherwise")

    async def _delete(self, old: list[HeadPod]) -> bool:
        """Delete heads whose successor is served, with their own grace; return whether that was taken. Nothing waits for their end."""
        is_clean = True
        for pod in old:
            log.info("head.superseded", pod=pod.metadata.name)
            try:
                await self._client.delete(HEAD_PODS, self._namespace, pod.metadata.name, uid=pod.metadata.uid)
            except RayscalerError as error:
                if not isinstance(error, NotFound | Busy):  # else it is gone, or the name has another pod now
                    is_clean = False
                    log.warning("head.delete.failed", pod=pod.metadata.name, error=str(error))
        return is_clean

    def _pod_changed(self, pod: HeadPod, is_gone: bool) -> None:
        cluster = pod.metadata.labels.cluster
        epoch = labels.head_epoch(cluster, pod.metadata.name)
        if not is_gone and epoch >= max(1, self._made.get(cluster, (0, ""))[0]):
            self._made[cluster] = (epoch, pod.metadata.uid)
        self._wake(cluster)

    def _service_changed(self, service: Service, is_gone: bool) -> None:  # noqa: ARG002 - the form of a Tell
        self._wake(service.metadata.labels.cluster)

    def _wake(self, cluster: str) -> None:
        known = self._tended.get(cluster)
        if known is not None:
            known.wake.set()
