"""A working executor without machines: instances are tasks that pass through the phases by asyncio.sleep, so also in virtual time.

`FakeMachines` is the outside world and lives on; a FakeExecutor is one client of it, made anew at each restart. It can be
told to fail, to hang, to lose instances. It checks what real executors check, and nothing more.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from rayscaler.clock import Clock
from rayscaler.errors import Conflict, InvalidRequest, NotFound, RayscalerError
from rayscaler.executor.base import LaunchSpec
from rayscaler.model.instance import InstanceObservation, Phase, Size, Trouble
from rayscaler.model.resources import Resources
from rayscaler.model.scheduling import GangScheduler, WantedGroup
from rayscaler.throttle import Pace, Unpaced

PLAIN_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
"""What every executor can make a name of its own from."""
DELAYS_S: Mapping[Phase, float] = MappingProxyType({Phase.UNSCHEDULED: 0.0, Phase.STARTING: 2.0, Phase.REGISTERING: 1.0, Phase.ENDING: 2.0})
"""Seconds in each phase, about those of a local worker; after REGISTERING `on_ready` is called."""
LOOK_S = 0.5
"""Between two looks of an instance that is held up."""
CALLS = ("launch", "terminate", "resize", "group", "list")

Hook = Callable[[LaunchSpec], None]


def _nothing(spec: LaunchSpec) -> None:
    """Do nothing: what happens when nobody cares."""
    del spec


@dataclass(frozen=True)
class HeldUp:
    """What instances of a node type meet at the end of a phase, and why they get no further."""

    phase: Phase
    trouble: Trouble
    error: str


@dataclass
class _Machine:
    """One instance out there."""

    spec: LaunchSpec
    phase: Phase = Phase.UNSCHEDULED
    task: asyncio.Task[None] | None = None
    is_held: bool = False
    ends_at: float | None = None
    ends_why: str = ""
    size: Size | None = None
    """None until it was asked to be resized: as it was launched."""
    growing: asyncio.Task[None] | None = None


@dataclass
class FakeMachines:
    """The world outside: instances and who watches them. The hooks let a fake GCS make a node join and die.

    `delays_s` may be changed at any time; `on_ready` comes when an instance would join, `on_gone` when it is no more.
    """

    clock: Clock
    delays_s: dict[Phase, float] = field(default_factory=lambda: dict(DELAYS_S))
    on_ready: Hook = _nothing
    on_gone: Hook = _nothing
    machines: dict[tuple[str, str], _Machine] = field(default_factory=dict)
    held_up: dict[str, HeldUp] = field(default_factory=dict)
    """By node type; once it is taken out, those that waited get on."""
    resize_s: float = 1.0
    """Seconds from a resize to the new size."""
    unresized: dict[str, str] = field(default_factory=dict)
    """By node type: why its instances do not get larger; "" is without a word."""
    groups: dict[tuple[str, GangScheduler], dict[str, int]] = field(default_factory=dict)
    """Sizes of the groups, by their names."""
    watches: set[tuple[str, asyncio.Queue[InstanceObservation]]] = field(default_factory=set)

    def begin(self, spec: LaunchSpec) -> None:
        """Make an instance; the same again changes nothing."""
        key = (spec.cluster, spec.instance_id)
        known = self.machines.get(key)
        if known is None:
            machine = self.machines[key] = _Machine(spec)
            machine.task = asyncio.create_task(self._grow(machine), name=f"fake machine {spec.instance_id}")
        elif known.spec != spec:
            raise Conflict(f"{spec.instance_id} exists with another spec; use a new instance_id")

    def end(self, cluster: str, instance_id: str) -> None:
        """Begin the end of an instance; an unknown one, or one that ends already, is fine."""
        machine = self.machines.get((cluster, instance_id))
        if machine is not None and machine.phase is not Phase.ENDING:
            self._stop(machine)
            machine.task = asyncio.create_task(self._wither(machine), name=f"fake machine {instance_id} ends")

    def resize(self, cluster: str, instance_id: str, resources: Resources) -> None:
        """Begin to give an instance another size; the same again changes nothing."""
        machine = self.machines.get((cluster, instance_id))
        if machine is None:
            raise NotFound(f"{instance_id} is not there")
        now = _size(machine)
        if now.asked == resources:
            return
        if machine.growing is not None:
            machine.growing.cancel()
        is_more = resources != now.actual
        refusal = self.unresized.get(machine.spec.node_type.name) if is_more else None
        machine.size = Size(resources, now.actual, refusal or "")
        self._publish(cluster, self.tell(machine))
        if is_more and refusal is None:
            machine.growing = asyncio.create_task(self._resized(machine), name=f"fake machine {instance_id} is resized")

    async def _resized(self, machine: _Machine) -> None:
        await asyncio.sleep(self.resize_s)
        asked = _size(machine).asked
        machine.size = Size(asked, asked)
        self._publish(machine.spec.cluster, self.tell(machine))

    def lose(self, instance_id: str, error: str = "exit code 1") -> None:
        """Let an instance die by itself, now."""
        for machine in [each for each in self.machines.values() if each.spec.instance_id == instance_id]:
            self._stop(machine)
            self._gone(machine, "died", error)

    def announce(self, instance_id: str, ends_at: float | None, why: str = "spot notice") -> None:
        """Say when an instance will end, or that it will not after all; whoever says so ends it, or not."""
        for machine in [each for each in self.machines.values() if each.spec.instance_id == instance_id]:
            machine.ends_at, machine.ends_why = ends_at, "" if ends_at is None else why
            self._publish(machine.spec.cluster, self.tell(machine))

    def tell(self, machine: _Machine, detail: str = "", error: str = "") -> InstanceObservation:
        """Make an observation of a machine."""
        spec = machine.spec
        held = self._held(machine) if machine.is_held else None
        return InstanceObservation(
            instance_id=spec.instance_id,
            node_type=spec.node_type.name,
            external_id=f"fake-{spec.instance_id}",
            phase=machine.phase,
            detail=detail,
            observed_at=self.clock.now(),
            error=error or (held.error if held else machine.ends_why),
            made_as=spec.node_type,
            replica=spec.replica,
            host=spec.host,
            membership=spec.membership,
            trouble=held.trouble if held else None,
            ends_at=machine.ends_at,
            size=_size(machine),
        )

    async def close(self) -> None:
        """End the world: every task is collected."""
        tasks = [task for each in self.machines.values() for task in (each.task, each.growing) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _grow(self, machine: _Machine) -> None:
        self._enter(machine, Phase.UNSCHEDULED)
        for phase, following in ((Phase.UNSCHEDULED, Phase.STARTING), (Phase.STARTING, Phase.REGISTERING)):
            await asyncio.sleep(self.delays_s[phase])
            await self._wait_out(machine)
            self._enter(machine, following)
        await asyncio.sleep(self.delays_s[Phase.REGISTERING])
        self.on_ready(machine.spec)

    def _held(self, machine: _Machine) -> HeldUp | None:
        found = self.held_up.get(machine.spec.node_type.name)
        return found if found is not None and found.phase is machine.phase else None

    async def _wait_out(self, machine: _Machine) -> None:
        """Be held up for as long as something does that in this phase."""
        while self._held(machine) is not None:
            if not machine.is_held:
                machine.is_held = True
                self._publish(machine.spec.cluster, self.tell(machine))
            await asyncio.sleep(LOOK_S)
        machine.is_held = False

    async def _wither(self, machine: _Machine) -> None:
        self._enter(machine, Phase.ENDING)
        await asyncio.sleep(self.delays_s[Phase.ENDING])
        self._gone(machine, "ended")

    def _enter(self, machine: _Machine, phase: Phase) -> None:
        machine.phase = phase
        self._publish(machine.spec.cluster, self.tell(machine))

    def _gone(self, machine: _Machine, detail: str, error: str = "") -> None:
        del self.machines[machine.spec.cluster, machine.spec.instance_id]
        machine.phase = Phase.GONE
        self._publish(machine.spec.cluster, self.tell(machine, detail, error))
        self.on_gone(machine.spec)

    def _publish(self, cluster: str, seen: InstanceObservation) -> None:
        for watched, queue in self.watches:
            if watched == cluster:
                queue.put_nowait(seen)

    def _stop(self, machine: _Machine) -> None:
        for task in (machine.task, machine.growing):
            if task is not None:
                task.cancel()


def _size(machine: _Machine) -> Size:
    launched = machine.spec.node_type.resources
    return machine.size or Size(launched, launched)


class FakeExecutor:
    """An executor over FakeMachines. `launched`, `terminated` and `resized` list what was carried out, in order."""

    def __init__(self, machines: FakeMachines, pace: Pace | None = None) -> None:
        self.machines = machines
        self.pace: Pace = pace or Unpaced()
        self.launched: list[LaunchSpec] = []
        self.terminated: list[str] = []
        self.resized: list[tuple[str, Resources]] = []
        self._failures: dict[str, list[RayscalerError]] = {call: [] for call in CALLS}
        self._hangs: dict[str, int] = dict.fromkeys(CALLS, 0)
        self._watching: set[tuple[str, asyncio.Queue[InstanceObservation]]] = set()

    def fail_next_launch(self, error: RayscalerError) -> None:
        """Let the next launch fail with nothing done."""
        self.fail_next("launch", error)

    def fail_next(self, call: str, error: RayscalerError) -> None:
        """Let the next `launch`, `terminate`, `resize`, `group` or `list` fail with nothing done; several queue up."""
        self._failures[call].append(error)

    def hang_next(self, call: str) -> None:
        """Let the next `launch`, `terminate`, `resize`, `group` or `list` never answer, with nothing done; several add up."""
        self._hangs[call] += 1

    def lose(self, instance_id: str, error: str = "exit code 1") -> None:
        """Let an instance die by itself, now."""
        self.machines.lose(instance_id, error)

    async def launch(self, spec: LaunchSpec) -> str:
        """Begin an instance."""
        await self._trouble("launch")
        for path, name in (("cluster", spec.cluster), ("instance_id", spec.instance_id)):
            if not PLAIN_NAME.fullmatch(name):
                raise InvalidRequest(f"{path}: {name!r}: must be letters, digits, '-', '_' and '.'")
        is_new = (spec.cluster, spec.instance_id) not in self.machines.machines
        self.machines.begin(spec)
        if is_new:
            self.launched.append(spec)
        return f"fake-{spec.instance_id}"

    async def terminate(self, cluster: str, instance_id: str) -> None:
        """Begin the end of an instance."""
        await self._trouble("terminate")
        if (cluster, instance_id) in self.machines.machines and instance_id not in self.terminated:
            self.terminated.append(instance_id)
        self.machines.end(cluster, instance_id)

    async def resize(self, cluster: str, instance_id: str, resources: Resources) -> None:
        """Begin to give an instance another size."""
        await self._trouble("resize")
        self.machines.resize(cluster, instance_id, resources)
        self.resized.append((instance_id, resources))

    async def group(self, cluster: str, scheduler: GangScheduler, groups: Sequence[WantedGroup]) -> None:
        """Have just these groups."""
        await self._trouble("group")
        there = self.machines.groups.get((cluster, scheduler), {})
        self.machines.groups[cluster, scheduler] = {
            each.name: each.size if each.may_shrink else max(each.size, there.get(each.name, 0)) for each in groups
        }

    async def list(self, cluster: str) -> list[InstanceObservation]:
        """Tell every instance of the cluster that is not gone."""
        await self._trouble("list")
        return [self.machines.tell(machine) for (owner, _), machine in self.machines.machines.items() if owner == cluster]

    def watch(self, cluster: str) -> AsyncIterator[InstanceObservation]:
        """Yield an observation at each change of phase, from this call on."""
        queue: asyncio.Queue[InstanceObservation] = asyncio.Queue()
        self._watching.add((cluster, queue))
        self.machines.watches.add((cluster, queue))
        return _drain(queue)

    async def close(self) -> None:
        """Let go; the machines live on."""
        self.machines.watches -= self._watching
        self._watching.clear()

    async def _trouble(self, call: str) -> None:
        if self._hangs[call]:
            self._hangs[call] -= 1
            await asyncio.get_running_loop().create_future()
        if self._failures[call]:
            raise self._failures[call].pop(0)


async def _drain(queue: asyncio.Queue[InstanceObservation]) -> AsyncIterator[InstanceObservation]:
    while True:
        yield await queue.get()
