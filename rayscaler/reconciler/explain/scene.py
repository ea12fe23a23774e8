"""What an explanation is read from: a cycle's memory and plan after its acts, and what was said before."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from rayscaler.lifecycle.deadlines import Deadlines
from rayscaler.model.demand import Snapshot
from rayscaler.model.explanation import Because, Explanation
from rayscaler.model.instance import Reason
from rayscaler.model.plan import Plan
from rayscaler.model.state import ClusterState
from rayscaler.reconciler.memory import Memory
from rayscaler.reconciler.state import deadlines, settled_at

Key = tuple[object, ...]
"""Of what is explained: its kind, then what names it."""


@dataclass(frozen=True)
class Scene:
    """One cycle, looked at when it was over. `retry_at` is set when nothing of the plan was done, since the record could not be written."""

    memory: Memory
    plan: Plan
    state: ClusterState
    limits: Deadlines
    before: Mapping[Key, Because]
    retry_at: float | None = None

    @property
    def snapshot(self) -> Snapshot:
        """What Ray showed last."""
        return self.memory.snapshot or Snapshot()

    @cached_property
    def unneeded(self) -> frozenset[str]:
        """Launches that nothing needs: of ten thousand that wait, each is looked for."""
        return frozenset(self.plan.unneeded)

    @property
    def settled_at(self) -> float:
        """Wall second from which something may be ended, while reports settle."""
        return settled_at(self.memory)

    def because(self, key: Key, reason: Reason, detail: str, *, since: float | None = None, until: float | None = None) -> Because:
        """Return the reason; where no fact says since when, it is since this reason was first given for `key`."""
        if since is None:
            last = self.before.get(key)
            since = last.since if last is not None and last.reason is reason else self.state.now
        return Because(reason, detail, since, None if until is None or math.isinf(until) else until)

    def blind(self, key: Key, reason: Reason) -> Because:
        """Return the reason while nothing is decided for want of sight."""
        until = self.settled_at if reason is Reason.SETTLING else None
        return self.because(key, reason, "nothing is launched or ended meanwhile", until=until)


def look(memory: Memory, state: ClusterState, plan: Plan, retry_at: float | None = None) -> Scene:
    """Return the scene of a cycle that decided `plan` for `state`."""
    after = replace(state, instances=tuple(memory.live()), backoffs=tuple(memory.backoffs.values()))
    return Scene(memory, plan, after, deadlines(memory), _before(memory.explanation), retry_at)


def _before(last: Explanation | None) -> dict[Key, Because]:
    """Return what was said last by what it was said of: as much as there is now, so it cannot grow."""
    if last is None:
        return {}
    found: dict[Key, Because] = {shape_key(each.kind, each.bundle or each.gang_id): each.because for each in last.shapes}
    found.update((node_key(each.instance_id, each.ray_node_id), each.because) for each in last.nodes)
    found.update((type_key(each.name), each.because) for each in last.node_types)
    return found


def shape_key(kind: str, what: object) -> Key:
    """Return the key of a shape."""
    return ("shape", kind, what)


def node_key(instance_id: str, ray_node_id: str) -> Key:
    """Return the key of an instance, or of a node that is none of ours."""
    return ("node", instance_id or ray_node_id)


def type_key(name: str) -> Key:
    """Return the key of a node type."""
    return ("type", name)
