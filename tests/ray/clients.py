"""Complaints F5 and F6: rayscaler dies, and nobody who works notices. Run by test_clients_stay.py small, by the soak in full.

Sessions of Ray clients are held open over scale-downs and over the death of service and monitor; a task runs on a worker meanwhile, and
another is submitted. rayscaler then comes back, and catches up.
"""

import asyncio
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from rayscaler.local import startup
from rayscaler.processes import Identity, SystemProcesses, end
from tests.ray.stack import Stack, running_stack

SPEC = {"idleTimeout": "2s", "maxWorkers": 2, "nodeTypes": [{"name": "small", "resources": {"CPU": 1}}]}
PARTS = ("service", "monitor")
CONNECTS = 10
"""Tries; see `Clients.open`."""
CATCH_UP_S = 15.0
"""From rayscaler's return to the worker for what was submitted meanwhile (complaint F5)."""
PATIENCE_S = 60.0
"""Of a session for one call."""

CLIENT = f"""
import os, sys, time
import ray
ray.init(sys.argv[1], log_to_driver=False)

@ray.remote(num_cpus=0)
class Counter:
    def __init__(self):
        self.count = 0
    def add(self):
        self.count += 1
        return self.count

counter = Counter.remote()
calls = 0
while not os.path.exists(sys.argv[2]):
    calls += 1
    assert ray.get(counter.add.remote(), timeout={PATIENCE_S}) == calls
    print("calls", calls, flush=True)
    time.sleep(float(sys.argv[3]))
print("whole", calls, flush=True)
"""

JOB = """
@ray.remote(num_cpus=1, max_retries=0)
def hold(index):
    note("start", index)
    while not os.path.exists(RELEASE):
        time.sleep(0.2)
    note("end", index)

ray.get(hold.remote(INDEX))
print("finished")
"""


@dataclass
class Stay:
    """What was seen: how long rayscaler was away, how soon it caught up, and how often the sessions called in all."""

    sessions: int
    away_s: float
    caught_up_s: float
    calls: int


class Clients:
    """Client sessions against a stack's head."""

    def __init__(self, stack: Stack, pause_s: float) -> None:
        self._stack = stack
        self._machine = SystemProcesses()
        self._over = stack.base / "over"
        self._script = stack.base / "client.py"
        self._script.write_text(CLIENT)
        self._args = [str(self._script), f"ray://127.0.0.1:{client_port(stack.head.pid)}", str(self._over), f"{pause_s:g}"]
        self._sessions: dict[Path, Identity] = {}

    async def open(self) -> None:
        """Start a client and wait until its session works.

        One at a time, and again when its connection fails: Ray's client server forks while it serves others, and what it forks then dies
        at once now and then ("Other threads are currently calling into gRPC, skipping fork() handlers"; 2 of 8 times with two at once, and
        more often the more sessions there are).
        """
        log = self._stack.base / f"client{len(self._sessions)}.log"
        for _ in range(CONNECTS):
            client = self._machine.spawn([sys.executable, "-u", *self._args], env=self._stack.env, log_path=log, mark=self._stack.mark)
            self._sessions[log] = client
            await self._stack.until(lambda: "calls" in log.read_text() or not self._machine.is_alive(client), "a session works")  # noqa: B023
            if self._machine.is_alive(client):
                return
        pytest.fail(f"no session in {CONNECTS} tries: {startup.tail(log)}")

    async def finish(self) -> int:
        """Let every session end, see that each is whole, and return how often they called."""
        self._over.touch()
        codes = {log: await self._machine.wait(client) for log, client in self._sessions.items()}
        assert set(codes.values()) == {0}, [startup.tail(log) for log, code in codes.items() if code]
        return sum(int(log.read_text().split("whole")[1]) for log in codes)

    async def close(self) -> None:
        """End what is left."""
        await asyncio.gather(*(end(self._machine, client, 0.0) for client in self._sessions.values()))


async def clients_stay(*, sessions: int, away_s: float, pause_s: float = 0.2) -> list[Stay]:
    """Hold sessions open while workers go, and while service and monitor are dead for a time in the midst of a job."""
    async with running_stack(SPEC) as stack:
        clients = Clients(stack, pause_s)
        try:
            for _ in range(sessions):
                await clients.open()
            await _scale_up_and_down(stack)
            caught_up_s = await _be_away(stack, away_s)
            stay = Stay(sessions, away_s, caught_up_s, await clients.finish())
        finally:
            await clients.close()
    assert caught_up_s <= CATCH_UP_S, stay
    print(stay, flush=True)
    return [stay]


async def _scale_up_and_down(stack: Stack) -> None:
    release = stack.base / "release"
    release.touch()
    await asyncio.gather(*(stack.driver(_job(index, release)) for index in range(2)))
    await stack.until(stack.all_gone, "a scale-down")


async def _be_away(stack: Stack, away_s: float) -> float:
    """Kill rayscaler while a task runs, submit another meanwhile, and come back; return seconds until the worker for it runs."""
    release = stack.base / "release-later"
    drivers = [await stack.start_driver(_job(10, release))]
    await stack.until(lambda: stack.ledger.counts("start")[10] == 1, "a task runs")
    for part in PARTS:
        await stack.kill(part)
    known, deadline = stack.launched(), time.monotonic() + away_s
    drivers.append(await stack.start_driver(_job(11, release)))
    await stack.until(lambda: time.monotonic() > deadline, "rayscaler is away", away_s + PATIENCE_S)
    assert stack.launched() == known
    came_at = time.time()
    for part in PARTS:
        await stack.start_again(part)
    await stack.until(lambda: bool(set(stack.workers.seen) - known), "what was submitted meanwhile gets a worker")
    caught_up_s = min(each.seen_at for name, each in stack.workers.seen.items() if name not in known) - came_at
    await stack.until(lambda: stack.ledger.counts("start")[11] == 1, "it runs there")
    release.touch()
    assert [await stack.line(each) for each in drivers] == ["finished", "finished"]
    ran = stack.ledger.counts("start"), stack.ledger.counts("end")
    assert all(counts[index] == 1 for counts in ran for index in (10, 11)), f"{ran}\n{stack.told()}"
    await stack.until(stack.all_gone, "another scale-down")
    stack.assert_drained_before_their_end()
    return round(caught_up_s, 1)


def _job(index: int, release: Path) -> str:
    return f"INDEX, RELEASE = {index}, {str(release)!r}\n{JOB}"


def client_port(head_pid: int) -> str:
    """Return the port of a head's client server, from its command line."""
    line = (Path("/proc") / str(head_pid) / "cmdline").read_bytes().decode().split("\0")
    return next(each.partition("=")[2] for each in line if each.startswith("--ray-client-server-port="))
