"""A head that is lost while `ray start` starts: what was begun under it is no failure of the worker, and is begun anew. And no signal is lost."""

import os
import signal
from pathlib import Path

import pytest

from tests.rejoin import standin
from tests.rejoin.supervised import Supervised, soon

BOTH = {signal.SIGCHLD, signal.SIGTERM}
pytestmark = pytest.mark.tier("protocol")

RAY = """
import os, subprocess, sys, time
from pathlib import Path

mark = os.environ["STAND_IN_ID"]
with open(mark + ".starts", "a") as log:
    log.write("x\\n")
if Path(mark + ".starts").stat().st_size > 2:  # the second start goes well
    print("Ray runtime started.", flush=True)
    time.sleep(600)
raylet = subprocess.Popen([sys.argv[1], "--node", "--cluster-id=" + Path(mark).read_text(), "--end"])
raylet.kill()  # it stays a zombie: `ray start` looks at it only when it has given up
time.sleep(600)
"""

SLOW_RAY = """
import os, socket, subprocess, sys, time
from pathlib import Path

mark = os.environ["STAND_IN_ID"]
with open(mark + ".starts", "a") as log:
    log.write("x\\n")
path = mark + ".sock"
Path(path).unlink(missing_ok=True)
raylet = subprocess.Popen([sys.argv[1], "--raylet_socket_name=" + path, "--cluster-id=" + Path(mark).read_text(), "--end"])
time.sleep(0.05)  # the child is what it is only after its exec
socket.socket(socket.AF_UNIX).bind(path)
while not Path(mark + ".go").exists():
    time.sleep(0.02)  # waits for its node to be told by the GCS
print("Ray runtime started.", flush=True)
time.sleep(600)
"""


@pytest.fixture
def ray(tmp_path):
    made = standin.Ray(tmp_path)
    made.argv[3] = RAY
    return made


@pytest.fixture
async def worker(tmp_path, gcs, ray):
    made = Supervised(tmp_path, "worker", ray.argv, ray.env, gcs=gcs.address)
    yield made
    await made.close()


async def until_raylet_died(worker: Supervised) -> None:
    await soon(lambda: "raylet Z" in worker.names())  # another zombie may be the child that asked for the id, before any start


async def test_a_first_start_whose_raylet_died_with_the_old_head_is_begun_anew_at_the_new_one(worker, gcs, ray):
    await until_raylet_died(worker)
    gcs.close()
    await worker.until("waiting")
    ray.name("bb22")
    gcs.open()
    assert (await worker.until("running"))["starts"] == 2


async def test_a_start_under_way_when_the_head_was_lost_is_ended_at_once_and_begun_anew(worker, gcs, ray):
    await soon(lambda: ray.starts == 1)
    gcs.close()
    await worker.until("waiting")
    await soon(lambda: worker.states[-1]["pid"] == 0)  # its raylet must not take the name that the new head's is about to take
    gcs.open()
    assert (await worker.until("running"))["starts"] == 2


async def has_raylet(ray) -> None:
    await soon(Path(f"{ray.id_path}.sock").exists)


def go_on(ray) -> None:
    """Let `ray start` say that all is up."""
    Path(f"{ray.id_path}.go").touch()


async def test_a_raylet_that_listens_when_the_head_is_lost_is_left_alone_until_the_id_is_known(tmp_path, gcs, ray):
    ray.argv[3] = SLOW_RAY
    worker = Supervised(tmp_path, "worker", ray.argv, ray.env, gcs=gcs.address)
    try:
        await has_raylet(ray)
        raylet = worker.pid_of("raylet")
        gcs.close()
        await worker.until("waiting")
        gcs.open()
        await worker.until("starting", after=len(worker.states))
        go_on(ray)
        assert (await worker.until("running"))["starts"] == 1
        assert worker.pid_of("raylet") == raylet, "a task may have begun there"
    finally:
        await worker.close()


@pytest.mark.parametrize("is_raylet_dead", [True, False], ids=["its raylet died", "its raylet lives"])
async def test_at_another_cluster_a_start_under_way_is_begun_anew_at_once(tmp_path, gcs, ray, is_raylet_dead: bool):
    ray.argv[3] = SLOW_RAY
    worker = Supervised(tmp_path, "worker", ray.argv, ray.env, gcs=gcs.address)
    try:
        await has_raylet(ray)
        raylet = worker.pid_of("raylet")
        gcs.close()
        await worker.until("waiting")
        if is_raylet_dead:  # `ray start` would look at it in 30 s
            os.kill(raylet, signal.SIGKILL)
        ray.name("bb22")
        gcs.open()
        await worker.until("rejoining", 2)
        go_on(ray)
        assert (await worker.until("running", 2))["cluster_id"] == "bb22"
        assert worker.pid_of("raylet") != raylet
    finally:
        await worker.close()


async def test_one_thread_waits_for_signals_and_no_other_can_take_them_away(worker):
    await until_raylet_died(worker)
    open_to = [task for task in tasks(worker.pid) if BOTH - blocked(worker.pid, task)]
    assert len(open_to) <= 1  # it may be on its way back
    assert open_to != [worker.pid], "the main thread sleeps in a lock, out of which no signal wakes it for sure"
    await soon(lambda: worker.states[-1:] != [] and worker.states[-1]["pid"] != 0)
    command = worker.states[-1]["pid"]
    assert not BOTH & blocked(command, command), "what it starts blocks none"


def tasks(pid: int) -> list[int]:
    return [int(each.name) for each in Path(f"/proc/{pid}/task").iterdir()]


def blocked(pid: int, task: int) -> set[int]:
    try:
        text = Path(f"/proc/{pid}/task/{task}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # a thread that has ended takes no signal away
        return set(range(1, 65))
    (mask,) = [int(line.split()[1], 16) for line in text.splitlines() if line.startswith("SigBlk:")]
    return {number for number in range(1, 65) if mask >> (number - 1) & 1}
