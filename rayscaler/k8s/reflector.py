"""Keeps a copy of the objects that a label selector selects: one list, then one watch for all who care, for ever.

A watch that ends or breaks goes on from the version it had reached; only a version that the API server has forgotten (410) means
listing again, after which whatever has vanished is told as gone. Pauses between tries grow, with jitter. No polling.
"""

import asyncio
import contextlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, NoReturn, TypeVar

import structlog

from rayscaler.clock import Clock
from rayscaler.errors import RayscalerError, Unavailable
from rayscaler.k8s.client import Client
from rayscaler.k8s.failures import Expired, Overloaded
from rayscaler.k8s.objects import Kind, Named

log = structlog.get_logger(__name__)

T = TypeVar("T", bound=Named)

STEADY_S = 1.0
"""A watch that lived for so long was a good one: the next may be asked for at once."""
Tell = Callable[[T, bool], None]
"""Told of each change: the object as it is now, and whether it is gone."""


@dataclass(frozen=True)
class Pauses:
    """Seconds between tries, and until a copy without a watch counts as unknown."""

    first_s: float = 0.2
    longest_s: float = 10.0
    blind_s: float = 5.0
    """A watch may be broken for so long before nobody may rely on the copy."""


class Reflector(Generic[T]):
    """A copy of one kind of object in one namespace; `objects` is by name."""

    def __init__(
        self, client: Client, kind: Kind[T], namespace: str, selector: str, *, tell: Tell[T], clock: Clock, pauses: Pauses | None = None
    ) -> None:
        self.objects: dict[str, T] = {}
        self._client = client
        self._kind = kind
        self._namespace = namespace
        self._selector = selector
        self._tell = tell
        self._clock = clock
        self._pauses = pauses or Pauses()
        self._version = ""  # up to which everything is known; "" before the first list and after a 410
        self._is_listed = False
        self._watching = asyncio.Event()
        self._lost_at = clock.mono()
        self._error: RayscalerError | None = None

    async def run(self) -> NoReturn:
        """List and watch for ever."""
        pause_s = self._pauses.first_s
        while True:
            began_at = self._clock.mono()
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                self._error = None
            except RayscalerError as error:
                self._error = error
                self._version = "" if isinstance(error, Expired) else self._version
                log.warning("reflector.lost", kind=self._kind.plural, namespace=self._namespace, error=str(error), error_name=error.name)
            if self._clock.mono() - began_at > max(STEADY_S, pause_s):
                pause_s = self._pauses.first_s
            told_s = self._error.retry_after_s if isinstance(self._error, Overloaded) else 0.0
            await asyncio.sleep(max(told_s, pause_s) * random.uniform(1.0, 1.5))  # noqa: S311 - so that not all come back at once
            pause_s = min(pause_s * 2, self._pauses.longest_s)

    async def synced(self, within_s: float) -> None:
        """Wait until the copy is whole and followed, or was a moment ago; raises what is in the way, else Unavailable."""
        if self._is_listed and not self._watching.is_set() and self._clock.mono() - self._lost_at < self._pauses.blind_s:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._watching.wait()
                return
        if self._error is not None:
            raise self._error
        raise Unavailable(f"list {self._kind.plural} in {self._namespace}: not complete within {within_s:g} s")

    def note(self, found: T) -> None:
        """Take an object that a call has just returned; one that the watch is past already tells nothing new."""
        known = self.objects.get(found.metadata.name)
        seen = self._version if known is None or known.metadata.uid != found.metadata.uid else known.metadata.resource_version
        if age(found.metadata.resource_version) > age(seen):
            self._put(found)

    async def _list(self) -> None:
        found, version = await self._client.list(self._kind, self._namespace, selector=self._selector)
        present = {each.metadata.name: each.metadata.uid for each in found}
        for name, known in list(self.objects.items()):
            # What a call returned after the list was made is not in it, and lives.
            if present.get(name) != known.metadata.uid and age(known.metadata.resource_version) <= age(version):
                self._drop(known)
        for each in found:
            known_now = self.objects.get(each.metadata.name)
            if known_now is None or age(known_now.metadata.resource_version) < age(each.metadata.resource_version):
                self._put(each)
        self._version = version
        self._is_listed = True

    async def _watch(self) -> None:
        async with self._client.watch(self._kind, self._namespace, version=self._version, selector=self._selector) as events:
            self._watching.set()
            self._error = None
            try:
                async for what, found in events:
                    self._take(what, found)
                    self._version = found.metadata.resource_version or self._version
            finally:
                self._watching.clear()
                self._lost_at = self._clock.mono()

    def _take(self, what: str, found: T) -> None:
        if what == "DELETED":
            self._drop(found)
        elif what in ("ADDED", "MODIFIED"):
            known = self.objects.get(found.metadata.name)
            if known is None or age(known.metadata.resource_version) < age(found.metadata.resource_version):
                self._put(found)

    def _put(self, found: T) -> None:
        known = self.objects.get(found.metadata.name)
        if known is not None and known.metadata.uid != found.metadata.uid:
            self._drop(known)
        self.objects[found.metadata.name] = found
        self._tell(found, False)

    def _drop(self, found: T) -> None:
        known = self.objects.get(found.metadata.name)
        if known is not None and known.metadata.uid == found.metadata.uid:
            del self.objects[found.metadata.name]
            self._tell(found, True)


def age(version: str) -> int:
    """Return a resourceVersion as the number it is: within one kind, the newer is the higher."""
    return int(version) if version.isdigit() else 0
