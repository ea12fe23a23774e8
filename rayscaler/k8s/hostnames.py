"""Names of replicas' hosts: keeps one headless Service in being for each cluster with a node type of several hosts, and for no other.

Of a cluster whose definition has no such type any more the Service goes once no host of a replica is left: what they still do needs the names.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NoReturn

import structlog

from rayscaler.clock import Clock
from rayscaler.errors import Busy, Conflict, NotFound, RayscalerError
from rayscaler.k8s import labels, services
from rayscaler.k8s.client import Client
from rayscaler.k8s.failures import AlreadyExists
from rayscaler.k8s.objects import PODS, SERVICES, Service
from rayscaler.k8s.pods import Owner
from rayscaler.k8s.reflector import Pauses, Reflector
from rayscaler.model.nodetype import ClusterConfig

log = structlog.get_logger(__name__)

Told = Callable[[str, str], None]
"""Hears a cluster's name and what is in the way of its Service, once while it stays the same."""


@dataclass(frozen=True)
class Options:
    """Seconds."""

    again_s: float = 5.0
    """Until the next try after one that failed; twice as long each time."""
    longest_s: float = 60.0
    left_s: float = 30.0
    """Between two looks whether hosts are left, while a Service is to go."""
    list_wait_s: float = 10.0
    reflector: Pauses = field(default_factory=Pauses)


@dataclass(slots=True)
class _Wanted:
    """A cluster that has a definition."""

    owner: Owner | None
    has_hosts: bool
    trouble: str = ""
    errors: int = 0


class HostNames:
    """The headless Services of a namespace; the client stays the caller's. `run` goes on for ever; `want` and `forget` may come before and while it runs."""

    def __init__(self, client: Client, namespace: str, *, told: Told, clock: Clock, options: Options | None = None) -> None:
        self._client = client
        self._namespace = namespace
        self._told = told
        self._options = options or Options()
        self._wanted: dict[str, _Wanted] = {}
        self._wake = asyncio.Event()
        self._services = Reflector(
            client,
            SERVICES,
            namespace,
            labels.HEADLESS_SELECTOR,
            tell=lambda *_: self._wake.set(),
            clock=clock,
            pauses=self._options.reflector,
        )

    def want(self, config: ClusterConfig, owner: Owner | None) -> None:
        """Have what a cluster needs, as this definition has it."""
        self._wanted[config.name] = _Wanted(owner, any(each.hosts_per_replica > 1 for each in config.node_types))
        self._wake.set()

    def forget(self, cluster: str) -> None:
        """Do nothing more for a cluster: its definition is gone or held. All stays as it is; deleting is the owner references' job."""
        self._wanted.pop(cluster, None)

    async def run(self) -> NoReturn:
        """Follow the Services, and look after every cluster, for ever."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._services.run(), name=f"host names' services of {self._namespace}")
            while True:
                self._wake.clear()
                waits_s = [wait_s for each in sorted(self._wanted) if (wait_s := await self._tend(each)) is not None]
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(min(waits_s, default=None)):
                        await self._wake.wait()

    async def _tend(self, cluster: str) -> float | None:
        """Do what is to be done; return the seconds until the next look, None if only a change calls for one."""
        wanted = self._wanted.get(cluster)
        if wanted is None:
            return None
        try:
            await self._services.synced(self._options.list_wait_s)
            wait_s = await self._look(cluster, wanted)
        except RayscalerError as error:
            if str(error) != wanted.trouble:
                wanted.trouble = str(error)
                log.warning("hostnames.failed", cluster=cluster, error=str(error), error_name=error.name)
                self._told(cluster, str(error))
            wanted.errors += 1
            return min(self._options.again_s * 2.0 ** min(wanted.errors - 1, 10), self._options.longest_s)
        wanted.trouble, wanted.errors = "", 0
        return wait_s

    async def _look(self, cluster: str, wanted: _Wanted) -> float | None:
        known = self._services.objects.get(labels.headless_service(cluster))
        if wanted.has_hosts and known is None:
            await self._make(cluster, wanted.owner)
        elif wanted.has_hosts and known is not None:
            await self._mend(known, wanted.owner)
        elif known is not None and await self._has_hosts_left(cluster):
            return self._options.left_s
        elif known is not None:
            await self._remove(known)
        return None

    async def _make(self, cluster: str, owner: Owner | None) -> None:
        manifest = services.headless(cluster, owner)
        try:
            made = await self._client.create(SERVICES, self._namespace, manifest)
        except AlreadyExists:
            made = await self._client.get(SERVICES, self._namespace, manifest["metadata"]["name"])
        mine = made.metadata.labels
        if (mine.manager, mine.cluster, mine.role) != (labels.MANAGER, cluster, labels.HOSTS):
            raise Conflict(f"Service {made.metadata.name} is there, and is not rayscaler's; delete it, or name the cluster otherwise")
        self._services.note(made)

    async def _mend(self, known: Service, owner: Owner | None) -> None:
        if patch := services.headless_mending(known, owner):
            with contextlib.suppress(Busy, NotFound):  # it has changed meanwhile, which calls for another look
                self._services.note(await self._client.patch(SERVICES, self._namespace, known.metadata.name, patch))

    async def _has_hosts_left(self, cluster: str) -> bool:
        selector = ",".join(f"{key}={value}" for key, value in labels.headless_selector(cluster).items())
        found, _ = await self._client.list(PODS, self._namespace, selector=selector)
        return bool(found)

    async def _remove(self, known: Service) -> None:
        log.info("hostnames.removed", service=known.metadata.name)
        with contextlib.suppress(Busy, NotFound):
            await self._client.delete(SERVICES, self._namespace, known.metadata.name, uid=known.metadata.uid)
