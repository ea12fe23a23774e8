"""Events: what happened to a cluster, told on its definition's ConfigMap, where `kubectl describe` and `kubectl events` show it.

What holds up one worker is told on its pod too.

Best effort: an event that cannot be written is lost, and nothing waits for one. What happens alike within a while is one event with a
count, and the while grows as long as it goes on, so that a burst of a thousand launches costs the API server a handful of writes.
"""

import asyncio
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import NoReturn

import structlog

from rayscaler.clock import Clock
from rayscaler.errors import NotFound, RayscalerError
from rayscaler.k8s import labels
from rayscaler.k8s.client import Client
from rayscaler.k8s.objects import EVENTS
from rayscaler.k8s.pods import Manifest, Owner
from rayscaler.model.instance import InstanceStatus, Reason
from rayscaler.model.status import Action

log = structlog.get_logger(__name__)

MOST = 1000
"""Kinds of happening that wait, and that are remembered."""
LONGEST = 1000
"""Characters of a message."""
POD = "Pod"
DETAILS = 3
"""So many different details stand in one message."""


class EventReason(StrEnum):
    """Why there is an event; the word is the event's reason."""

    DEFINITION_TAKEN = "DefinitionTaken"
    DEFINITION_REFUSED = "DefinitionRefused"
    DEFINITION_HELD = "DefinitionHeld"
    HEAD_MADE = "HeadMade"
    HEAD_LOST = "HeadLost"
    HOSTS_UNNAMED = "HostsUnnamed"
    LAUNCHED = "Launched"
    LAUNCH_FAILED = "LaunchFailed"
    LAUNCH_STUCK = "LaunchStuck"
    DRAINING = "Draining"
    TERMINATED = "Terminated"
    GROWN = "Grown"
    GROWTH_FAILED = "GrowthFailed"


WARNINGS = frozenset(
    {
        EventReason.DEFINITION_REFUSED,
        EventReason.DEFINITION_HELD,
        EventReason.HEAD_LOST,
        EventReason.HOSTS_UNNAMED,
        EventReason.LAUNCH_FAILED,
        EventReason.LAUNCH_STUCK,
        EventReason.GROWTH_FAILED,
    },
)
_COUNTED: Mapping[EventReason, str] = {
    EventReason.LAUNCHED: "launched {count} {of}",
    EventReason.LAUNCH_FAILED: "could not launch {count} {of}",
    EventReason.LAUNCH_STUCK: "{count} {of} on the way and not getting on",
    EventReason.DRAINING: "draining {count} {of}",
    EventReason.TERMINATED: "ended {count} {of}",
    EventReason.GROWN: "{count} {of} grown in place",
    EventReason.GROWTH_FAILED: "{count} {of} could not grow in place",
}
_OF_STATUS: Mapping[str, EventReason] = {
    InstanceStatus.REQUESTED: EventReason.LAUNCHED,
    InstanceStatus.LAUNCH_FAILED: EventReason.LAUNCH_FAILED,
    Reason.STUCK: EventReason.LAUNCH_STUCK,
    InstanceStatus.DRAINING: EventReason.DRAINING,
    InstanceStatus.TERMINATED: EventReason.TERMINATED,
    Reason.GROWN: EventReason.GROWN,
    Reason.NOT_GROWN: EventReason.GROWTH_FAILED,
}


@dataclass(frozen=True)
class Options:
    """How much is told; seconds."""

    first_s: float = 1.0
    """What is told within so long after the first is one event."""
    longest_s: float = 300.0
    """The same, at most, while it goes on."""
    count_on_s: float = 3000.0
    """The same words within so long raise the count of the event that is there; the API server forgets events after an hour."""
    between_s: float = 0.2
    """Pause between two writes."""
    call_s: float = 5.0
    """Deadline of a write."""


_Key = tuple[str, EventReason, str]
"""Uid of the ConfigMap, reason, what it is about."""


@dataclass
class _Batch:
    """What happened and is not written yet; wall seconds, but `due_at` is the monotonic clock's."""

    owner: Owner
    first_at: float
    last_at: float
    due_at: float
    count: int = 0
    details: dict[str, None] = field(default_factory=dict)


@dataclass(frozen=True)
class _Told:
    """What was told last of a kind, when (monotonic), and in which event: its name is "" while that is not written."""

    message: str
    at: float
    gap_s: float
    name: str = ""
    count: int = 0


