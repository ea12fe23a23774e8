"""Tells people in a namespace of its clusters: status and explanation in a ConfigMap, what happens as Events. Only what has changed."""

import asyncio
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import structlog
from google.protobuf.json_format import MessageToJson

from rayscaler.clock import Clock
from rayscaler.errors import RayscalerError
from rayscaler.k8s import statuses
from rayscaler.k8s.events import EventReason, Events, of_action
from rayscaler.k8s.pods import Owner
from rayscaler.k8s.statusdocument import DefinitionStanding, HeadStanding, status_document
from rayscaler.k8s.statuses import Statuses
from rayscaler.model.status import ClusterStatus
from rayscaler.reconciler.cluster import ClusterReconciler
from rayscaler.server import answers, explanations

log = structlog.get_logger(__name__)

REST_S = 1.0
"""From news of a cluster to telling it: a burst is told once."""
SHARE = 10
"""What takes long to tell, such as a thousand instances that all change, is told so many times that long apart: the event loop has more to do."""
LONGEST_REST_S = 10.0
MOST_INSTANCES = 2000
"""Of more, only the short status is told: the whole would not fit into a ConfigMap, and takes a second to write down."""


@dataclass(frozen=True)
class Scene:
    """What there is to tell of a cluster; `reconciler` is None while no definition is in force."""

    owner: Owner
    reconciler: ClusterReconciler | None
    definition: DefinitionStanding
    head: HeadStanding
    lacking: tuple[str, ...] = ()
    """Rights that the service has not, a sentence each."""


class Telling:
    """Writes back what is news; `scene` returns how a cluster stands, None if it is gone, `pods_of` its pods by instance."""

    def __init__(
        self,
        written: Statuses,
        events: Events,
        scene: Callable[[str], Scene | None],
        clock: Clock,
        pods_of: Callable[[str], Mapping[str, Owner]] = lambda _: {},
    ) -> None:
        self._written = written
        self._events = events
        self._scene = scene
        self._clock = clock
        self._pods_of = pods_of
        self._news: set[str] = set()
        self._wake = asyncio.Event()
        self._documents: dict[str, Mapping[str, Any]] = {}
        self._told_at: dict[str, float] = {}

    def note(self, cluster: str) -> None:
        """Take note that there may be news of a cluster."""
        self._news.add(cluster)
        self._wake.set()

    def forget(self, cluster: str) -> None:
        """Tell nothing more of a cluster."""
        self._written.forget(cluster)
        self._documents.pop(cluster, None)
        self._told_at.pop(cluster, None)

    async def run(self) -> NoReturn:
        """Tell for ever, from where the leader before left off: since when a condition stands is known from what is written."""
        try:
            self._documents |= {name: json.loads(text) for name, text in (await self._written.load()).items()}
        except (RayscalerError, ValueError) as error:
            log.warning("telling.anew", why=str(error))
        took_s = 0.0
        while True:
            await self._wake.wait()
            await asyncio.sleep(max(REST_S, min(SHARE * took_s, LONGEST_REST_S)))
            self._wake.clear()
            names, self._news = self._news, set()
            began_at = self._clock.mono()
            for name in sorted(names):
                scene = self._scene(name)
                if scene is not None:
                    self._tell(name, scene)
                await asyncio.sleep(0)  # reports come between any two
            took_s = self._clock.mono() - began_at

    def _tell(self, cluster: str, scene: Scene) -> None:
        try:
            status = None if scene.reconciler is None else scene.reconciler.status()
            self._written.put(cluster, scene.owner, self._told(cluster, scene, status))
            if status is not None:
                self._tell_actions(scene.owner, status)
        except Exception:
            # Telling serves people only: a bug in it must not end the service, and the next change is told anew.
            log.exception("telling.failed", cluster=cluster)

    def _told(self, cluster: str, scene: Scene, status: ClusterStatus | None) -> dict[str, str]:
        """Return the documents: without ages and counts of cycles, which would make each one news."""
        own = scene.reconciler
        if status is not None:
            status = replace(status, report_age_s=None, cycle=0, notices=(*scene.lacking, *status.notices))
        before = self._documents.get(cluster)
        short = status_document(cluster, status, definition=scene.definition, head=scene.head, now=self._clock.now(), before=before)
        self._documents[cluster] = short
        told = {statuses.STATUS: statuses.text_of(short)}
        if own is not None and status is not None and len(status.instances) <= MOST_INSTANCES:
            explained = explanations.cluster_explanation(own.explanation())
            explained.ClearField("at")
            told[statuses.FULL] = MessageToJson(answers.cluster_status(status), preserving_proto_field_name=True, indent=None)
            told[statuses.EXPLAIN] = MessageToJson(explained, preserving_proto_field_name=True, indent=None)
        return told

    def _tell_actions(self, owner: Owner, status: ClusterStatus) -> None:
        told_at = self._told_at.get(status.cluster, self._clock.now() - REST_S)
        news = [(each, reason) for each in status.actions if each.at > told_at and (reason := of_action(each)) is not None]
        stuck = {each.instance_id: each.detail for each, reason in news if reason is EventReason.LAUNCH_STUCK}
        for each, reason in news:
            self._events.tell(owner, reason, each.detail, of=each.node_type)
        for instance_id, pod in self._pods_of(status.cluster).items() if stuck else ():
            if instance_id in stuck:
                self._events.tell(pod, EventReason.LAUNCH_STUCK, stuck[instance_id])
        self._told_at[status.cluster] = max([told_at, *(each.at for each in status.actions)])
