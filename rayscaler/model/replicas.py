"""Replicas: hosts of one node type that come and go together. What makes one whole, and which launches of a plan are one."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from rayscaler.model.instance import Instance
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.model.plan import Launch


class Place(NamedTuple):
    """Where a launch stands in its plan. `number` tells it from others of its type; `replica` counts those of the type, None where a replica is one host."""

    number: int
    replica: int | None = None
    host: int = 0


def places(launches: Iterable[Launch], config: ClusterConfig) -> Iterator[Place]:
    """Yield the place of each launch of a plan. Those of a type with several hosts are numbered through, so that a number tells replica and host."""
    counts: Counter[str] = Counter()
    for index, launch in enumerate(launches):
        if hosts_of(config, launch.node_type) > 1:
            yield place_of(counts[launch.node_type], hosts_of(config, launch.node_type))
            counts[launch.node_type] += 1
        else:
            yield Place(index)


def place_of(number: int, hosts: int) -> Place:
    """Return the place that a number means, for a type whose replicas have so many hosts."""
    return Place(number, number // hosts, number % hosts) if hosts > 1 else Place(number)


def hosts_of(config: ClusterConfig, node_type: str) -> int:
    """Return how many hosts a replica of that type has by the definition; one where the definition has no such type."""
    found = config.node_type(node_type)
    return 1 if found is None else found.hosts_per_replica


def size(config: ClusterConfig, instance: Instance) -> int:
    """Return how many hosts the instance's replica has when it is whole: as it was launched, whatever the definition says since."""
    if not instance.replica:
        return 1
    return hosts_of(config, instance.node_type) if instance.made_as is None else instance.made_as.hosts_per_replica


def lacking(config: ClusterConfig, hosts: Iterable[Instance]) -> list[int]:
    """Return which hosts of their replica these instances leave out."""
    present = {each.host for each in hosts}
    most = max((size(config, each) for each in hosts), default=0)
    return [host for host in range(most) if host not in present]


def units(instances: Iterable[Instance]) -> list[tuple[Instance, ...]]:
    """Return what of these instances comes and goes together, in the order of the first of each: replicas, and all others by themselves."""
    found: list[list[Instance]] = []
    begun: dict[str, list[Instance]] = {}
    for each in instances:
        if each.replica in begun:
            begun[each.replica].append(each)
            continue
        found.append([each])
        if each.replica:
            begun[each.replica] = found[-1]
    return [tuple(each) for each in found]
