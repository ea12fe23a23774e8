"""The Kubernetes executor apart from the service: it hears of no definitions, and finds what a cluster's objects belong to by itself."""

from collections.abc import AsyncIterator, Callable

from rayscaler.clock import Clock, SystemClock
from rayscaler.errors import NotFound
from rayscaler.executor.base import LaunchSpec
from rayscaler.k8s.client import Client
from rayscaler.k8s.executor import KubernetesExecutor
from rayscaler.k8s.objects import CONFIG_MAPS
from rayscaler.k8s.pods import Owner
from rayscaler.model.instance import InstanceObservation
from rayscaler.throttle import Pace

FRESH_S = 10.0
"""A definition that was looked up is taken for the same for so long: one that is made anew has another uid."""


class OwnedExecutor:
    """A KubernetesExecutor whose pods belong to the ConfigMap of their cluster's name, where there is one: deleting that deletes them."""

    def __init__(self, client: Client, namespace: str, *, on_end: Callable[[str], None], clock: Clock | None = None) -> None:
        self._client = client
        self._namespace = namespace
        self._clock = clock or SystemClock()
        self._owners: dict[str, tuple[Owner | None, float]] = {}
        self._inner = KubernetesExecutor(client, namespace, on_end=on_end, owner=lambda cluster: self._owners[cluster][0])
        self.pace: Pace = self._inner.pace

    async def launch(self, spec: LaunchSpec) -> str:
        """Create the pod."""
        if self._clock.mono() - self._owners.get(spec.cluster, (None, -FRESH_S))[1] >= FRESH_S:
            self._owners[spec.cluster] = (await self._owner(spec.cluster), self._clock.mono())
        return await self._inner.launch(spec)

    async def terminate(self, cluster: str, instance_id: str) -> None:
        """Delete the pod."""
        await self._inner.terminate(cluster, instance_id)

    async def list(self, cluster: str) -> list[InstanceObservation]:
        """Tell every instance of the cluster that is not gone."""
        return await self._inner.list(cluster)

    def watch(self, cluster: str) -> AsyncIterator[InstanceObservation]:
        """Yield an observation at each change of phase, from this call on."""
        return self._inner.watch(cluster)

    async def close(self) -> None:
        """Stop following; the pods live on."""
        await self._inner.close()

    async def _owner(self, cluster: str) -> Owner | None:
        try:
            found = await self._client.get(CONFIG_MAPS, self._namespace, cluster)
        except NotFound:
            return None
        return Owner("v1", "ConfigMap", cluster, found.metadata.uid)
