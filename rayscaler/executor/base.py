"""The executor port: what every executor promises. The conformance suite in `rayscaler/testing` checks it.

Promises: every call may be repeated at any time with the same effect as once; nothing blocks for the life of an instance;
`list` tells the whole truth about this cluster's instances, also after a restart of rayscaler; `watch` tells each change
after it, and may repeat. Errors are those of `rayscaler.errors`; anything else is a bug.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from rayscaler.model.instance import InstanceObservation
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.model.scheduling import GangScheduler, Membership, WantedGroup
from rayscaler.throttle import Pace


@dataclass(frozen=True)
class LaunchSpec:
    """What to launch. `instance_id` is ours and the idempotency key; `head_address` is the GCS's host:port.

    `replica` is the same for all hosts that come and go together, and `host` counts them from 0; "" where a replica has one host.
    `membership` says who schedules it, and in which group; None where nobody in particular does.
    """

    cluster: str
    instance_id: str
    node_type: NodeType
    head_address: str
    replica: str = ""
    host: int = 0
    membership: Membership | None = None


class Executor(Protocol):
    """Carries out launches and terminations.

    Whoever calls `launch` or `terminate` takes a turn of `pace` for the cluster first and holds it through the call. So the executor says how
    many calls it bears, and the wait for a turn, long as it may be where thousands are launched, is no part of a call's deadline.
    """

    @property
    def pace(self) -> Pace:
        """Gives turns for calls."""
        ...

    async def launch(self, spec: LaunchSpec) -> str:
        """Begin an instance; return the executor's own id for it once it is sure to be listed.

        The same spec again is success; another spec under a known instance_id raises Conflict. Raises InsufficientCapacity,
        Denied, Unavailable, InvalidRequest.
        """
        ...

    async def terminate(self, cluster: str, instance_id: str) -> None:
        """Begin the end of an instance: ask, wait, force, in the background. An unknown one is success."""
        ...

    async def resize(self, cluster: str, instance_id: str, resources: Resources) -> None:
        """Begin to let an instance bring `resources` in all, in place; its observations tell from then on that it is asked to, and what it brings.

        Raises Unsupported where that cannot be done, now or ever; NotFound, InvalidRequest, InsufficientCapacity, Denied, Unavailable.
        """
        ...

    async def group(self, cluster: str, scheduler: GangScheduler, groups: Sequence[WantedGroup]) -> None:
        """Have just these groups with that scheduler, each of its size, for instances that say they are of them; they exist once this returns.

        Raises Unsupported where instances cannot be grouped; Conflict, Denied, Unavailable, Busy.
        """
        ...

    async def list(self, cluster: str) -> list[InstanceObservation]:
        """Tell every instance of the cluster that is not gone. Raises Unavailable rather than tell a part."""
        ...

    def watch(self, cluster: str) -> AsyncIterator[InstanceObservation]:
        """Yield an observation at each change of phase, GONE included, from the call on; ends only with an error."""
        ...

    async def close(self) -> None:
        """Let go of everything but the instances, which live on."""
        ...
