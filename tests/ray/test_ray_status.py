"""What plain `ray status` shows in six states, as golden text: told by the real monitor, again by its successor, again after a loss of the head.

The head keeps its stored state; without it a new head has nothing to show but what it is told. The files lie in golden/ray_status.
"""

import asyncio
import contextlib
import difflib
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.api.head.v1 import head_pb2
from rayscaler.model.command import AutoscalingState, FailedLaunch, PendingInstance
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.server import told
from tests.monitor.doors import read, replay
from tests.monitor.real import Beside, beside, ray_status, restart, stored
from tests.ray_tier import QUICK_LOSS, RayHead, running_head

pytestmark = [pytest.mark.tier("ray"), pytest.mark.timeout(900)]

GOLDEN = Path(__file__).parent / "golden" / "ray_status"

PATIENCE_S = 60.0
"""An old head's row stands for some seconds, a raylet tells of idleness a second late; a loaded machine takes longer."""

CPU = Resources.of(CPU=1)

TOLD = {
    name: told.autoscaling_state(state)
    for name, state in {
        "nothing": AutoscalingState(0, 0),
        "launching": AutoscalingState(0, 0, requested=tuple(PendingInstance("", each, "", 0.0) for each in ("small", "small", "large"))),
        "pending": AutoscalingState(
            0,
            0,
            pending=(
                PendingInstance("demo-small-1-0", "small", "Starting", 0.0),
                PendingInstance("demo-large-1-0", "large", "Unschedulable: Insufficient cpu", 0.0),
            ),
        ),
        "failed": AutoscalingState(0, 0, failed=(FailedLaunch("gpu", "no room for it", 10.0, 20.0),)),
    }.items()
}
"""The states that are ours to tell; `failed` is shown with -v, since only that shows why."""

ASK = """
from ray.autoscaler.sdk import request_resources
from ray.util.placement_group import placement_group
group = placement_group([{"CPU": 32}] * 2, strategy="STRICT_SPREAD", name="group", lifetime="detached")
request_resources(bundles=[{"CPU": 1}] * 2)
print(group.id.hex())
"""

JOB = """
@ray.remote(num_cpus=64)
def big(): pass
tasks = [big.remote() for _ in range(3)]
print("submitted")
ray.get(tasks)
"""

TAKE_BACK = """
from ray.autoscaler.sdk import request_resources
from ray.util.placement_group import PlacementGroup, remove_placement_group
remove_placement_group(PlacementGroup(ray.PlacementGroupID(bytes.fromhex(GROUP))))
request_resources(bundles=[])
print("taken back")
"""

WORK = """
@ray.remote(num_cpus=1)
class Work:
    def is_up(self): return "works"
actor = Work.options(name="work", lifetime="detached", namespace="t").remote()
print(ray.get(actor.is_up.remote()))
"""


def steady(text: str) -> str:
    """Replace what differs between runs, and leave out the rows of old heads, which Ray itself takes for failures."""
    text = re.sub(r"status: [-0-9: .]+ =", "status: TIME =", text)
    text = re.sub(r"latest_attempt: [0-9:]+", "latest_attempt: TIME", text)
    text = re.sub(r"request time: [0-9.]+s", "request time: SECONDS", text)
    text = re.sub(r"[0-9.]+([KMGT]i)?B/[0-9.]+([KMGT]i)?B", "USED/TOTAL", text)
    text = re.sub(r"Id: [0-9a-f]{56}", "Id: NODE", text)
    text = re.sub(r"Idle: \d+ ms", "Idle: TIME", text)
    text = re.sub(r"( head: NodeTerminated \(instance_id: head\)\n)+", "", text)
    text = re.sub(r"Recent failures:\n(?! )", "Recent failures:\n (no failures)\n", text)
    text = re.sub(r"( \d+ \S+\n)+", lambda rows: "".join(sorted(rows[0].splitlines(keepends=True))), text)
    return "\n".join(line.rstrip() for line in text.splitlines()).strip() + "\n"


