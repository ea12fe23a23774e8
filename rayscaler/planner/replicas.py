"""Whole replicas only: how a count of nodes becomes a count of hosts, and in which parts nodes of a type are ready.

Owns the rounding rule. Knows no limit and no demand.
"""

from collections import Counter
from collections.abc import Iterable

from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import MANY
from rayscaler.planner.sim import Draft


def whole(node_type: NodeType, room: int) -> int:
    """Return how many of `room` nodes are of whole replicas: what a hard limit leaves."""
    return room if room >= MANY else room - room % node_type.hosts_per_replica


def begun(node_type: NodeType, room: int) -> int:
    """Return how many nodes are of replicas that `room` nodes begin: what a limit leaves that only holds launches up."""
    return room if room >= MANY else room + -room % node_type.hosts_per_replica


def at_once(node_type: NodeType, count: int) -> int:
    """Return how many of `count` needed nodes to launch before it is asked again which type is best: what fills whole replicas, else all."""
    return whole(node_type, count) or count


def of_replica(node_type: NodeType) -> str:
    """Return the end of a sentence on a limit, for a type whose replicas have several hosts."""
    return f", and a replica of {node_type.name} has {node_type.hosts_per_replica} hosts" if node_type.hosts_per_replica > 1 else ""


def in_whole(draft: Draft, node_type: NodeType, members: Iterable[str | int]) -> int:
    """Return how many of these nodes are of replicas that are all among them; `members` as those of runs."""
    hosts = node_type.hosts_per_replica
    if hosts == 1:
        return len(list(members))
    of_name = {each.instance_id: each.replica for each in draft.instances if each.node_type == node_type.name}
    launched = [index for index, each in enumerate(draft.launching) if each.node_type == node_type.name]
    of_index = {index: number // hosts for number, index in enumerate(launched)}
    counts = Counter(of_name.get(each, "") if isinstance(each, str) else of_index[each] for each in members)
    return sum(count for replica, count in counts.items() if replica != "" and count == hosts)
