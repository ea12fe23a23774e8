"""A stack that survives blows: head, service or monitor die by kill -9 and are started again on the same ports. And what is seen of it.

async with wreck(spec, is_stored=False) as stack:
    await stack.kill_head()
    await stack.relaunch_head()

Evidence is from outside only: Ray's node table, one per life of a cluster; /proc; the run directory's records; the tasks' ledger.
A driver runs on the head's machine and dies with the head; whoever wants its job goes on submits it again.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from rayscaler.errors import Unavailable
from rayscaler.local import startup
from rayscaler.local.head import HeadOptions
from rayscaler.processes import Identity, SystemProcesses, end, end_stragglers
from tests.ray.service_main import TRAP
from tests.ray.stack import CLUSTER, MARK, Node, Stack
from tests.ray.workers import HEAD, INSTANCE, Workers, all_pids, environ_of, marked
from tests.ray_tier import RayHead, running_head

SERVICE = ("-m", "tests.ray.service_main")
KNOCK_S = 0.01
STOPPED = "T"


class Everyone(Workers):
    """All workers, and every process that ever led a session under an instance's name: more than one means that it was started twice."""

    def __init__(self, mark: str) -> None:
        super().__init__(mark)
        self.leaders: dict[str, set[Identity]] = defaultdict(set)

    def _meet(self, pid: int, now: float) -> None:
        super()._meet(pid, now)
        with contextlib.suppress(OSError, Unavailable):
            instance_id = _instance_of(pid, self.mark)
            if instance_id and os.getsid(pid) == pid:
                self.leaders[instance_id].add(SystemProcesses().identify(pid, self.mark))


class Wreck(Stack):
    """A stack whose parts are killed; `nodes` is the table of the cluster that lives, `lost` those of clusters that ended."""

    def __init__(self, base: Path, head: RayHead, *, is_stored: bool) -> None:
        super().__init__(base, head)
        self.workers: Everyone = Everyone(self.mark)
        self.is_stored = is_stored
        self.lost: list[dict[str, Node]] = []
        self.answered_at = 0.0
        self.known: set[str] = set()
        self._trap = base / "trap"
        self.env[TRAP] = str(self._trap)

    async def kill_head(self) -> None:
        """Kill everything in the head's session with -9, and the drivers on its machine."""
        identity = self.head.identity
        self._machine.signal_group(identity, signal.SIGKILL)
        await self.kill("witness")
        await self.head.head.stop(grace_s=0.0)
        await asyncio.gather(*(end(self._machine, each.identity, 0.0) for each in self._drivers))
        self._read_witness()  # its last words are of the old cluster
        if not self.is_stored:
            self.lost.append(self.nodes)
            self.nodes = {}

    async def relaunch_head(self) -> None:
        """Start the head anew on its port; notes when its GCS answers first."""
        knocking = asyncio.create_task(self._knock(), name="knock")
        try:
            where = await self.head.head.start()
        except BaseException:
            knocking.cancel()
            raise
        self.answered_at = await knocking
        assert where.address == self.head.address
        assert self.head.head.identity is not None
        self.head.identity = self.head.head.identity
        before = self.readings
        await self.start_again("witness")
        await self.until(lambda: self.readings > before, "Ray's table was read again")

    async def _knock(self) -> float:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.head.port)
                writer.close()
                return time.time()
            await asyncio.sleep(KNOCK_S)

    async def kill(self, name: str) -> None:
        """Kill the service, the monitor or the witness with -9, and nothing else."""
        identity = self._started.pop(name)
        self._machine.signal_leader(identity, signal.SIGKILL)
        await self._machine.wait(identity)
        await end_stragglers(self._machine, identity)

    def set_trap(self, step: str, number: signal.Signals) -> None:
        """Have the service send itself a signal the next time it reaches a step of `service_main`."""
        draft = self._trap.with_suffix(".new")
        draft.write_text(f"{step} {number.value}")
        draft.replace(self._trap)

    async def until_trapped(self, is_over: Callable[[], bool]) -> bool:
        """Wait until the service has reached its trap, and is stopped or dead; False, and no trap, if something is over before that."""
        identity = self._started.pop("service")  # `until` fails for parts that ended

        def is_trapped() -> bool:
            return not self._trap.exists() and not _runs(self._machine, identity)

        try:
            await self.until(lambda: is_trapped() or (is_over() and self._trap.exists()), "the trap is reached")
        finally:
            self._started["service"] = identity
        with contextlib.suppress(FileNotFoundError):
            self._trap.unlink()
            return False
        return True

    def last_line(self) -> str:
        """Return the last line of the service's log: the step that a kill hits."""
        lines = self.log("service").splitlines()
        return lines[-1] if lines else "(nothing was logged)"

    def records(self) -> set[str]:
        """Return the instances that the run directory has a record of."""
        return {path.stem for path in (self.base / "state/run" / CLUSTER).glob("*.json")}

    def supervisors(self) -> dict[str, Identity]:
        """Return the processes that lead the workers' sessions now, by instance."""
        self.workers.look()
        return {each.instance_id: each.identity for each in self.workers.alive()}

    def launched(self) -> set[str]:
        """Return every instance of which anything was ever seen, in the tables of lost clusters too."""
        return super().launched() | {each.instance_id for table in self.lost for each in table.values()} | set(self.workers.leaders)

    def losses(self) -> set[str]:
        """Return instances that ended though nobody asked them to: the service saw their process exit by itself."""
        gone = [line for line in self.log("service").splitlines() if "event=worker.gone" in line and 'detail="exited' in line]
        return {line.split("instance_id=")[1].split()[0] for line in gone}

    def told(self) -> str:
        """Return what was seen and said, with the logs of workers that ended by themselves."""
        logs = {each: startup.tail(self.base / "state/run" / CLUSTER / f"{each}.log") for each in sorted(self.losses())}
        return "\n".join([super().told(), *(f"--- {each}\n{log}" for each, log in logs.items())])

    def raylets(self) -> dict[int, str]:
        """Return the raylets of workers that run, with their instances."""
        found = {pid: _instance_of(pid, self.mark) for pid in all_pids() if _name_of(pid) == "raylet"}
        return {pid: instance_id for pid, instance_id in found.items() if instance_id}

    def zombies(self) -> set[str]:
        """Return what runs, or is on record, without being a living node of Ray's; and living nodes without a supervisor."""
        shown = {each.instance_id for each in self.alive()}
        return (set(self.supervisors()) | set(self.raylets().values()) | self.records()) ^ shown

    def assert_started_once(self) -> None:
        """No instance id was started twice: by /proc, and by what the service's lives logged."""
        twice = {instance_id: leaders for instance_id, leaders in self.workers.leaders.items() if len(leaders) > 1}
        assert not twice, f"started twice: {twice}\n{self.told()}"
        spawned = [line.split("instance_id=")[1].split()[0] for line in self.log("service").splitlines() if "event=worker.spawned" in line]
        assert all(count == 1 for count in Counter(spawned).values()), f"spawned twice: {Counter(spawned)}"


