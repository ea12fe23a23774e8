"""Statuses: what a cluster's status says, in a ConfigMap beside its definition, for people, GitOps tools and the standby. Decides nothing.

The documents are opaque here; the newest wins. Writes are few: none while nothing has changed, one in two seconds of a cluster at
most, and all clusters share one pace. One that fails is tried again with growing pauses and keeps no other waiting.
"""

import asyncio
import json
import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

import structlog

from rayscaler.clock import Clock
from rayscaler.errors import RayscalerError
from rayscaler.k8s import labels
from rayscaler.k8s.client import APPLY, Client
from rayscaler.k8s.objects import CONFIG_MAPS
from rayscaler.k8s.pods import Manifest, Owner, owned
from rayscaler.throttle import Pace, Throttle

log = structlog.get_logger(__name__)

STATUS = "status.json"
"""The document for people, which is always there."""
FULL, EXPLAIN = "full.json", "explain.json"
"""What the service's own door answers when it is asked for the status, and for explanations."""
SUFFIX = ".rayscaler-status"
MOST_BYTES = 1_000_000
"""A ConfigMap holds 1 MiB, keys included."""


@dataclass(frozen=True)
class Options:
    """How often is written; seconds."""

    least_s: float = 2.0
    """Between two writes of a cluster."""
    again_s: float = 600.0
    """What has not changed for so long is written again with the next word of it: somebody may have deleted it."""
    first_retry_s: float = 1.0
    longest_retry_s: float = 60.0
    per_second: int = 4
    """Of all clusters: a hundred that change all the time are written every 25 s, for a burst of pods needs the API server more than its status."""
    in_flight: int = 2


@dataclass(frozen=True)
class _Status:
    """What a cluster's ConfigMap is to say."""

    owner: Owner
    documents: Mapping[str, str]


class Statuses:
    """Writes the statuses of one namespace's clusters."""

    def __init__(self, client: Client, namespace: str, *, clock: Clock, options: Options | None = None, pace: Pace | None = None) -> None:
        self._client = client
        self._namespace = namespace
        self._clock = clock
        self._options = options or Options()
        self._pace = pace or Throttle(per_second=self._options.per_second, in_flight=self._options.in_flight)
        self._wanted: dict[str, _Status] = {}
        self._written: dict[str, tuple[_Status, float]] = {}
        self._busy: set[str] = set()  # clusters that have a task, or wait for one
        self._due: asyncio.Queue[str] = asyncio.Queue()

    def put(self, cluster: str, owner: Owner, documents: Mapping[str, str]) -> None:
        """Take what a cluster's status says now, by the keys it has in the ConfigMap; it is written soon."""
        self._wanted[cluster] = _Status(owner, dict(documents))
        if cluster not in self._busy and self._is_due(cluster):
            self._busy.add(cluster)
            self._due.put_nowait(cluster)

    def forget(self, cluster: str) -> None:
        """Write nothing more of a cluster; what is written goes with its owner."""
        self._wanted.pop(cluster, None)
        self._written.pop(cluster, None)

    async def load(self) -> dict[str, str]:
        """Return the document for people of each cluster as it stands written, by whomever. Raises Denied, Unavailable."""
        found = await read(self._client, self._namespace)
        return {name: documents[STATUS] for name, documents in found.items() if STATUS in documents}

    async def run(self) -> NoReturn:
        """Write for ever."""
        async with asyncio.TaskGroup() as group:
            while True:
                cluster = await self._due.get()
                group.create_task(self._follow(cluster), name=f"status of {cluster}")

    async def _follow(self, cluster: str) -> None:
        """Write until the newest is written, and rest after each try."""
        retry_s, told = self._options.first_retry_s, ""
        while self._is_due(cluster):
            try:
                await self._write(cluster)
            except RayscalerError as error:
                if str(error) != told:
                    told = str(error)
                    log.warning("status.unwritten", cluster=cluster, error=told, error_name=error.name)
                await asyncio.sleep(retry_s * random.uniform(1.0, 1.5))  # noqa: S311 - so that not all come back at once
                retry_s = min(retry_s * 2, self._options.longest_retry_s)
            else:
                retry_s, told = self._options.first_retry_s, ""
                await asyncio.sleep(self._options.least_s)
        self._busy.discard(cluster)

    async def _write(self, cluster: str) -> None:
        async with self._pace.turn(cluster):
            wanted = self._wanted.get(cluster)
            if wanted is None:
                return
            body = manifest(cluster, wanted.owner, wanted.documents)
            query = {"fieldManager": labels.MANAGER, "force": "true"}
            await self._client.patch(CONFIG_MAPS, self._namespace, object_name(cluster), body, form=APPLY, query=query)
        if cluster in self._wanted:
            self._written[cluster] = (wanted, self._clock.mono())

    def _is_due(self, cluster: str) -> bool:
        wanted = self._wanted.get(cluster)
        if wanted is None:
            return False
        written, at = self._written.get(cluster, (None, 0.0))
        return wanted != written or self._clock.mono() - at >= self._options.again_s


def object_name(cluster: str) -> str:
    """Return the name of a cluster's status; a cluster has no dot in its own, so it is nobody else's."""
    return f"{cluster}{SUFFIX}"


async def read(client: Client, namespace: str) -> dict[str, Mapping[str, str]]:
    """Return what stands written of each cluster of a namespace, by its name. Raises Denied, Unavailable."""
    found, _ = await client.list(CONFIG_MAPS, namespace, selector=labels.OURS_SELECTOR)
    return {each.metadata.name.removesuffix(SUFFIX): each.data for each in found if each.metadata.name.endswith(SUFFIX)}


def manifest(cluster: str, owner: Owner, documents: Mapping[str, str]) -> Manifest:
    """Return the ConfigMap that says it."""
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "name": object_name(cluster),
            "labels": {labels.MANAGED_BY: labels.MANAGER, labels.CLUSTER: cluster},
            **owned(owner),
        },
        "data": fitted(documents),
    }


def fitted(documents: Mapping[str, str], most_bytes: int = MOST_BYTES) -> dict[str, str]:
    """Return what of the documents one ConfigMap can hold: the largest are left out first, which the status for people then says."""
    kept = dict(documents)
    sizes = {key: len(key.encode()) + len(text.encode()) for key, text in kept.items()}
    left_out = []
    for key in sorted(sizes.keys() - {STATUS}, key=lambda key: (-sizes[key], key)):
        if sum(sizes[each] for each in kept) <= most_bytes:
            break
        del kept[key]
        left_out.append(key)
    if left_out and STATUS in kept:
        kept[STATUS] = text_of({**json.loads(kept[STATUS]), "leftOut": sorted(left_out)})
    return kept


def text_of(document: Mapping[str, object]) -> str:
    """Return a document as people read it; the same document is the same text."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"
