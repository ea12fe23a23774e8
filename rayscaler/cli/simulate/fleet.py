"""What a simulated cluster has: launches, nodes and what they were launched for. Shows it as the planner's state, and carries plans out.

Owns no time: each call is told the second. Nodes tell of themselves at once, so that what runs and what waits are never counted twice.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import count

from rayscaler.cli.simulate.log import Log
from rayscaler.cli.simulate.nodes import Node, Taken
from rayscaler.model.demand import Bundle, Demand
from rayscaler.model.instance import Instance, InstanceStatus, Reason
from rayscaler.model.nodetype import NEVER, ClusterConfig
from rayscaler.model.plan import Launch, Plan
from rayscaler.model.replicas import places
from rayscaler.model.state import MINUTE_S, ClusterState, Expectation
from rayscaler.reconciler import begun, peaks
from rayscaler.reconciler.state import LATE_S

HEAD = "head"
"""What the head's node is called."""


@dataclass(frozen=True)
class Assumed:
    """What is assumed of the world, in seconds: from a launch to its node by type, from a change to the plan for it.

    `unneeded_grace_s` is for how long the service keeps a launch that nothing needs.
    """

    start_up_s: Mapping[str, float]
    reaction_s: float
    unneeded_grace_s: float


class Fleet:
    """The nodes and launches of one simulation; notes in `log` what it does."""

    def __init__(self, config: ClusterConfig, assumed: Assumed, log: Log, now: float) -> None:
        self.nodes: dict[str, Node] = {}
        self.used: Counter[str] = Counter()
        self.total: Counter[str] = Counter()
        self.cost_per_hour = 0.0
        self._config, self._assumed, self._log = config, assumed, log
        self._instances: dict[str, Instance] = {}
        self._expectations: dict[str, Expectation] = {}
        self._unneeded_since: dict[str, float] = {}
        self._begun: begun.Known = ()
        self._peaks: peaks.Known = {}
        self._sparing_since: dict[str, float] = {}
        self._number, self._batch = count(), count()
        self._costs = {each.name: each.cost or 0.0 for each in config.node_types}
        if config.head.resources:
            self.nodes[HEAD] = Node(HEAD, HEAD, config.head.resources, {}, next(self._number), now, is_head=True, units=config.device_names)

    @property
    def starting(self) -> int:
        """How many launches have not joined yet."""
        return len(self._expectations)

    @property
    def joined(self) -> int:
        """How many workers have joined and are not gone."""
        return len(self._instances) - self.starting

    def state(self, now: float, demands: tuple[Demand, ...]) -> ClusterState:
        """Return what the planner is asked."""
        nodes = tuple(node.row(now) for node in self.nodes.values())
        self._peaks = peaks.follow(self._peaks, self._config, nodes, now)
        return ClusterState(
            now=now,
            config=self._config,
            instances=tuple(self._instances.values()),
            nodes=nodes,
            demands=demands,
            expectations=tuple(self._expectations.values()),
            unneeded_since=tuple(self._unneeded_since.items()),
            begun=begun.current(self._begun, now),
            busiest=peaks.whole(self._peaks),
            unneeded_grace_s=self._assumed.unneeded_grace_s,
        )

    def carry_out(self, plan: Plan, now: float) -> Iterator[tuple[float, str]]:
        """Do what the plan says; yields when which launch joins. Ends come first: their places may be what is launched into."""
        self._unneeded_since = {name: self._unneeded_since.get(name, now) for name in plan.unneeded}
        for end in plan.terminations:
            self._remove(end.instance_id, end.reason, now)
        for each in plan.drains:
            node = self.nodes[each.instance_id]
            node.is_draining = True
            self._instances[node.name] = replace(
                self._instances[node.name], status=InstanceStatus.DRAINING, since=now, drain_accepted=True, reason=each.reason
            )
            self.end_if_drained(node, now)
        if any(each.reason is Reason.CONSOLIDATED for each in plan.drains):
            self._peaks = {}
        self._grow(plan)
        self._begun = begun.after(self._begun, self._config, [each.node_type for each in plan.launches], now)
        batch = next(self._batch)
        for place, launch in zip(places(plan.launches, self._config), plan.launches, strict=True):
            replica = "" if place.replica is None else f"{launch.node_type}-{batch}-r{place.replica}"
            yield self._launch(launch, replica, place.host, now)

    def _grow(self, plan: Plan) -> None:
        """Let nodes grow, all of them and at once: how long that takes, and whether the machine has room, is not simulated."""
        for each in plan.growths:
            node = self.nodes[each.instance_id]
            self.total.subtract(node.total.amounts)
            node.grow(each.resources)
            self.total.update(node.total.amounts)

    def _launch(self, launch: Launch, replica: str, host: int, now: float) -> tuple[float, str]:
        name = f"{launch.node_type}-{next(self._number):06}"
        made_as = self._config.node_type(launch.node_type)
        joins_at = now + self._assumed.start_up_s[launch.node_type]
        self._instances[name] = Instance(
            name,
            launch.node_type,
            InstanceStatus.REQUESTED,
            now,
            requested_at=now,
            phase_since=now,
            reason=launch.reason,
            made_as=made_as,
            replica=replica,
            host=host,
        )
        self._expectations[name] = Expectation(name, launch.node_type, joins_at, launch.reserves, launch.gangs)
        self.cost_per_hour += self._costs[launch.node_type]
        self._log.launch(launch.node_type, launch.reason, now)
        return joins_at, name

    def join(self, name: str, now: float) -> Node | None:
        """Let a launch join; None where it has been called off."""
        instance = self._instances.get(name)
        if instance is None or instance.made_as is None:
            return None
        del self._expectations[name]
        self._unneeded_since.pop(name, None)
        self._instances[name] = replace(instance, status=InstanceStatus.RUNNING, since=now, ray_node_id=name)
        made_as = instance.made_as
        node = self.nodes[name] = Node(
            name, made_as.name, made_as.resources, made_as.node_labels(), next(self._number), now, units=self._config.device_names
        )
        self.total.update(node.total.amounts)
        return node

    def started(self, node: Node, bundle: Bundle, now: float) -> None:
        """Count in what has begun to run on a node."""
        if not node.is_head:
            self.used.update(bundle.resources.amounts)
            self._reckon(node, now)

    def finish(self, node: Node, taken: Taken, now: float) -> None:
        """End a task."""
        node.give(taken, now)
        if not node.is_head:
            self.used.subtract(taken[0].resources.amounts)
            self._reckon(node, now)
            self.end_if_drained(node, now)

    def _reckon(self, node: Node, now: float) -> None:
        """Follow for how long a node's accelerators lie idle below the work that it has."""
        if node.spares_devices:
            self._sparing_since.setdefault(node.name, now)
        elif (since := self._sparing_since.pop(node.name, None)) is not None:
            self._log.spared_s[node.node_type] += now - since

    def end_if_drained(self, node: Node, now: float) -> None:
        """End a drained node as soon as nothing runs on it."""
        if node.is_draining and not node.running:
            self._remove(node.name, self._instances[node.name].reason, now)

    def _remove(self, name: str, reason: Reason, now: float) -> None:
        instance = self._instances.pop(name)
        self.cost_per_hour -= self._costs[instance.node_type]
        node = self.nodes.pop(name, None)
        if node is None:
            joins_at = self._expectations.pop(name).until
            self._log.call_off(instance.node_type, reason, instance.requested_at, now, joins_at)
            return
        self.total.subtract(node.total.amounts)
        self._log.end(instance.node_type, reason, instance.requested_at, now)

    def next_due(self, now: float) -> float | None:
        """Return the second at which time alone may change the plan: an idle timeout, the grace of a launch that nothing needs, a minute that is over."""
        moments = [
            node.idle_since + self._config.idle_timeout_of(node.node_type)
            for node in self.nodes.values()
            if not (node.running or node.is_head or node.is_draining)
        ]
        moments += [since + self._assumed.unneeded_grace_s for since in self._unneeded_since.values()]
        moments += [each.at + MINUTE_S for each in self._begun]
        return min((at + LATE_S for at in moments if now < at + LATE_S < NEVER), default=None)

    def close(self, now: float) -> None:
        """Reckon up what is still there: paid for up to now."""
        for each in self._instances.values():
            self._log.paid_s[each.node_type] += now - each.requested_at
        for name, since in self._sparing_since.items():
            self._log.spared_s[self._instances[name].node_type] += now - since