def _runs(machine: SystemProcesses, identity: Identity) -> bool:
    return machine.is_alive(identity) and _stat(identity.pid)[1:2] != [STOPPED]


def _stat(pid: int) -> list[str]:
    """Return a process's name, its state and the rest."""
    with contextlib.suppress(OSError):
        name, _, rest = (Path("/proc") / str(pid) / "stat").read_text().partition("(")[2].rpartition(") ")
        return [name, *rest.split()]
    return []


def _name_of(pid: int) -> str:
    return next(iter(_stat(pid)), "")


def _instance_of(pid: int, mark: str) -> str:
    """Return the instance that a process belongs to; empty for one of the head's, or of a stranger's."""
    environ = environ_of(pid)
    found = next((each[len(INSTANCE) :].decode() for each in environ if each.startswith(INSTANCE)), HEAD)
    return "" if found == HEAD or mark.encode() not in environ else found


@contextlib.asynccontextmanager
async def wreck(spec: Mapping[str, Any], *, is_stored: bool = False) -> AsyncIterator[Wreck]:
    """Run rayscaler with a definition's `spec` against a fresh head of 0 CPUs, whose GCS keeps its state on disk or does not."""
    base = Path(tempfile.mkdtemp(prefix="rs-", dir="/tmp"))
    stored = (("RAY_gcs_storage", "rocksdb"), ("RAY_gcs_storage_path", str(base / "gcs"))) if is_stored else ()
    try:
        async with running_head(HeadOptions(env=((MARK, base.name), *stored))) as head:
            stack = Wreck(base, head, is_stored=is_stored)
            try:
                await stack.start(spec, SERVICE)
                yield stack
            finally:
                await stack.close()
        assert not marked(stack.mark), f"processes left: {marked(stack.mark)}"
    finally:
        shutil.rmtree(base, ignore_errors=True)
