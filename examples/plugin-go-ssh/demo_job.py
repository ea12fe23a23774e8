"""The demo's job: tasks that each write a line to a ledger: NAME INDEX MACHINE. Usage: demo_job.py ADDRESS LEDGER NAME COUNT MACHINES

It waits until so many machines have joined: some may still be on their way from a head that was lost, and fewer would do all the tasks.
"""

import os
import socket
import sys
import time
from pathlib import Path

import ray

HOLD_S = 3.0
JOIN_S = 120.0


@ray.remote(num_cpus=1, max_retries=3)
def task(ledger, name, index):
    time.sleep(HOLD_S)  # the task's work: it holds its CPU for so long
    with Path(ledger).open("a", encoding="utf-8") as file:
        file.write(f"{name} {index} {socket.gethostname()}\n")
    return os.getpid()


def joined():
    return sum(node["Alive"] and "CPU" in node["Resources"] for node in ray.nodes())


def main(address, ledger, name, count, machines):
    ray.init(address=address, log_to_driver=False)
    last_at = time.monotonic() + JOIN_S
    while joined() < machines and time.monotonic() < last_at:
        time.sleep(0.2)  # Ray tells nobody who joins
    ray.get([task.remote(ledger, name, index) for index in range(count)])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
