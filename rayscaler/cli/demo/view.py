"""How the demo shows itself: a live table at a terminal, plain lines elsewhere, JSON lines with --json."""

import json
import sys
import time
from typing import Any, Self

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from rayscaler.api.head.v1 import head_pb2 as pb

RECENT = 8
"""Actions shown in the live view."""
KINDS = {
    "REQUESTED": "launch",
    "RUNNING": "joined",
    "REJOINING": "head lost",
    "DRAINING": "drain",
    "TERMINATING": "end",
    "TERMINATED": "ended",
    "LAUNCH_FAILED": "launch failed",
}


class View:
    """Shows steps as they are passed, and the fleet with the reason of each action."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._console = Console(stderr=as_json, highlight=False)
        self._started = time.monotonic()
        self._actions_shown = 0
        self._steps: list[str] = []
        self._live = Live(console=self._console, refresh_per_second=8, transient=True) if self._is_live() else None

    def _is_live(self) -> bool:
        return self._console.is_terminal and not self._as_json

    def __enter__(self) -> Self:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live is not None:
            self._live.stop()

    def step(self, name: str, text: str, **facts: Any) -> None:
        """Show a step that was passed, with what was seen."""
        if self._as_json:
            sys.stdout.write(json.dumps({"step": name, "at": time.time(), **facts}) + "\n")
            sys.stdout.flush()
            return
        self._steps.append(text)
        self._console.print(f"[dim]{self._elapsed():6.1f} s[/dim]  {text}", soft_wrap=True)

    def wrong(self, text: str) -> None:
        """Show what is not as it must be."""
        self._console.print(Text(f"not seen: {text}", style="bold red"))

    def fleet(self, cluster: pb.ClusterStatus) -> None:
        """Show the fleet."""
        if self._live is not None:
            self._live.update(_table(cluster))
        elif not self._as_json:
            for action in cluster.actions[self._actions_shown :]:
                if action.kind in KINDS:
                    why = f"{action.reason}: {action.detail}"
                    line = f"[dim]{self._elapsed():6.1f} s[/dim]    {KINDS[action.kind]:13} {action.instance_id}  {why}"
                    self._console.print(line, soft_wrap=True)
            self._actions_shown = len(cluster.actions)

    def summary(self, rows: list[tuple[str, str]]) -> None:
        """Show the closing summary."""
        table = Table(show_header=False, title="summary", title_justify="left")
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    def _elapsed(self) -> float:
        return time.monotonic() - self._started


def _table(cluster: pb.ClusterStatus) -> Group:
    fleet = Table("instance", "node type", "status", "why", title=_title(cluster), title_justify="left")
    for each in cluster.instances:
        fleet.add_row(each.instance_id, each.node_type, each.status, each.detail)
    lines = [
        Text(f"{KINDS[each.kind]:13} {each.instance_id}  {each.reason}: {each.detail}", style="dim")
        for each in [each for each in cluster.actions if each.kind in KINDS][-RECENT:]
    ]
    return Group(fleet, *lines)


def _title(cluster: pb.ClusterStatus) -> str:
    if cluster.blind:
        return f"fleet of {cluster.cluster}: blind ({cluster.blind}), nothing is launched or ended"
    kept = ", ".join(f"{count} {name}" for name, count in sorted(cluster.hold.targets.items()))
    return f"fleet of {cluster.cluster}" + (f": the head was lost, {kept} kept" if kept else "")