class Events:
    """Writes the events of one namespace's clusters."""

    def __init__(self, client: Client, namespace: str, *, clock: Clock, options: Options | None = None) -> None:
        self._client = client
        self._namespace = namespace
        self._clock = clock
        self._options = options or Options()
        self._waiting: dict[_Key, _Batch] = {}  # oldest first
        self._told: dict[_Key, _Told] = {}  # likewise
        self._lost = 0
        self._wake = asyncio.Event()

    def tell(self, owner: Owner, reason: EventReason, detail: str = "", *, of: str = "", count: int = 1) -> None:
        """Take a happening; `of` is what it happened to, such as a node type, of which there were `count`; "" for the owner itself."""
        key, now = (owner.uid, reason, of), self._clock.now()
        batch = self._waiting.get(key)
        if batch is None:
            batch = self._waiting[key] = _Batch(owner, now, now, self._due(key))
            self._wake.set()
        batch.last_at = now
        batch.count += count
        if detail:
            batch.details[detail] = None
        while len(self._waiting) > MOST:
            self._lost += self._waiting.pop(next(iter(self._waiting))).count

    async def run(self) -> NoReturn:
        """Write for ever."""
        while True:
            now = self._clock.mono()
            due = [key for key, batch in self._waiting.items() if batch.due_at <= now]
            # Pods are told of one by one, and what there is of their cluster meanwhile comes first.
            for key in [each for each in due if self._waiting[each].owner.kind != POD] or due[:1]:
                batch = self._waiting.pop(key, None)
                if batch is not None:  # still there after the pauses
                    await self._write(key, batch)
                    await asyncio.sleep(self._options.between_s)
            if not due:
                await self._rest(now)

    async def _rest(self, now: float) -> None:
        """Wait until something is due, or new."""
        self._wake.clear()
        due_at = min((batch.due_at for batch in self._waiting.values()), default=None)
        try:
            async with asyncio.timeout(None if due_at is None else due_at - now):
                await self._wake.wait()
        except TimeoutError:
            return

    def _due(self, key: _Key) -> float:
        told, now = self._told.get(key), self._clock.mono()
        return max(now + self._options.first_s, told.at + told.gap_s if told is not None else 0.0)

    async def _write(self, key: _Key, batch: _Batch) -> None:
        """Write one event; whatever comes of it, nobody else is to feel it."""
        if self._lost:
            log.warning("events.lost", count=self._lost, why="more happened than is written")
            self._lost = 0
        told, now = self._told.pop(key, None), self._clock.mono()
        is_going_on = told is not None and now - told.at < 2 * (told.gap_s + self._options.first_s)
        gap_s = min(2 * told.gap_s, self._options.longest_s) if told is not None and is_going_on else self._options.first_s
        message = message_of(key[1], key[2], batch.count, tuple(batch.details))
        is_same = told is not None and told.name and told.message == message and now - told.at <= self._options.count_on_s
        # At once, for what happens while it is being written has to wait for its turn.
        self._told[key] = _Told(message, now, gap_s)
        while len(self._told) > MOST:
            del self._told[next(iter(self._told))]
        try:
            async with asyncio.timeout(self._options.call_s):
                name, count = await self._send(key[1], batch, message, told if is_same else None)
        except (RayscalerError, TimeoutError) as error:
            log.warning("event.lost", cluster=batch.owner.name, reason=key[1].value, message=message, error=str(error))
        else:
            self._told[key] = _Told(message, now, gap_s, name, count)

    async def _send(self, reason: EventReason, batch: _Batch, message: str, told: _Told | None) -> tuple[str, int]:
        """Raise the count of the event that says the same, or create one; return its name and count."""
        if told is not None:
            body = {"count": told.count + 1, "lastTimestamp": stamp(batch.last_at)}
            try:
                await self._client.patch(EVENTS, self._namespace, told.name, body)
            except NotFound:
                log.debug("event.forgotten", name=told.name)
            else:
                return told.name, told.count + 1
        made = manifest(self._namespace, batch.owner, reason, message, at=(batch.first_at, batch.last_at))
        await self._client.create(EVENTS, self._namespace, made)
        return made["metadata"]["name"], 1


def of_action(action: Action) -> EventReason | None:
    """Return the reason under which an action of a cluster is told; None if it is not."""
    return _OF_STATUS.get(action.kind)


def message_of(reason: EventReason, of: str, count: int, details: tuple[str, ...]) -> str:
    """Return the sentence of what happened `count` times to `of`."""
    is_counted = bool(of) and reason in _COUNTED
    parts = [_COUNTED[reason].format(count=count, of=of)] if is_counted else []
    parts += [*details[:DETAILS], *([f"and {len(details) - DETAILS} more"] if len(details) > DETAILS else [])]
    text = f"{parts[0]}: {'; '.join(parts[1:])}" if is_counted and len(parts) > 1 else "; ".join(parts)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."


def manifest(namespace: str, owner: Owner, reason: EventReason, message: str, *, at: tuple[float, float]) -> Manifest:
    """Return an event of the definition's ConfigMap, or of a pod, of the time between two wall seconds."""
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{owner.name}.{uuid.uuid4().hex[:16]}", "labels": {labels.MANAGED_BY: labels.MANAGER}},
        "involvedObject": {
            "apiVersion": owner.api_version,
            "kind": owner.kind,
            "namespace": namespace,
            "name": owner.name,
            "uid": owner.uid,
        },
        "reason": reason.value,
        "message": message,
        "type": "Warning" if reason in WARNINGS else "Normal",
        "source": {"component": labels.MANAGER},
        "reportingComponent": labels.MANAGER,
        "count": 1,
        "firstTimestamp": stamp(at[0]),
        "lastTimestamp": stamp(at[1]),
    }


def stamp(at: float) -> str:
    """Return wall seconds as Kubernetes writes a time."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
