"""The judge's part on replicas of several hosts: launched whole, ended whole, and where one has lost a host, of use to nobody."""

from collections import Counter, defaultdict

from rayscaler.model.instance import ENDED, InstanceStatus, Reason
from rayscaler.model.plan import Plan
from rayscaler.model.state import ClusterState

LEAVING = (InstanceStatus.DRAINING, InstanceStatus.TERMINATING)
OWN_SAKE = (Reason.MIN_WORKERS, Reason.HELD, Reason.HEADROOM)


def hosts_of(state: ClusterState, name: str) -> int:
    return next((each.hosts_per_replica for each in state.config.node_types if each.name == name), 1)


def launched(state: ClusterState, plan: Plan) -> dict[int, tuple[str, int]]:
    """Return of each launch of a type with several hosts which replica it is in: those of a type are in order, so many at a time."""
    numbers: Counter[str] = Counter()
    found = {}
    for index, launch in enumerate(plan.launches):
        hosts = hosts_of(state, launch.node_type)
        if hosts > 1:
            found[index] = (launch.node_type, numbers[launch.node_type] // hosts)
            numbers[launch.node_type] += 1
    return found


def replicas(state: ClusterState) -> dict[str, list]:
    found = defaultdict(list)
    for each in state.instances:
        if each.replica and each.status not in ENDED:
            found[each.replica].append(each)
    return found


def size(state: ClusterState, hosts: list) -> int:
    return max(each.made_as.hosts_per_replica if each.made_as else hosts_of(state, each.node_type) for each in hosts)


def _is_lost(state: ClusterState, host) -> bool:
    is_sure = state.no_end is None  # blind, the news of its death is old, and nobody is given up
    is_dead = is_sure and host.node_dead_since is not None and state.now - host.node_dead_since >= state.node_dead_grace_s
    drained = {row.ray_node_id for row in state.nodes if row.death is not None and row.death.name.startswith("DRAINED")}
    is_ending = host.ends_at is not None and host.node_dead_since is None  # a node that may be dead is waited for first
    return host.status in LEAVING or is_ending or is_dead or (is_sure and host.ray_node_id in drained)


def broken(state: ClusterState) -> set[str]:
    """Return the instances of replicas that lack a host, or have one on its way out."""
    found = set()
    for hosts in replicas(state).values():
        present = {each.host for each in hosts if not _is_lost(state, each)}
        if present != set(range(size(state, hosts))):
            found |= {each.instance_id for each in hosts}
    return found


def parted(state: ClusterState, plan: Plan) -> set[str]:
    """Return the instances of replicas of which a host goes with the plan: the others go too, now or later."""
    going = {each.instance_id for each in (*plan.drains, *plan.terminations)}
    return {each.instance_id for hosts in replicas(state).values() if any(one.instance_id in going for one in hosts) for each in hosts}


def parts(state: ClusterState, plan: Plan) -> list[str]:
    return [*_launched_parts(state, plan), *_ended_parts(state, plan)]


def _launched_parts(state: ClusterState, plan: Plan) -> list[str]:
    found = launched(state, plan)
    counts, useful = Counter(found.values()), set()
    for index, replica in found.items():
        if plan.launches[index].reserves or plan.launches[index].reason in OWN_SAKE:
            useful.add(replica)
    wrong = [f"{count} of {replica} are launched" for replica, count in counts.items() if count != hosts_of(state, replica[0])]
    wrong += [f"{replica} is launched for nothing" for replica in counts if replica not in useful]
    alone = [each for index, each in enumerate(plan.launches) if each.reason is Reason.REPLICA and index not in found]
    return [*wrong, *(f"{each} is the rest of nothing" for each in alone)]


def _ended_parts(state: ClusterState, plan: Plan) -> list[str]:
    """What was whole goes whole or stays whole; what was broken goes, but for those whose turn comes later."""
    wrong = []
    ended = {each.instance_id: each.reason for each in (*plan.drains, *plan.terminations)}
    lost = broken(state)
    for replica, hosts in replicas(state).items():
        staying = [each for each in hosts if each.instance_id not in ended and not _is_lost(state, each)]
        goes = [each for each in hosts if each.instance_id in ended]
        is_broken = any(each.instance_id in lost for each in hosts)
        late = [each for each in staying if _comes_later(state, each)]
        undecided = [each for each in hosts if each.status is InstanceStatus.DRAINING and not each.drain_accepted]
        if goes and len(late) < len(staying):
            wrong.append(f"of {replica} go {[each.instance_id for each in goes]}, and not {[each.instance_id for each in staying]}")
        if is_broken and state.no_end is None and len(late) < len(staying) and not undecided:
            wrong.append(f"{replica} is broken, and {[each.instance_id for each in staying]} stay")
        soft = {Reason.IDLE, Reason.UNNEEDED, Reason.CONSOLIDATED, Reason.MAX_WORKERS}
        if is_broken and {ended[each.instance_id] for each in goes} & soft:
            wrong.append(f"{replica} is broken, and ends for another reason")
    whole = {each.instance_id for hosts in replicas(state).values() for each in hosts} - lost
    for name, reason in ended.items():
        if reason is Reason.REPLICA_BROKEN and name in whole and not _loses_one(state, ended, name):
            wrong.append(f"{name} goes for its replica, which is whole")
    return wrong


def _loses_one(state: ClusterState, ended: dict, name: str) -> bool:
    mates = next(hosts for hosts in replicas(state).values() if any(each.instance_id == name for each in hosts))
    return any(ended.get(each.instance_id, Reason.REPLICA_BROKEN) is not Reason.REPLICA_BROKEN for each in mates)


def _comes_later(state: ClusterState, host) -> bool:
    """Whether a host of a broken replica is left for now: it is dead, on its way back, or Ray has just refused its drain."""
    is_joined = host.status is InstanceStatus.RUNNING
    return host.node_dead_since is not None or host.status is InstanceStatus.REJOINING or (is_joined and host.drain_not_before > state.now)