@dataclass
class Shown:
    """A head with a monitor beside it. A new monitor, and a new life of the head, is told what was told last."""

    head: RayHead
    told: gcs_pb2.AutoscalingState = field(default_factory=lambda: gcs_pb2.AutoscalingState(autoscaler_state_version=1))
    monitor: Beside = field(init=False)
    _stack: contextlib.AsyncExitStack = field(default_factory=contextlib.AsyncExitStack)

    async def new_monitor(self) -> None:
        """Start a monitor in place of the one there is."""
        await self.aclose()
        self.monitor = await self._stack.enter_async_context(beside(self.head.local_address))
        await self.tell(self.told)

    async def new_life(self) -> None:
        """Kill the head and start it anew; the service asks again for the constraint that the GCS lost."""
        lost = read(self.monitor.service.snapshots[-1].snapshot).constraint
        await restart(self.head)
        await self.monitor.report(lambda request: request.reported_state_version == self.told.autoscaler_state_version)
        if lost is not None and lost.demands:
            result = await self.monitor.command(replay(f"replay {self.told.autoscaler_state_version}", *[CPU] * lost.demands[0].count))
            assert result.outcome == head_pb2.OUTCOME_DONE, result.detail

    async def tell(self, state: gcs_pb2.AutoscalingState) -> None:
        """Let the service want this told, and wait until it is."""
        version = self.told.autoscaler_state_version + 1
        self.told = gcs_pb2.AutoscalingState()
        self.told.CopyFrom(state)
        self.told.autoscaler_state_version = version
        self.monitor.service.state = self.told
        await self.monitor.report(lambda request: request.reported_state_version == version)

    async def aclose(self) -> None:
        """End the monitor."""
        await self._stack.aclose()

    async def shows(self, name: str, *, is_verbose: bool = False) -> None:
        """Wait until the golden text of this name is shown."""
        wanted, text = (GOLDEN / f"{name}.txt").read_text(), ""
        deadline = asyncio.get_running_loop().time() + PATIENCE_S
        while text != wanted and asyncio.get_running_loop().time() < deadline:
            text = steady(await ray_status(self.head, is_verbose=is_verbose))
        difference = difflib.unified_diff(wanted.splitlines(), text.splitlines(), "golden", "shown", lineterm="")
        assert text == wanted, f"{name}:\n" + "\n".join(difference)

    async def shows_all_that_is_told(self) -> None:
        """Tell and look, for each of our states."""
        for name, state in TOLD.items():
            await self.tell(state)
            await self.shows(name, is_verbose=name == "failed")
        await self.tell(TOLD["nothing"])


async def test_ray_status_shows_six_states_and_the_same_with_a_new_monitor_and_in_a_new_life_of_the_head(tmp_path):
    async with running_head(stored(tmp_path, *QUICK_LOSS)) as head, contextlib.aclosing(Shown(head)) as shown:
        for _ in range(2):
            await shown.new_monitor()
            await shown.shows_all_that_is_told()

        group = await head.driver(ASK)
        job = await head.start_driver(JOB)
        await shown.shows("demand")
        await shown.new_monitor()
        await shown.shows("demand")
        await shown.new_life()
        await job.close()
        job = await head.start_driver(JOB)  # a driver beside the head goes with it, its tasks too
        await shown.shows("demand")
        await job.close()
        assert await head.driver(f"GROUP = {group!r}\n{TAKE_BACK}") == "taken back"
        await shown.shows_all_that_is_told()

        for number in range(2):
            await head.add_worker(f"demo-small-1-{number}", node_type=NodeType("small", CPU))
        assert await head.driver(WORK) == "works"
        await shown.shows("nodes")
        await shown.new_monitor()
        await shown.shows("nodes")
        await shown.new_life()
        await shown.shows("nodes")
