"""Complaint F6: sessions of Ray clients outlive a scale-down and the death of the service and of the monitor; rayscaler is never the cause."""

import asyncio
import sys
from pathlib import Path

import pytest

from rayscaler.local import startup
from rayscaler.local.processes import Identity, SystemProcesses, end
from tests.ray.stack import Stack, running_stack

pytestmark = pytest.mark.tier("ray")

SESSIONS = 2
"""Each is a process of 100 MB here and one of 200 MB at the head."""
CONNECTS = 3

CLIENT = """
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
    assert ray.get(counter.add.remote(), timeout=30) == calls
    print("calls", calls, flush=True)
    time.sleep(0.2)
print("whole", calls, flush=True)
"""

WORK = """
@ray.remote(num_cpus=1, max_retries=0)
def work(index):
    note("start", index)
    return ray.get_runtime_context().get_node_id()

say(*set(ray.get([work.remote(index) for index in range(2)])))
"""


def client_port(head_pid: int) -> str:
    """Return the port of a head's client server, from its command line."""
    line = (Path("/proc") / str(head_pid) / "cmdline").read_bytes().decode().split("\0")
    return next(each.partition("=")[2] for each in line if each.startswith("--ray-client-server-port="))


async def session(stack: Stack, machine: SystemProcesses, address: str, log: Path) -> Identity:
    """Start a client and wait until its session works.

    One at a time, and again when its connection fails: Ray's client server forks while it serves others, and what it forks then dies
    at once now and then ("Other threads are currently calling into gRPC, skipping fork() handlers"; 2 of 8 times with two at once).
    """
    argv = [sys.executable, "-u", str(stack.base / "client.py"), address, str(stack.base / "over")]
    for _ in range(CONNECTS):
        client = machine.spawn(argv, env=stack.env, log_path=log, mark=stack.mark)
        await stack.until(lambda: "calls" in log.read_text() or not machine.is_alive(client), "a session works")  # noqa: B023 - awaited here
        if machine.is_alive(client):
            return client
    pytest.fail(f"no session in {CONNECTS} tries: {startup.tail(log)}")


async def test_f6_client_sessions_live_on_while_workers_go_and_service_and_monitor_die():
    spec = {"idleTimeout": "2s", "maxWorkers": 2, "nodeTypes": [{"name": "small", "resources": {"CPU": 1}}]}
    async with running_stack(spec) as stack:
        machine = SystemProcesses()
        address = f"ray://127.0.0.1:{client_port(stack.head.pid)}"
        clients: list[Identity] = []
        logs = [stack.base / f"client{number}.log" for number in range(SESSIONS)]
        (stack.base / "client.py").write_text(CLIENT)
        try:
            for log in logs:
                clients.append(await session(stack, machine, address, log))  # noqa: PERF401 - one that fails must not hide the others from the end
            await stack.driver(WORK)
            await stack.until(stack.all_gone, "a scale-down")
            for part in ("service", "monitor"):
                await stack.kill(part)
                await asyncio.sleep(2)
                await stack.start_again(part)
            await stack.driver(WORK)
            await stack.until(stack.all_gone, "another scale-down")
            (stack.base / "over").touch()
            codes = [await machine.wait(client) for client in clients]
            assert codes == [0] * SESSIONS, [log.read_text()[-2000:] for log in logs]
            print("calls without a break:", [log.read_text().split()[-1] for log in logs])
        finally:
            await asyncio.gather(*(end(machine, client, 0.0) for client in clients))
