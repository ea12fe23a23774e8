"""The head's loss as it is told: killed, waits, new head, each worker back, all back. Judges nothing; that is loss.py's."""

import asyncio
import contextlib
import time

from rayscaler.cli.demo.evidence import Evidence, Node, Process
from rayscaler.cli.demo.loss import Loss, Moment
from rayscaler.cli.demo.view import View
from rayscaler.local import supervisor
from rayscaler.local.rundir import RunDir
from rayscaler.model.words import counted

WAITS_S = 2.0
"""A supervisor notices a killed head at once; who has not by then is not told of."""


class Tale:
    """The tale of one loss. `backs` and `head_back_s` are seconds from the kill to Ray's table showing it."""

    def __init__(self, loss: Loss, evidence: Evidence, view: View) -> None:
        self.loss = loss
        self.backs: dict[str, float] = {}
        self.head_back_s: float | None = None
        self._evidence = evidence
        self._view = view

    def killed(self, moment: Moment, processes: int) -> None:
        """Tell of the kill, and of what there was."""
        loss = self.loss
        starting = len(loss.launched) - len(loss.nodes)
        self._view.step(
            "head.killed",
            f"HEAD KILLED (pid {loss.head.pid} and all it ran, -9): {counted(len(loss.launched), 'worker')} launched, {len(loss.nodes)} joined, "
            f"{len(loss.busy)} at work, {starting} on their way",
            head_pid=loss.head.pid,
            gcs_pid=loss.head.gcs_pid,
            killed_processes=processes,
            killed_at=loss.at,
            cluster_id=loss.cluster_id,
            share=moment.share,
            extra_s=moment.extra_s,
            workers=[
                {
                    "instance": name,
                    "supervisor_pid": loss.supervisors[name].pid if name in loss.supervisors else None,
                    "node": loss.nodes[name].node if name in loss.nodes else None,
                    "busy": name in loss.busy,
                }
                for name in sorted(loss.launched)
            ],
        )

    async def waits(self, rundir: RunDir, cluster: str) -> None:
        """Tell whose supervisor waits for a head, in its own words."""
        await asyncio.gather(*(self._waits(rundir, cluster, name) for name in sorted(self.loss.nodes)))

    async def _waits(self, rundir: RunDir, cluster: str, name: str) -> None:
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(WAITS_S), contextlib.aclosing(supervisor.follow(rundir.socket_path(cluster, name))) as statuses:
                async for status in statuses:
                    if status.state == "waiting":
                        after_s = time.time() - self.loss.at
                        self._view.step(
                            "worker.waits",
                            f"  {name} waits, {after_s:.1f} s after the kill: {status.detail}",
                            instance=name,
                            after_s=after_s,
                        )
                        return

    def head_back(self) -> None:
        """Tell of the new head."""
        evidence, before = self._evidence, self.loss
        head = max(evidence.living_heads(), key=lambda each: each.seen_at, default=before.head)
        self.head_back_s = min(each.seen_at for each in evidence.nodes.values() if each.cluster_id == evidence.cluster_id) - before.at
        self._view.step(
            "head.back",
            f"new head at the same port {self.head_back_s:.1f} s after the kill (pid {head.pid}, its GCS {head.gcs_pid}): another cluster, "
            f"{evidence.cluster_id[:8]} after {before.cluster_id[:8]}",
            head_pid=head.pid,
            gcs_pid=head.gcs_pid,
            cluster_id=evidence.cluster_id,
            after_s=self.head_back_s,
        )

    def workers_back(self) -> bool:
        """Tell who has come back since the last look; return whether nobody else is to be waited for."""
        for name, node in sorted(self.loss.back(self._evidence).items(), key=lambda each: each[1].seen_at):
            process = self._evidence.processes.get(name)
            if name not in self.backs and process is not None:
                self.backs[name] = node.seen_at - self.loss.at
                self._back(name, node, process)
        return self.loss.is_settled(self._evidence)

    def _back(self, name: str, node: Node, process: Process) -> None:
        former, before = self.loss.nodes.get(name), self.loss.supervisors.get(name)
        how = f"rejoins: node {node.node[:8]} after {former.node[:8]}" if former else f"joins: node {node.node[:8]}"
        who = "same supervisor" if before else "recorded before the kill, supervisor started after it"
        self._view.step(
            "worker.back",
            f"  {name} {how}, {who} (pid {process.pid}), {self.backs[name]:.1f} s after the kill",
            instance=name,
            node_type=node.node_type,
            supervisor_pid=process.pid,
            supervisor_pid_before=before.pid if before else None,
            node=node.node,
            node_before=former.node if former else None,
            after_s=self.backs[name],
        )

    def survived(self) -> None:
        """Tell that all are back."""
        loss = self.loss
        self._view.step(
            "head.survived",
            f"all {len(loss.launched)} workers are on the new head; no supervisor was replaced, 0 launches since the kill",
            launches_between=0,
            launched_before=len(loss.launched),
            head_pids=[loss.head.pid, self._evidence.living_heads()[-1].pid],
            cluster_ids=[loss.cluster_id, self._evidence.cluster_id],
            all_back_s=max(self.backs.values()),
        )
