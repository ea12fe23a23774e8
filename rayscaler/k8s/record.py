"""ConfigMapStore: each cluster's record, and its definition as it was good last, in a ConfigMap of its own. It is the fence too (design §2.6).

Each write names the version of the object that it follows, and the epoch of this leader. Who takes over raises the epoch first; from
then on no write of an earlier leader is taken, wherever it was held up, and as the record is written before what it guards, it
sends nothing more. A Lease alone could not do that: whoever held it may have been asleep since it last looked.
"""

import asyncio
import contextlib
import gzip
import zlib
from base64 import b64encode
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import structlog

from rayscaler.errors import Busy, Fenced, NotFound, RayscalerError, Unavailable
from rayscaler.k8s import labels, pods
from rayscaler.k8s.client import Client
from rayscaler.k8s.failures import AlreadyExists
from rayscaler.k8s.objects import RECORDS, Record
from rayscaler.store import codec, fit
from rayscaler.store.base import ClusterRecord

log = structlog.get_logger(__name__)

TRIES = 5
"""Of a write that others' writes to the same object come before: people label things, but not all the time."""
MOST_DEFINITION = 900 << 10
"""Bytes of a definition, compressed, beside the record: the API server takes 1 MiB in one ConfigMap. A definition comes from one too."""


RECORD, DEFINITION = "record.json", "definition.yaml.gz"
Change = Mapping[str, str | bytes]
"""Keys of the ConfigMap with their new content."""


@dataclass
class _Held:
    """A record that is ours: its version as of our last look, our epoch, and what is in it, should somebody delete it."""

    version: str
    epoch: int
    content: Change


