"""PodGroups: the objects by which gang schedulers know which pods are bound all or none, and how many those are.

Two schedulers, two kinds of object, two ways in which a pod says of which it is; the rest is alike. Each object has its size from here:
whoever wants groups says so before the pods are made.
"""

import asyncio
import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import structlog

from rayscaler.clock import Clock
from rayscaler.errors import Busy, Conflict, Denied, NotFound, Unsupported
from rayscaler.k8s import labels
from rayscaler.k8s.client import Client
from rayscaler.k8s.failures import AlreadyExists
from rayscaler.k8s.objects import GROUPS, PodGroup
from rayscaler.k8s.pods import Manifest, Owner, owned
from rayscaler.model.scheduling import GangScheduler, Membership, WantedGroup

log = structlog.get_logger(__name__)

API_VERSIONS = {scheduler: kind.group.removeprefix("apis/") for scheduler, kind in GROUPS.items()}
AGAIN_S = 60.0
"""What was read or written is taken for true for so long: somebody may delete or change it."""
IN_FLIGHT = 20
"""Calls at the same time; a plan has a few groups as a rule."""


@dataclass(frozen=True)
class Change:
    """What is to be done: `there` None is an object that is missing, `size` 0 one that is to go."""

    name: str
    size: int
    there: PodGroup | None = None
    queue: str = ""


def changes(cluster: str, there: Mapping[str, PodGroup], wanted: Sequence[WantedGroup]) -> Iterator[Change]:
    """Yield what turns the objects that are there into those that are wanted. Pure."""
    names = {labels.pod_group(cluster, each.name): each for each in wanted}
    for name, each in names.items():
        found = there.get(name)
        size = each.size if found is None or each.may_shrink else max(each.size, found.spec.min_member)
        if found is None or found.spec.min_member != size:
            yield Change(name, size, found, each.queue)
    yield from (Change(name, 0, found) for name, found in sorted(there.items()) if name not in names)


def manifest(cluster: str, scheduler: GangScheduler, change: Change, owner: Owner | None) -> Manifest:
    """Return the object of a group."""
    queue = {"queue": change.queue} if change.queue else {}
    return {
        "apiVersion": API_VERSIONS[scheduler],
        "kind": "PodGroup",
        "metadata": {"name": change.name, "labels": {labels.MANAGED_BY: labels.MANAGER, labels.CLUSTER: cluster}, **owned(owner)},
        "spec": {"minMember": change.size, **queue},
    }


class PodGroups:
    """The PodGroups of a namespace; the client stays the caller's. Follows nothing: what it knows is what it has read and written."""

    def __init__(self, client: Client, namespace: str, clock: Clock) -> None:
        self._client = client
        self._namespace = namespace
        self._clock = clock
        self._known: dict[tuple[str, GangScheduler], tuple[float, dict[str, PodGroup]]] = {}

    async def have(self, cluster: str, scheduler: GangScheduler, wanted: Sequence[WantedGroup], owner: Owner | None) -> None:
        """Have just these groups; raises Unsupported where the cluster has no such objects, Conflict for one of somebody else's."""
        key = (cluster, scheduler)
        try:
            there = await self._there(cluster, scheduler, is_needed=bool(wanted))
            self._known.pop(key, None)  # until all is done
            await self._carry_out(cluster, scheduler, changes(cluster, there, wanted), owner, there)
        except Denied as error:
            raise Denied(f"{error}; a cluster administrator gives the right with gangScheduling.scheduler of the chart") from error
        except NotFound as error:
            raise Unsupported(f"{error}; is {scheduler.value} installed, with its PodGroup of {API_VERSIONS[scheduler]}?") from error
        self._known[key] = self._clock.mono(), there

    async def _carry_out(
        self, cluster: str, scheduler: GangScheduler, due: Iterator[Change], owner: Owner | None, there: dict[str, PodGroup]
    ) -> None:
        turns = asyncio.Semaphore(IN_FLIGHT)

        async def carry_out(change: Change) -> None:
            async with turns:
                await self._change(cluster, scheduler, change, owner, there)

        try:
            async with asyncio.TaskGroup() as tasks:
                for each in list(due):
                    tasks.create_task(carry_out(each), name=f"pod group {each.name}")
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from errors

    async def _there(self, cluster: str, scheduler: GangScheduler, *, is_needed: bool) -> dict[str, PodGroup]:
        known = self._known.get((cluster, scheduler))
        if known is not None and self._clock.mono() - known[0] < AGAIN_S:
            return known[1]
        selector = f"{labels.MANAGED_BY}={labels.MANAGER},{labels.CLUSTER}={cluster}"
        try:
            found, _ = await self._client.list(GROUPS[scheduler], self._namespace, selector=selector)
        except NotFound:
            if is_needed:
                raise
            return {}
        return {each.metadata.name: each for each in found}

    async def _change(
        self, cluster: str, scheduler: GangScheduler, change: Change, owner: Owner | None, there: dict[str, PodGroup]
    ) -> None:
        kind, name = GROUPS[scheduler], change.name
        if change.there is None:
            there[name] = await self._make(cluster, scheduler, change, owner)
        elif change.size:
            there[name] = await self._resize(cluster, scheduler, change, owner)
        else:
            with contextlib.suppress(Busy, NotFound):  # gone, or the name has another object now
                await self._client.delete(kind, self._namespace, name, uid=change.there.metadata.uid)
            del there[name]

    async def _resize(self, cluster: str, scheduler: GangScheduler, change: Change, owner: Owner | None) -> PodGroup:
        try:
            return await self._client.patch(GROUPS[scheduler], self._namespace, change.name, {"spec": {"minMember": change.size}})
        except NotFound:  # somebody has deleted it
            return await self._make(cluster, scheduler, change, owner)

    async def _make(self, cluster: str, scheduler: GangScheduler, change: Change, owner: Owner | None) -> PodGroup:
        kind, body = GROUPS[scheduler], manifest(cluster, scheduler, change, owner)
        try:
            return await self._client.create(kind, self._namespace, body)
        except AlreadyExists:
            found = await self._client.get(kind, self._namespace, change.name)
        if found.metadata.labels.cluster != cluster:
            raise Conflict(f"PodGroup {change.name} is there, and is not rayscaler's; delete it, or name the cluster otherwise")
        return await self._client.patch(kind, self._namespace, change.name, {"spec": body["spec"]})


def membership_of(scheduler: str, group: str, gangs: str) -> Membership | None:
    """Return what a pod's annotations say of who schedules it; None where they say nothing."""
    try:
        return Membership(GangScheduler(scheduler), group, tuple(gangs.split(",")) if gangs else ())
    except ValueError:
        return None
