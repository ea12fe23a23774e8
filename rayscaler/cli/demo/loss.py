"""The head's loss: when it is killed, and what must have been seen of it. Pure over Evidence."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from rayscaler.cli.demo.evidence import Evidence, Head, Node, Process

SHARES = (0.35, 0.65)
"""Half-way: so much of the workers has joined, drawn by seed."""
EXTRA_S = 0.8
"""And at most so long after that, drawn too."""
QUIET_S = 2.0
"""All launches are made when there was none for so long: tasks show their demand after about 1 s."""


@dataclass(frozen=True)
class Moment:
    """When the head is killed: at which share of joined workers, and how long after."""

    share: float
    extra_s: float

    @classmethod
    def drawn(cls, seed: int) -> Self:
        """Draw a moment."""
        rng = random.Random(f"head {seed}")  # noqa: S311 - a demo's moment is no secret
        return cls(round(rng.uniform(*SHARES), 2), round(rng.uniform(0.0, EXTRA_S), 2))

    def has_come(self, evidence: Evidence, now: float) -> bool:
        """Whether so many of the launched workers have joined, and one is at work, by Ray's own table."""
        joined, launched = evidence.joined(), evidence.recorded
        if not joined or now - max(launched.values(), default=now) < QUIET_S:
            return False
        return len(joined) >= max(1, round(self.share * len(launched))) and any(each.is_busy for each in joined.values())


@dataclass(frozen=True)
class Loss:
    """What was there when the head was killed at `at`: head and cluster, who was launched, had a supervisor, had joined, was at work."""

    at: float
    cluster_id: str
    head: Head
    launched: frozenset[str]
    supervisors: Mapping[str, Process]
    nodes: Mapping[str, Node]
    busy: frozenset[str]

    @classmethod
    def seen(cls, evidence: Evidence, at: float) -> Self:
        """Take down what is there now."""
        nodes = evidence.joined()
        return cls(
            at=at,
            cluster_id=evidence.cluster_id,
            head=evidence.living_heads()[-1],
            launched=frozenset(evidence.recorded),
            supervisors={name: each for name, each in evidence.processes.items() if each.gone_at is None},
            nodes=nodes,
            busy=frozenset(name for name, each in nodes.items() if each.is_busy),
        )

    def is_head_back(self, evidence: Evidence) -> bool:
        """Whether another cluster shows its head."""
        heads = (each for each in evidence.nodes.values() if each.is_head and each.cluster_id == evidence.cluster_id)
        return evidence.cluster_id != self.cluster_id and any(each.is_alive for each in heads)

    def back(self, evidence: Evidence) -> dict[str, Node]:
        """Return the workers of before that are nodes of the new head."""
        if evidence.cluster_id == self.cluster_id:
            return {}
        return {name: node for name, node in evidence.joined().items() if name in self.launched}

    def is_settled(self, evidence: Evidence) -> bool:
        """Whether each worker is back, or its supervisor has ended: then waiting for its node is in vain."""
        gone = {name for name, each in evidence.processes.items() if each.gone_at is not None}
        return self.launched <= gone | self.back(evidence).keys()

    def wrong(self, evidence: Evidence) -> list[str]:
        """Return what is wrong once all should be back: head, cluster, each worker, and that nothing was launched meanwhile."""
        wrong = [] if self.busy and self.nodes else ["no worker was at work when the head was killed"]
        heads = evidence.living_heads()
        if len(heads) != 1 or heads[0].gcs_pid == self.head.gcs_pid or heads[0].pid == self.head.pid:
            wrong.append(f"the GCSs in /proc are {[each.gcs_pid for each in heads]}, the killed one was {self.head.gcs_pid}")
        if evidence.cluster_id == self.cluster_id:
            wrong.append(f"Ray's cluster id is still {self.cluster_id}")
        back = self.back(evidence)
        for name in sorted(self.launched):
            wrong += self._wrong_worker(name, evidence.processes.get(name), back.get(name))
        meanwhile = (evidence.recorded.keys() | evidence.processes.keys()) - self.launched
        return wrong + [f"{name} was launched meanwhile" for name in sorted(meanwhile)]

    def _wrong_worker(self, name: str, process: Process | None, node: Node | None) -> list[str]:
        before, former = self.supervisors.get(name), self.nodes.get(name)
        wrong = []
        if process is None or process.gone_at is not None:
            wrong.append(f"{name} has no supervisor in /proc" if before is None else f"{name}: its supervisor, pid {before.pid}, is gone")
        if node is None:
            wrong.append(f"{name} is not in the new head's table")
        elif former is not None and former.node == node.node:
            wrong.append(f"{name} has its old node id {node.node}")
        return wrong

    def superfluous(self, evidence: Evidence, used: set[str]) -> list[str]:
        """Return what is wrong with the launches of before, once the job has ended: each must have been needed, by its nodes' use."""
        needed = {each.instance for each in evidence.workers() if each.node in used}
        return [f"{name} was launched before the head was killed, and nothing needed it" for name in sorted(self.launched - needed)]
