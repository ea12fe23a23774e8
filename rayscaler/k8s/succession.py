"""Which head of a cluster serves, when it is lost, and what is to be done next. Pure.

The epoch that the Service selects is the durable one, and only grows: it is swapped first, then the pod of that epoch is made, by a name
that only one pod can have. So whoever acts twice, or late, or beside another replica, adds no second head: a pod that comes too late has an
epoch that nothing selects, and is deleted. The head that is lost may run on, unseen; it is not served (design §2b.3, §2b.4).
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from rayscaler.k8s import labels, phases, pods, services
from rayscaler.k8s.objects import Condition, HeadPod, Service
from rayscaler.model.instance import Phase

UNREACHABLE_S = 30.0
"""So long a head's node may be out of sight before another head is made: shorter cuts are more often than lost machines."""
LIVED_S = 60.0
"""A head that was there for so long makes the pauses before its successors begin anew."""
PAUSES_S = (0.0, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
"""Before the successor of a head that was lost: of the first one none, for it is seldom the head's own fault."""


class Deed(StrEnum):
    """What is to be done next."""

    REST = "rest"
    MAKE_SERVICE = "make the Service"
    MEND_SERVICE = "mend the Service"
    MAKE_POD = "make the pod"


class HeadPhase(StrEnum):
    """How far a head is."""

    MISSING = "missing"
    UNSCHEDULED = "unscheduled"
    PULLING = "pulling"
    STARTING = "starting"
    READY = "ready"
    UNREADY = "unready"
    """It was up, and its GCS does not answer: it is started again within its pod."""
    LOST = "lost"


@dataclass(frozen=True)
class HeadFact:
    """Where a cluster's head stands, for people; `since` is wall seconds."""

    epoch: int
    phase: HeadPhase
    reason: str = ""
    """What is in its way, or why the one before was lost."""
    detail: str = ""
    since: float = 0.0
    next_at: float = 0.0
    """Wall seconds of the next try; 0 where none is due."""


@dataclass(frozen=True)
class Scene:
    """All that is known of a cluster's head."""

    cluster: str
    owner: pods.Owner | None
    head_hash: str
    """Of the definition's section of the head."""
    service: Service | None = None
    pods: Mapping[int, HeadPod] = field(default_factory=dict)
    """By epoch."""
    made: int = 0
    """Newest epoch of which a pod was ever seen; it may be gone."""
    unreachable_s: float = 0.0
    """For so long the present pod's node has been out of sight."""
    patience_s: float = UNREACHABLE_S

    @property
    def epoch(self) -> int:
        """The present epoch: the newest known by anything, so that none ever returns."""
        durable = 0 if self.service is None else services.epoch_of(self.service)
        return max(durable, self.made, *self.pods, 1)

    @property
    def pod(self) -> HeadPod | None:
        """The pod of the present epoch."""
        return self.pods.get(self.epoch)


@dataclass(frozen=True)
class Step:
    """One thing to do, for an epoch; `lost` says why the head before it is lost, if it is."""

    deed: Deed
    epoch: int
    lost: str = ""


def decide(scene: Scene) -> Step:
    """Return what is to be done next."""
    why = lost(scene)
    epoch = scene.epoch + 1 if why else scene.epoch
    if scene.service is None:
        return Step(Deed.MAKE_SERVICE, epoch, why)
    if services.mending(scene.service, epoch, scene.owner):
        return Step(Deed.MEND_SERVICE, epoch, why)
    return Step(Deed.REST if scene.pod is not None else Deed.MAKE_POD, epoch)


def lost(scene: Scene) -> str:
    """Return why the head of the present epoch is lost, "" if it is not, or was never made."""
    if scene.pod is None:
        return "its pod was deleted" if scene.made == scene.epoch else ""
    return next(_losses(scene, scene.pod), "")


def superseded(scene: Scene) -> list[HeadPod]:
    """Return the pods of epochs before the one that the Service selects, but for those that are ending already."""
    durable = 0 if scene.service is None else services.epoch_of(scene.service)
    return [each for epoch, each in scene.pods.items() if epoch < durable and not each.metadata.deletion_timestamp]


def is_unreachable(pod: HeadPod) -> bool:
    """Whether the pod's node is out of sight: then it is not kubelet that says the pod is not ready, so its containers are, and no reason is given."""
    ready, containers = _condition(pod, "Ready"), _condition(pod, "ContainersReady")
    return ready.status == "Unknown" or (ready.status == "False" and not ready.reason and containers.status == "True")


def fact(scene: Scene, *, trouble: str, now: float, next_at: float = 0.0) -> HeadFact:
    """Return where the head stands; `trouble` is what is in the way of the next deed, which is tried again at `next_at`."""
    why = lost(scene)
    if why or scene.pod is None:
        return HeadFact(scene.epoch, HeadPhase.LOST if why else HeadPhase.MISSING, trouble or why, why, now, next_at)
    standing = phases.of(scene.pod)
    phase = _PHASES.get(standing.phase, HeadPhase.UNREADY)
    if phase is HeadPhase.UNREADY and _condition(scene.pod, "Ready").status == "True":
        phase = HeadPhase.READY
    out_of_sight = "its node is out of sight" if is_unreachable(scene.pod) else ""
    detail = standing.detail or labels.head_pod(scene.cluster, scene.epoch)
    if _is_changed(scene, scene.pod):
        detail += "; spec.head has changed since, which the next head will have: delete the pod to have that now (jobs on it end)"
    return HeadFact(scene.epoch, phase, trouble or standing.error or out_of_sight, detail, now, next_at)


_PHASES = {Phase.UNSCHEDULED: HeadPhase.UNSCHEDULED, Phase.PULLING: HeadPhase.PULLING, Phase.STARTING: HeadPhase.STARTING}


def _losses(scene: Scene, pod: HeadPod) -> Iterator[str]:
    meta, standing, disrupted = pod.metadata, phases.of(pod), _condition(pod, "DisruptionTarget")
    if meta.deletion_timestamp:
        yield f"its pod was deleted: {standing.detail}"
    if standing.phase is Phase.GONE:
        yield standing.error or standing.detail
    if disrupted.status == "True":
        yield f"{disrupted.reason}: {disrupted.message}".strip(": ")
    if scene.owner is not None and meta.owner_references and all(each.uid != scene.owner.uid for each in meta.owner_references):
        yield "it belongs to a definition that is gone"
    if meta.labels.epoch != str(scene.epoch):
        yield f"its label {labels.HEAD_EPOCH} was changed, so that its Service does not find it"
    if is_unreachable(pod) and scene.unreachable_s >= scene.patience_s:
        yield f"its node has been out of sight for {scene.patience_s:g} s"
    if _is_changed(scene, pod) and not _was_up(pod):
        yield "spec.head was changed before it was up"


def _is_changed(scene: Scene, pod: HeadPod) -> bool:
    return pod.metadata.annotations.spec_hash not in {"", scene.head_hash}


def _was_up(pod: HeadPod) -> bool:
    """Whether Ray's container has started, which by its startup probe means that its GCS has answered."""
    ray = phases.ray_status(pod)
    return ray is not None and ray.state.running is not None and ray.started is not False


def _condition(pod: HeadPod, kind: str) -> Condition:
    return next((each for each in pod.status.conditions if each.type == kind), Condition())
