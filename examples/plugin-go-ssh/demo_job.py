"""The demo's job: tasks that each write a line to a ledger: NAME INDEX MACHINE. Usage: demo_job.py ADDRESS LEDGER NAME COUNT"""

import os
import socket
import sys
import time
from pathlib import Path

import ray

HOLD_S = 3.0


@ray.remote(num_cpus=1, max_retries=3)
def task(ledger, name, index):
    time.sleep(HOLD_S)  # the task's work: it holds its CPU for so long
    with Path(ledger).open("a", encoding="utf-8") as file:
        file.write(f"{name} {index} {socket.gethostname()}\n")
    return os.getpid()


def main(address, ledger, name, count):
    ray.init(address=address, log_to_driver=False)
    ray.get([task.remote(ledger, name, index) for index in range(count)])


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))
