"""The Kubernetes executor apart from the service: it hears of no definitions, and finds what a cluster's objects belong to by itself."""

import asyncio
from collections.abc import Callable, Sequence

from rayscaler.clock import Clock
from rayscaler.errors import NotFound
from rayscaler.executor.base import LaunchSpec
from rayscaler.k8s.client import Client
from rayscaler.k8s.executor import KubernetesExecutor
from rayscaler.k8s.objects import CONFIG_MAPS
from rayscaler.k8s.pods import Owner
from rayscaler.model.scheduling import GangScheduler, WantedGroup

FRESH_S = 10.0
"""A definition that was looked up is taken for the same for so long: one that is made anew has another uid."""


class OwnedExecutor(KubernetesExecutor):
    """A KubernetesExecutor whose pods belong to the ConfigMap of their cluster's name, where there is one: deleting that deletes them."""

    def __init__(self, client: Client, namespace: str, *, on_end: Callable[[str], None], clock: Clock | None = None) -> None:
        super().__init__(client, namespace, on_end=on_end, owner=lambda cluster: self._owners[cluster][0], clock=clock)
        self._owners: dict[str, tuple[Owner | None, float]] = {}
        self._looking: dict[str, asyncio.Task[None]] = {}

    async def launch(self, spec: LaunchSpec) -> str:
        """Create the pod; who comes while its cluster's owner is looked up waits for the same call."""
        await self._know(spec.cluster)
        return await super().launch(spec)

    async def group(self, cluster: str, scheduler: GangScheduler, groups: Sequence[WantedGroup]) -> None:
        """Have just these PodGroups, likewise."""
        await self._know(cluster)
        await super().group(cluster, scheduler, groups)

    async def _know(self, cluster: str) -> None:
        if self._clock.mono() - self._owners.get(cluster, (None, -FRESH_S))[1] >= FRESH_S:
            looking = self._looking.get(cluster)
            if looking is None:
                looking = self._looking[cluster] = self._own(self._look(cluster), f"owner of {cluster}")
                looking.add_done_callback(lambda _: self._looking.pop(cluster))
            await asyncio.shield(looking)

    async def _look(self, cluster: str) -> None:
        try:
            found = await self._client.get(CONFIG_MAPS, self._namespace, cluster)
            owner = Owner("v1", "ConfigMap", cluster, found.metadata.uid)
        except NotFound:
            owner = None
        self._owners[cluster] = owner, self._clock.mono()