class ConfigMapStore:
    """A Store, and Definitions by cluster name, of one leader's life. The client stays the caller's."""

    def __init__(
        self, client: Client, namespace: str, *, holder: str, transitions: Callable[[], int], owner: Callable[[str], pods.Owner | None]
    ) -> None:
        """Take the leader's name, the count of changes of leader so far, and what the objects of a cluster belong to."""
        self._client = client
        self._namespace = namespace
        self._holder = holder
        self._transitions = transitions
        self._owner = owner
        self._held: dict[str, _Held] = {}
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._left_out: dict[str, str] = {}
        self._fenced = ""

    async def load(self, cluster: str) -> ClusterRecord | None:
        """Take the record over and return it, or None if there was never one: the next write of whoever had it is refused."""
        async with self._locks[cluster]:
            found = await self._take_over(cluster)
        if not found.data.record:
            return None
        try:
            return codec.decode(found.data.record)
        except codec.NO_RECORD as error:
            raise Unavailable(f"{self._namespace}/{_name(cluster)}: the record of {cluster} cannot be read: {error}") from error

    async def save(self, record: ClusterRecord) -> None:
        """Replace the record; raises Fenced when somebody else has taken it over."""
        text, left_out = fit.fitted(record)
        if left_out != self._left_out.get(record.cluster, ""):
            self._left_out[record.cluster] = left_out
            log.warning("record.cut", cluster=record.cluster, left_out=left_out)
        async with self._locks[record.cluster]:
            await self._write(record.cluster, {RECORD: text})

    async def last_good(self, source: str) -> str | None:
        """Return the definition of the cluster `source` as it was good last, or None if it never was."""
        with _unavailable():
            try:
                found = await self._client.get(RECORDS, self._namespace, _name(source))
            except NotFound:
                return None
        try:
            return gzip.decompress(found.binary_data.definition).decode() if found.binary_data.definition else None
        except (OSError, EOFError, ValueError, zlib.error) as error:
            raise Unavailable(f"{self._namespace}/{_name(source)}: the last good definition cannot be read: {error}") from error

    async def keep_good(self, source: str, text: str) -> None:
        """Replace the last good definition of the cluster `source`; the same again writes nothing."""
        packed = gzip.compress(text.encode(), mtime=0)
        if len(packed) > MOST_DEFINITION:
            raise Unavailable(f"the definition of {source} has {len(packed)} bytes, compressed, and is not kept: {MOST_DEFINITION} at most")
        async with self._locks[source]:
            if source not in self._held:
                await self._take_over(source)
            if self._held[source].content.get(DEFINITION) != packed:
                await self._write(source, {DEFINITION: packed})

    async def close(self) -> None:
        """Do nothing: the records stay, and so does their epoch."""

    async def _take_over(self, cluster: str) -> Record:
        self._check()
        with _unavailable():
            for _ in range(TRIES):
                with contextlib.suppress(AlreadyExists, Busy):  # somebody was faster: look again
                    found, epoch = await self._raised(cluster)
                    self._hold(cluster, found, epoch)
                    return found
        raise Unavailable(f"{self._namespace}/{_name(cluster)}: is written by others all the time")

    async def _raised(self, cluster: str) -> tuple[Record, int]:
        try:
            found = await self._client.get(RECORDS, self._namespace, _name(cluster))
        except NotFound:
            epoch = max(1, self._transitions())
            return await self._create(cluster, epoch, {}), epoch
        epoch = max(self._transitions(), _epoch(found) + 1)
        return await self._patch(cluster, found.metadata.resource_version, epoch, {}), epoch

    async def _write(self, cluster: str, change: Change) -> None:
        """Write over our own last version. What came between is looked at: another leader fences us, anything else is written over."""
        if cluster not in self._held:
            await self._take_over(cluster)
        held = self._held[cluster]
        with _unavailable():
            for _ in range(TRIES):
                self._check()
                try:
                    found = await self._patch(cluster, held.version, held.epoch, change)
                except NotFound:
                    log.warning("record.deleted", cluster=cluster)
                    with contextlib.suppress(AlreadyExists):
                        self._hold(cluster, await self._create(cluster, held.epoch, {**held.content, **change}), held.epoch)
                        return
                except Busy:
                    await self._look(cluster)
                else:
                    self._hold(cluster, found, held.epoch)
                    return
        raise Unavailable(f"{self._namespace}/{_name(cluster)}: is written by others all the time")

    async def _look(self, cluster: str) -> None:
        """Find out who has written: raises Fenced when it was another leader, not one that we have followed."""
        held = self._held[cluster]
        try:
            found = await self._client.get(RECORDS, self._namespace, _name(cluster))
        except NotFound:
            return  # the next write makes it again
        if (_epoch(found), found.data.holder) != (held.epoch, self._holder) and _epoch(found) >= held.epoch:
            self._fenced = f"the record of {cluster} was taken over by {found.data.holder}, epoch {_epoch(found)}; this was {held.epoch}"
            self._check()
        held.version = found.metadata.resource_version

    def _check(self) -> None:
        if self._fenced:
            raise Fenced(self._fenced)

    async def _create(self, cluster: str, epoch: int, content: Change) -> Record:
        metadata = {"name": _name(cluster), "labels": {labels.MANAGED_BY: labels.MANAGER, labels.CLUSTER: cluster}, **self._owners(cluster)}
        body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, **self._signed(epoch, content)}
        return await self._client.create(RECORDS, self._namespace, body)

    async def _patch(self, cluster: str, version: str, epoch: int, change: Change) -> Record:
        body = {"metadata": {"resourceVersion": version, **self._owners(cluster)}, **self._signed(epoch, change)}
        return await self._client.patch(RECORDS, self._namespace, _name(cluster), body)

    def _signed(self, epoch: int, change: Change) -> dict[str, Any]:
        """Return the fields of an object or a patch, with who writes."""
        texts = {key: value for key, value in change.items() if isinstance(value, str)}
        packed = {key: b64encode(value).decode() for key, value in change.items() if isinstance(value, bytes)}
        return {"data": {**texts, "holder": self._holder, "epoch": str(epoch)}, **({"binaryData": packed} if packed else {})}

    def _owners(self, cluster: str) -> dict[str, Any]:
        """Whose it is is said each time: the same definition made anew has another uid, and its record must not go with the old one."""
        return pods.owned(self._owner(cluster))

    def _hold(self, cluster: str, found: Record, epoch: int) -> None:
        content: dict[str, str | bytes] = {RECORD: found.data.record, DEFINITION: found.binary_data.definition}
        self._held[cluster] = _Held(found.metadata.resource_version, epoch, {key: value for key, value in content.items() if value})


def _name(cluster: str) -> str:
    """Return the name of a cluster's record; no definition can have it, for a cluster's name has no dot."""
    return f"{cluster}.rayscaler-record"


def _epoch(found: Record) -> int:
    return int(found.data.epoch) if found.data.epoch.isdecimal() else 0


@contextlib.contextmanager
def _unavailable() -> Iterator[None]:
    """Raise all but a fence as Unavailable, as the port says: without the record nothing may be done, and a right can be given."""
    try:
        yield
    except (Fenced, Unavailable):
        raise
    except RayscalerError as error:
        raise Unavailable(str(error)) from error
