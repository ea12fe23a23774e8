"""Replicas that have lost a host: what is left of them goes, each node with its work, and is neither capacity nor part of a minimum.

A replica's work needs all of its hosts, so one lost host is a lost replica. A whole new one is planned for like anything else.
"""

from rayscaler.model import replicas
from rayscaler.model.instance import Instance, InstanceStatus, Reason
from rayscaler.planner import shrink
from rayscaler.planner.sim import Draft

NAMED = 3
"""Hosts named in one sentence; the rest is a number."""


def let_go(draft: Draft) -> None:
    """End launches of broken replicas and drain their nodes, so that work there ends by itself. Blind, they only count for nothing."""
    known = [each for each in draft.instances if each.replica]
    for hosts in replicas.units(known):
        staying = [each for each in hosts if each.instance_id not in draft.leaving]
        lost = replicas.lacking(draft.state.config, staying) if staying else []
        if not lost:
            continue
        is_sure = not {each.host for each in hosts if _is_undecided(each)}.issuperset(lost)
        for each in staying:
            _let_go(draft, each, _text(each.replica, lost), is_sure=is_sure)


def _is_undecided(instance: Instance) -> bool:
    """Whether Ray may still refuse the drain: then the node stays, and the replica is whole."""
    return instance.status is InstanceStatus.DRAINING and not instance.drain_accepted and instance.node_dead_since is None


def _let_go(draft: Draft, instance: Instance, text: str, *, is_sure: bool) -> None:
    is_gone = instance.node_dead_since is not None
    is_late = not instance.is_in_flight and instance.drain_not_before > draft.state.now
    if is_sure and not is_gone and not is_late and draft.state.no_end is None and instance.status is not InstanceStatus.REJOINING:
        shrink.end_or_drain(draft, instance, Reason.REPLICA_BROKEN, text, is_idle_enough=False)
    else:
        draft.leave(instance)


def _text(replica: str, lost: list[int]) -> str:
    more = f" and {len(lost) - NAMED} more" if len(lost) > NAMED else ""
    return f"replica {replica} has lost {'host' if len(lost) == 1 else 'hosts'} {', '.join(map(str, lost[:NAMED]))}{more}"
