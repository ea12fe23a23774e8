"""What each Reason means to people, and who must move for it to pass: one text each, here and nowhere else."""

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from rayscaler.model.instance import Reason
from rayscaler.model.nodetype import UpdatePolicy


class Mover(StrEnum):
    """Whose move it is. NOBODY: it passes by itself, or rayscaler is on it."""

    NOBODY = "nobody"
    USER = "user"
    OPERATOR = "operator"
    WORLD = "world"


MOVERS: Mapping[Mover, str] = {
    Mover.NOBODY: "nobody: it passes by itself, or rayscaler is on it",
    Mover.USER: "the user of the job: ask for something else, or take it back",
    Mover.OPERATOR: "the operator: change the definition, or mend what is broken",
    Mover.WORLD: "the world: capacity, quota, images or machines",
}
"""Who that is and what they can do."""


class Meaning(NamedTuple):
    """A reason in words, and who must move."""

    text: str
    mover: Mover


MEANINGS: Mapping[Reason, Meaning] = {
    Reason.DEMAND: Meaning("tasks or actors that wait need it", Mover.NOBODY),
    Reason.GANG: Meaning("a placement group that waits needs it", Mover.NOBODY),
    Reason.CONSTRAINT: Meaning(
        "request_resources() asked for its room, until that is taken back or all jobs of that time have ended", Mover.USER
    ),
    Reason.MIN_WORKERS: Meaning("its node type's minWorkers keeps it", Mover.OPERATOR),
    Reason.HELD: Meaning("the head was lost, and as many workers as it had are kept for the idle timeout", Mover.NOBODY),
    Reason.HEADROOM: Meaning("its node type's headroom keeps it ready for what comes", Mover.OPERATOR),
    Reason.REPLACES: Meaning("work runs on a node that somebody else is about to end, and will need another", Mover.NOBODY),
    Reason.REPLICA: Meaning("it is a host of a replica, whose hosts come and go together, and others of them are needed", Mover.NOBODY),
    Reason.IDLE: Meaning("it was idle for its timeout and nothing needed it", Mover.NOBODY),
    Reason.CONSOLIDATED: Meaning("other nodes could have done all its work for an idle timeout; it goes at an idle moment", Mover.NOBODY),
    Reason.UNNEEDED: Meaning("nothing needs this launch any more; it is called off", Mover.NOBODY),
    Reason.MAX_WORKERS: Meaning("the cluster's maxWorkers is reached", Mover.OPERATOR),
    Reason.MAX_WORKERS_OF_TYPE: Meaning("the node type's maxWorkers is reached", Mover.OPERATOR),
    Reason.TYPE_REMOVED: Meaning("the definition has its node type no more; it goes when its work is done", Mover.NOBODY),
    Reason.OUTDATED: Meaning("its node type has changed since it was launched; it goes as the type's updatePolicy says", Mover.NOBODY),
    Reason.OVERDUE: Meaning("it did not join in time", Mover.WORLD),
    Reason.NOT_REJOINED: Meaning("it did not join the new head in time", Mover.WORLD),
    Reason.CANNOT_START: Meaning("it can never start as it is asked for; its node type waits", Mover.OPERATOR),
    Reason.MAKES_WAY: Meaning(
        "it does not get on, and another node type can have its place below maxWorkers, spendLimit or maxConcurrentLaunches", Mover.NOBODY
    ),
    Reason.REPLICA_BROKEN: Meaning(
        "its replica has lost a host; it goes when its work is done, and a whole replica takes its place if it is needed", Mover.NOBODY
    ),
    Reason.PREEMPTED: Meaning("somebody else is about to end it; it is drained before that, and replaced if it is needed", Mover.WORLD),
    Reason.DRAINED: Meaning("its node has ended after its drain", Mover.NOBODY),
    Reason.NODE_DIED: Meaning("its node died undrained; it is ended, and replaced if it is needed", Mover.NOBODY),
    Reason.UPSCALING_SPEED: Meaning("as many launches of the type are on their way as upscalingSpeed allows", Mover.NOBODY),
    Reason.MAX_CONCURRENT_LAUNCHES: Meaning(
        "as many launches are on their way as the cluster's maxConcurrentLaunches allows", Mover.NOBODY
    ),
    Reason.MAX_CONCURRENT_LAUNCHES_OF_TYPE: Meaning(
        "as many launches of the node type are on their way as its maxConcurrentLaunches allows", Mover.NOBODY
    ),
    Reason.MAX_LAUNCHES_PER_MINUTE: Meaning(
        "as many launches were begun in 60 s as the cluster's maxLaunchesPerMinute allows", Mover.NOBODY
    ),
    Reason.MAX_LAUNCHES_PER_MINUTE_OF_TYPE: Meaning(
        "as many launches of the node type were begun in 60 s as its maxLaunchesPerMinute allows", Mover.NOBODY
    ),
    Reason.SPEND_LIMIT: Meaning("another node would cost more per hour than the cluster's spendLimit leaves", Mover.OPERATOR),
    Reason.BACKED_OFF: Meaning("launches of the node type failed lately; it is tried again after a pause, a few at a time", Mover.WORLD),
    Reason.NO_ROOM: Meaning("only nodes that are there can hold it, and they are full", Mover.USER),
    Reason.NODES_SMALLER: Meaning("a node type would hold it as defined, but its nodes join with less", Mover.OPERATOR),
    Reason.BUNDLE_ORDER: Meaning("it would fit in another order of its bundles, in which Ray gives out parts of devices", Mover.USER),
    Reason.PACKED_BY_SUM: Meaning(
        "Ray would send a node more parts of devices than its devices hold, since it packs by their sum", Mover.USER
    ),
    Reason.NO_TYPE_FITS: Meaning("no node type is big enough, even when empty", Mover.OPERATOR),
    Reason.NO_TYPE_HAS_LABELS: Meaning("no node type that is big enough has the labels asked for", Mover.OPERATOR),
    Reason.ONLY_EXISTING_NODES: Meaning("it asks for something that only existing nodes have, and none of them is big enough", Mover.USER),
    Reason.LAUNCHING: Meaning("a node is on its way", Mover.NOBODY),
    Reason.PLACED: Meaning("nodes that are there have room for it; Ray places it", Mover.NOBODY),
    Reason.COUNT_UNSURE: Meaning("Ray may count work twice while it lands; a higher count is believed once it lasts", Mover.NOBODY),
    Reason.NOBODY_WAITS: Meaning("the job that asked for it has ended; Ray still shows it", Mover.NOBODY),
    Reason.RECORD_UNWRITTEN: Meaning("the cluster's record cannot be written, and without it nothing is launched", Mover.OPERATOR),
    Reason.BUSY: Meaning("work is on its node", Mover.NOBODY),
    Reason.WAITING_IDLE: Meaning("its node is idle and not needed; it is drained after the idle timeout", Mover.NOBODY),
    Reason.NOT_SHOWN: Meaning("Ray does not show its node now; absence alone ends nothing", Mover.NOBODY),
    Reason.OTHERS_DRAIN: Meaning("somebody else drains its node; it is ended once the node is gone", Mover.NOBODY),
    Reason.HEAD_NODE: Meaning("the head itself is not planned", Mover.NOBODY),
    Reason.NOT_OURS: Meaning("rayscaler did not launch this node and does not end it", Mover.NOBODY),
    Reason.READY: Meaning("nodes of the type are launched when something needs them", Mover.NOBODY),
    Reason.GROWING: Meaning("it grows in place for what waits, which spares a launch", Mover.NOBODY),
    Reason.GROWN: Meaning("it has grown in place", Mover.NOBODY),
    Reason.NOT_GROWN: Meaning("it could not grow in place; it is not asked again for a while, and nodes are launched instead", Mover.WORLD),
    Reason.JOINED: Meaning("its node has joined", Mover.NOBODY),
    Reason.HEAD_LOST: Meaning("its head was lost; it is on its way to the new one", Mover.NOBODY),
    Reason.ALLOCATED: Meaning("the executor has it", Mover.NOBODY),
    Reason.DRAIN_REFUSED: Meaning("Ray refused its drain just now, as work had come; it is asked again after a pause", Mover.NOBODY),
    Reason.EXITED: Meaning("it ended by itself", Mover.WORLD),
    Reason.LAUNCH_ERROR: Meaning("the executor could not launch it", Mover.WORLD),
    Reason.NO_CAPACITY: Meaning("there is no quota or no capacity for it now; its node type waits", Mover.WORLD),
    Reason.STUCK: Meaning("it does not get on; it counts for nothing until it does, and other node types are used meanwhile", Mover.WORLD),
    Reason.DISAPPEARED: Meaning("the executor has it no more", Mover.WORLD),
    Reason.NO_REPORT: Meaning("the head's monitor has not reported yet; nothing is launched or ended without sight", Mover.OPERATOR),
    Reason.REPORT_TOO_OLD: Meaning("the head's monitor is silent; nothing is launched or ended without sight", Mover.OPERATOR),
    Reason.NO_FIRST_LIST: Meaning("the executor has not said yet what it runs; nothing is launched or ended before", Mover.NOBODY),
    Reason.SETTLING: Meaning(
        "reports have just begun, and the first may lack nodes; nothing is ended until they have settled", Mover.NOBODY
    ),
    Reason.GCS_UNREADABLE: Meaning("the monitor cannot read the head's GCS; nothing is launched or ended without sight", Mover.OPERATOR),
    Reason.EXECUTOR_SILENT: Meaning("the executor does not answer; nothing is launched or ended without sight", Mover.OPERATOR),
    Reason.EXECUTOR_BROKEN: Meaning(
        "the executor contradicts itself or breaks its protocol, and is not believed; nothing is launched or ended without sight",
        Mover.OPERATOR,
    ),
    Reason.DEFINITION_WITHHELD: Meaning(
        "whether the definition still stands cannot be told; nothing is launched or ended until it can", Mover.OPERATOR
    ),
}


OUTDATED: Mapping[UpdatePolicy, str] = {
    UpdatePolicy.ON_DELETE: "outdated, stays until it ends for another reason",
    UpdatePolicy.ROLLING: "outdated, goes when idle",
    UpdatePolicy.RECREATE: "outdated, goes when its work is done",
}
"""What is said of a node that its type would now launch with another make."""


def reason_text(reason: Reason) -> str:
    """Return the one text of a reason."""
    return MEANINGS[reason].text


def mover(reason: Reason) -> Mover:
    """Return who must move for the reason to pass."""
    return MEANINGS[reason].mover
