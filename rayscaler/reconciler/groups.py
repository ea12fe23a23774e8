"""Which instances are to be had all or none, for a gang scheduler that binds them so: pure.

Launches of a plan that serve the same gangs, or gangs that share a launch, are one group; so are the hosts of a replica. What replaces a
lost one joins the group of the others. All else has no group and is scheduled alone.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from rayscaler.model.demand import Gang
from rayscaler.model.instance import ENDED, Instance, InstanceStatus, Reason
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.model.plan import Infeasible, Plan
from rayscaler.model.scheduling import GangScheduler, Membership, WantedGroup


class Joining(NamedTuple):
    """A launch, as far as groups go: the gangs that it serves, and the replica that it is a host of."""

    gangs: tuple[str, ...]
    replica: str


def joining(plan: Plan, replicas: Iterable[str], instances: Mapping[str, Instance]) -> list[Joining]:
    """Return the launches of a plan, each with the replica that it is of; what replaces an instance that is about to end is for that one's gangs."""
    ending = [instances[each.instance_id] for each in plan.drains if each.is_preemption and each.instance_id in instances]
    found = []
    for launch, replica in zip(plan.launches, replicas, strict=True):
        gangs: Collection[str] = launch.gangs
        if launch.reason is Reason.REPLACES and ending and not gangs:
            alike = next((each for each in ending if each.node_type == launch.node_type), ending[0])
            ending.remove(alike)
            gangs = _gangs(alike)
        found.append(Joining(tuple(gangs), replica))
    return found


def memberships(launches: Sequence[Joining], config: ClusterConfig, batch: int, there: Iterable[Instance]) -> list[Membership | None]:
    """Return what each launch of a plan is launched as."""
    scheduling = config.gang_scheduling
    if scheduling is None:
        return [None] * len(launches)
    open_groups = _open_groups(there, scheduling.scheduler)
    names: dict[int, str] = {}
    for number, component in enumerate(_components(launches)):
        gangs = {gang for index in component for gang in launches[index].gangs}
        known = sorted(group for group, its_gangs in open_groups.items() if gangs & its_gangs)
        names |= dict.fromkeys(component, known[0] if known else f"{config.name}-g{batch}-{number}")
    return [Membership(scheduling.scheduler, names.get(index, ""), each.gangs) for index, each in enumerate(launches)]


def wanted(
    config: ClusterConfig, instances: Iterable[Instance], pending: Iterable[Infeasible] | None
) -> dict[GangScheduler, list[WantedGroup]]:
    """Return the groups as they are to be, by scheduler; `pending` None: nobody knows which gangs have no place yet.

    A group has as many as exist or are being made and are not being ended. One that gets on no more, or that others are about to end, counts only
    where no other does: what is launched in its place joins the same group. While one of its gangs has no place in the plan the group gets no smaller: it would be bound in part.
    """
    waiting = None if pending is None else {each.what.gang_id for each in pending if isinstance(each.what, Gang)}
    members: dict[tuple[GangScheduler, str], list[Instance]] = {}
    for each in instances:
        if (joint := each.membership) is not None and joint.group and _counts(each):
            members.setdefault((joint.scheduler, joint.group), []).append(each)
    scheduling = config.gang_scheduling
    found: dict[GangScheduler, list[WantedGroup]] = {} if scheduling is None else {scheduling.scheduler: []}
    for (scheduler, name), its in sorted(members.items()):
        size = sum(each.stuck_since is None and each.ends_at is None for each in its) or len(its)
        may_shrink = waiting is not None and waiting.isdisjoint(gang for each in its for gang in _gangs(each))
        queue = scheduling.queue if scheduling is not None and scheduling.scheduler is scheduler else ""
        found.setdefault(scheduler, []).append(WantedGroup(name, size, may_shrink, queue))
    return found


def _counts(instance: Instance) -> bool:
    return instance.status not in ENDED and instance.status is not InstanceStatus.TERMINATING


def _gangs(instance: Instance) -> Collection[str]:
    return () if instance.membership is None else instance.membership.gangs


def _open_groups(there: Iterable[Instance], scheduler: GangScheduler) -> dict[str, set[str]]:
    """Return the groups that can be joined, with the gangs of those in it that get on."""
    found: dict[str, set[str]] = {}
    for each in there:
        joint = each.membership
        if joint is not None and joint.group and joint.scheduler is scheduler and _counts(each) and each.stuck_since is None:
            found.setdefault(joint.group, set()).update(joint.gangs)
    return found


def _components(launches: Sequence[Joining]) -> Iterator[list[int]]:
    """Yield the launches that hang together, by their indices, in the order of the first of each; those that hang on nothing are left out."""
    of_key: dict[tuple[str, str], int] = {}
    root = list(range(len(launches)))

    def find(index: int) -> int:
        while root[index] != index:
            root[index] = index = root[root[index]]
        return index

    for index, each in enumerate(launches):
        keys = [("gang", gang) for gang in each.gangs] + ([("replica", each.replica)] if each.replica else [])
        for key in keys:
            one, other = find(of_key.setdefault(key, index)), find(index)
            root[max(one, other)] = min(one, other)
    found: dict[int, list[int]] = {}
    for index, each in enumerate(launches):
        if each.gangs or each.replica:
            found.setdefault(find(index), []).append(index)
    yield from found.values()
