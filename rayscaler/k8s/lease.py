"""Leadership: which of the service's replicas acts, by one Lease in the namespace, and a label on the pod of the one that does.

Whoever waits judges by its own clock: a Lease that has not changed for its duration is free, whatever times stand in it. Who holds it
stops well before that, at the renew deadline, also when it was asleep: `leads` asks the clock, not a flag. What is under way then all the
same is stopped by the record's epoch (`record.py`). A standby follows the Lease by a watch; the only requests in between are renewals.
"""

import asyncio
import contextlib
import random
from datetime import UTC, datetime
from functools import partial
from typing import Any, NoReturn

import structlog

from rayscaler.clock import Clock
from rayscaler.errors import Busy, Fenced, NotFound, RayscalerError
from rayscaler.k8s.client import Client
from rayscaler.k8s.failures import AlreadyExists
from rayscaler.k8s.objects import LEASES, PODS, Lease
from rayscaler.settings import Timings

log = structlog.get_logger(__name__)

NAME = "rayscaler"
LEADER = "rayscaler.io/leader"
"""Label of the leader's pod, by which the Service for monitors selects it."""


class Leadership:
    """One process's part. The client must be for this alone: a renewal must not wait behind a thousand pods, nor be held back by `check`.

    `holder` is who it is: in a pod its name, as then a former life of the same pod, which is surely over, need not be waited for.
    """

    def __init__(
        self, client: Client, namespace: str, *, holder: str, clock: Clock, pod: str | None = None, timings: Timings | None = None
    ) -> None:
        self._client = client
        self._namespace = namespace
        self.holder = holder
        self._clock = clock
        self._pod = pod
        self._timings = timings or Timings()
        self._lease = Lease()
        self._seen_at = 0.0
        self._renewed_at: float | None = None

    @property
    def leads(self) -> bool:
        """Whether nobody else can lead at this moment."""
        return self._renewed_at is not None and self._clock.mono() < self._renewed_at + self._timings.lease_deadline_s

    @property
    def transitions(self) -> int:
        """How often the leader has changed, as of this one's beginning."""
        return self._lease.spec.lease_transitions

    def check(self) -> None:
        """Raise Fenced unless this process leads: to be asked right before anything is sent that changes something."""
        if not self.leads:
            raise Fenced(f"the lease {self._namespace}/{NAME} is not held by {self.holder} any more, or was not renewed in time")

    async def acquire(self) -> None:
        """Wait until this process leads."""
        is_unmarked = False
        while True:
            try:
                if await self._take(await self._found()):
                    log.info("leader.elected", holder=self.holder, transitions=self.transitions)
                    return
                if not is_unmarked:
                    await self._mark(None)  # a former life of this pod may have led
                    is_unmarked = True
                await self._until_free()
            except RayscalerError as error:
                log.warning("leader.unknown", error=str(error), error_name=error.name)
                await self._rest()

    async def keep(self) -> NoReturn:
        """Renew the Lease for ever, and see to the label; raises Fenced when it is lost, after which nothing more may be done."""
        is_labelled = False
        while True:
            is_labelled = is_labelled or await self._label()
            next_at = (self._renewed_at or 0.0) + self._timings.lease_renew_s * random.uniform(0.9, 1.0)  # noqa: S311 - so that not all ask at once
            await asyncio.sleep(max(0.0, next_at - self._clock.mono()))
            await self._renew()

    async def release(self) -> None:
        """Let the next one lead at once: take the label off, then give the Lease up. Nothing may be under way any more."""
        if not self.leads:
            return
        self._renewed_at = None
        free = {"holderIdentity": None, "renewTime": _now(), "leaseDurationSeconds": 1}
        for work in (partial(self._mark, None), partial(self._patch, free)):
            try:
                async with asyncio.timeout(self._timings.lease_renew_s):
                    await work()
            except (RayscalerError, TimeoutError) as error:
                log.warning("leader.release.failed", error=str(error))

    async def _found(self) -> Lease | None:
        try:
            return self._saw(await self._client.get(LEASES, self._namespace, NAME))
        except NotFound:
            return None

    def _saw(self, found: Lease) -> Lease:
        """Note a Lease; time runs anew from each change."""
        if found.metadata.resource_version != self._lease.metadata.resource_version:
            self._lease, self._seen_at = found, self._clock.mono()
        return found

    def _free_in_s(self) -> float:
        spec = self._lease.spec
        if spec.holder_identity in {"", self.holder}:
            return 0.0
        return self._seen_at + max(spec.lease_duration_seconds, self._timings.lease_s) - self._clock.mono()

    async def _take(self, found: Lease | None) -> bool:
        """Take the Lease if it is free; whether it is ours now."""
        began_at = self._clock.mono()
        is_new = found is None and not self._lease.spec.holder_identity
        if self._free_in_s() > 0.0:
            return False
        spec = {
            "holderIdentity": self.holder,
            "leaseDurationSeconds": max(1, round(self._timings.lease_s)),
            "acquireTime": _now(),
            "renewTime": _now(),
        }
        try:
            if found is None:
                spec["leaseTransitions"] = 1 if is_new else self._lease.spec.lease_transitions + 1
                body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": NAME}, "spec": spec}
                self._lease = await self._client.create(LEASES, self._namespace, body)
            else:
                await self._patch({**spec, "leaseTransitions": found.spec.lease_transitions + 1})
        except (AlreadyExists, Busy, NotFound):
            return False  # another one was faster
        self._renewed_at = began_at
        return True

    async def _until_free(self) -> None:
        """Follow the Lease until it is free, or gone, or the watch ends."""
        version, fields = self._lease.metadata.resource_version, f"metadata.name={NAME}"
        if not version or self._free_in_s() <= 0.0:
            await self._rest()
            return
        with contextlib.suppress(TimeoutError):
            async with (
                asyncio.timeout(self._free_in_s()) as patience,
                self._client.watch(LEASES, self._namespace, version=version, fields=fields) as events,
            ):
                async for what, found in events:
                    if what in ("ADDED", "MODIFIED"):
                        self._saw(found)
                    if self._free_in_s() <= 0.0:
                        return
                    patience.reschedule(asyncio.get_running_loop().time() + self._free_in_s())
        if self._free_in_s() > 0.0:  # the watch has ended
            await self._rest()

    async def _renew(self) -> None:
        """Renew, however often that takes until the deadline; raises Fenced when it has passed or another one holds the Lease."""
        while True:
            self.check()
            began_at = self._clock.mono()
            try:
                async with asyncio.timeout(max(0.0, (self._renewed_at or 0.0) + self._timings.lease_deadline_s - began_at)):
                    await self._patch({"renewTime": _now()})
            except (Busy, NotFound):
                await self._look()
            except (RayscalerError, TimeoutError) as error:
                log.warning("leader.not_renewed", error=str(error))
            else:
                self._renewed_at = began_at
                return
            await self._rest()

    async def _look(self) -> None:
        """Find out who has changed the Lease; raises Fenced if it is not ours."""
        ours = self.holder, self.transitions  # a later life of the same pod has the same name
        with contextlib.suppress(RayscalerError):
            found = await self._found()
            if found is None or (found.spec.holder_identity, found.spec.lease_transitions) != ours:
                self._renewed_at = None
        self.check()

    async def _patch(self, spec: dict[str, Any]) -> None:
        """Change the Lease as it was seen last; raises Busy if it is another one by now."""
        body = {"metadata": {"resourceVersion": self._lease.metadata.resource_version}, "spec": spec}
        self._lease = await self._client.patch(LEASES, self._namespace, NAME, body)

    async def _label(self) -> bool:
        """Put the label on our pod, and take it off any other: who lost the Lease asleep, or died, could not. Whether that is done."""
        try:
            async with asyncio.timeout(self._timings.lease_renew_s / 2):
                self.check()
                await self._mark("true")
                others, _ = await self._client.list(PODS, self._namespace, selector=f"{LEADER}=true")
                for each in others:
                    if each.metadata.name != self._pod:
                        await self._mark(None, each.metadata.name)
        except (RayscalerError, TimeoutError) as error:
            log.warning("leader.unlabelled", error=str(error))
            return False
        return True

    async def _mark(self, value: str | None, pod: str | None = None) -> None:
        """Put the label on a pod, or take it off; on our own if none is named."""
        name = pod or self._pod
        if name is not None:
            with contextlib.suppress(NotFound):
                await self._client.patch(PODS, self._namespace, name, {"metadata": {"labels": {LEADER: value}}})

    async def _rest(self) -> None:
        await asyncio.sleep(self._timings.lease_retry_s * random.uniform(1.0, 1.5))  # noqa: S311 - so that not all ask at once


def _now() -> str:
    """Return the wall time as a Lease has it; for people, as nobody judges by it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
