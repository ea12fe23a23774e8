"""Case `head-loss`: from kill -9 of a head to the start of the first task of a job that is submitted again, stamped inside the task.

The task needs a custom resource that only workers have. Our head is run again at once by its keeper, as under `rayscaler up`, and the
worker there is kept: the split says whose the seconds are. Neither service nor monitor is on that way, for nothing has to be launched.
The anchor's head is started again at once too, with Ray's own autoscaler beside it; workers stand for other machines and are not killed;
a task on any of them counts, and there is a deadline. Its provider forgets its workers with the head, so it starts another one.

As a program, python -m tests.bench.head_loss ADDRESS, it is the job: it waits for a line of standard input, then for a head that
answers, submits one task, and prints the moments that it saw.
"""

import json
import os
import random
import select
import signal
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, closing, suppress
from itertools import pairwise
from typing import Any, Self

from rayscaler.local import startup
from tests.bench import worlds
from tests.bench.result import Options, Result, anchored, say, spread
from tests.bench.worlds import World

SAMPLES = 4
ANCHORS = 2
TARGET_S = 12.0
OURS_TARGET_S = 1.0
"""Of the whole: what neither Ray's start of its head nor that of its raylet nor Ray's placing of a task takes."""
RUN_S = 150.0
"""Whoever has not started the task by then is told as not within."""
PHASE_S = 2.0
"""The kill waits for a moment drawn by seed."""
POLL_S = 0.02
"""Between two looks: what is measured is told to within so much."""
WORKER = {**worlds.WORKER, "kept": 1}
SPLIT = {
    "relaunch": "killed to the new `ray start` (ours)",
    "gcs": "to the GCS answering (Ray)",
    "head": "to the head's node alive (Ray)",
    "noticing": "to the supervisor having the new id and the old raylet killed (ours)",
    "turn": "to the worker's new `ray start` (ours)",
    "rejoin": "to the node alive (Ray)",
    "first_task": "to the task's start (Ray)",
}
"""Parts of our way, in their order."""
OURS = ("relaunch", "noticing", "turn")


def run(options: Options) -> Result:
    """Measure both sides, interleaved as far as they go."""
    rng = random.Random(options.seed)
    samples, anchors = options.samples or SAMPLES, options.pairs or ANCHORS
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float] | None] = []
    for index in range(max(samples, anchors)):
        phase_s = rng.uniform(0.0, PHASE_S)
        if index < samples:
            ours.append(_measure(worlds.ours(WORKER, is_kept=True), phase_s, _lose_ours))
            say(f"sample {index + 1}: ours {ours[-1]['total']:.2f} s, split {_rounded(ours[-1])}; load {os.getloadavg()[0]:.1f}")
        if index < anchors:
            theirs.append(anchored(lambda phase_s=phase_s: _measure(worlds.anchor(WORKER), phase_s, _lose_anchor)))
            say(f"anchor {index + 1}: {_told(theirs[-1])}; load {os.getloadavg()[0]:.1f}")
    return _result(ours, [each for each in theirs if each is not None], options.seed)


def _result(ours: list[dict[str, float]], anchors: list[dict[str, float]], seed: int) -> Result:
    mine, theirs = [each["total"] for each in ours], [each["total"] for each in anchors]
    median, share = statistics.median(mine), statistics.median([each["ours"] for each in ours])
    split = {name: round(statistics.median(each[name] for each in ours), 3) for name in SPLIT}
    for name, what in SPLIT.items():
        say(f"  {name:<12}{split[name]:6.2f} s  {what}")
    extra = {
        "spread": spread(mine),
        "ours_of_it": round(share, 3),
        "split": split,
        "launches_meanwhile": int(sum(each["launched"] for each in ours)),
        "anchor_spread": spread(theirs) if theirs else None,
        "anchor_samples": len(theirs),
        "anchor_not_within": sum(each["total"] >= RUN_S for each in anchors),
        "anchor_on_kept_worker": sum(bool(each["is_same"]) for each in anchors),
        "anchor_workers_left_behind": int(sum(each["left_behind"] for each in anchors)),
        "seed": seed,
        "note": f"medians; anchor: Ray's autoscaler v2 with its fake multi-node provider, a task on any worker, {RUN_S:g} s at most",
    }
    target = f"ours median <= {TARGET_S:g} s, of it ours <= {OURS_TARGET_S:g} s"
    is_met = median <= TARGET_S and share <= OURS_TARGET_S and not extra["launches_meanwhile"]
    return Result("head-loss", median, statistics.median(theirs) if theirs else None, target, is_met, len(mine), extra)


def _measure(running: AbstractContextManager[World], phase_s: float, lose: Callable[[World, str], dict[str, float]]) -> dict[str, float]:
    """Have one worker come by a task, then lose the head."""
    with running as world:
        with _Job(world, "before") as job:
            kept = job.go(RUN_S)["instance"]
        time.sleep(phase_s)  # drawn by seed: samples meet Ray's and the supervisor's periods at all their phases
        return lose(world, kept)


def _lose_ours(world: World, kept: str) -> dict[str, float]:
    """Kill the kept head; return the total, the split, and how many workers were launched."""
    records = world.base / "state" / "run" / "bench"
    launched = {path.name for path in records.glob("*.json")}
    (path,) = records.glob("*.sock")
    with _Job(world, "after") as job, closing(_Supervisor(str(path))) as supervisor:
        killed_at = _kill(world.head_pids())
        seen = job.go(RUN_S)
        if seen is None or seen["instance"] != kept:
            raise RuntimeError(f"the task ran on {seen}, not on {kept}, within {RUN_S:g} s")
        told = supervisor.news(seen["cluster_id"])
    head = next(pid for pid in world.head_pids() if " start --head " in worlds.command_line(pid))
    moments = [
        killed_at,
        worlds.started_at(head),
        seen["gcs"],
        seen["head"],
        told["since"],
        max(told["since"], worlds.started_at(told["pid"])),  # to the clock tick
        seen["node"],
        seen["task"],
    ]
    split = {name: after - before for name, (before, after) in zip(SPLIT, pairwise(moments), strict=True)}
    meanwhile = {path.name for path in records.glob("*.json")} - launched
    return {"total": seen["task"] - killed_at, **split, "ours": sum(split[name] for name in OURS), "launched": len(meanwhile)}


def _lose_anchor(world: World, kept: str) -> dict[str, float]:
    """Kill the anchor's head and start it again at once; return the total, whether the task ran on the worker of before, else if that is left."""
    workers = _raylets(world) - world.head_pids()
    with _Job(world, "after") as job:
        killed_at = _kill(world.head_pids())
        starting = threading.Thread(target=worlds.start_anchor_head, args=(world,))
        starting.start()
        seen = job.go(RUN_S)
        starting.join()
    left_behind = len(workers & _raylets(world))
    if seen is None:
        return {"total": RUN_S, "is_same": False, "left_behind": left_behind}
    is_same = seen["instance"] == kept and bool(workers & _ancestors(seen["pid"]))
    return {"total": seen["task"] - killed_at, "is_same": is_same, "left_behind": left_behind - is_same}


def _kill(pids: set[int]) -> float:
    killed_at = time.time()
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return killed_at


def _raylets(world: World) -> set[int]:
    return {pid for pid in worlds.marked(world.mark) if "raylet/raylet " in worlds.command_line(pid)}


def _ancestors(pid: int) -> set[int]:
    found: set[int] = set()
    while pid > 1 and (fields := worlds.stat(pid)):
        found.add(pid)
        pid = int(fields[1])
    return found


def _rounded(figures: dict[str, float]) -> dict[str, float]:
    return {name: round(figures[name], 2) for name in (*SPLIT, "ours")}


def _told(figures: dict[str, float] | None) -> str:
    if figures is None:
        return "did not run"
    if figures["total"] >= RUN_S:
        return f"not within {RUN_S:g} s"
    return f"{figures['total']:.2f} s, on {'the worker of before' if figures['is_same'] else 'another worker'}, {figures['left_behind']} left behind"


class _Job:
    """The job's process: everything is loaded, and it waits for its word."""

    def __init__(self, world: World, name: str) -> None:
        argv = [sys.executable, "-m", "tests.bench.head_loss", world.address]
        self._log = world.log(f"job-{name}")
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(argv, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log)
        self._line(RUN_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._process.kill()
        with self._process:
            pass

    def go(self, within_s: float) -> Any:
        """Let it run; return what it saw, None if nothing came in time."""
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        return self._line(within_s)

    def _line(self, within_s: float) -> Any:
        if not select.select([self._process.stdout], [], [], within_s)[0]:
            return None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the job ended:\n{startup.tail(self._log)}")
        return json.loads(line)


class _Supervisor:
    """What the worker's supervisor tells at its socket, from now on."""

    def __init__(self, path: str) -> None:
        self._line = socket.socket(socket.AF_UNIX)
        self._line.connect(path)
        self._told: list[dict[str, Any]] = []
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def news(self, cluster_id: str) -> dict[str, Any]:
        """Return since when it rejoins the cluster, and the pid of the `ray start` by which it does."""
        told = [each for each in self._told if each["state"] == "rejoining" and each["cluster_id"] == cluster_id]
        return {"since": told[0]["since"], "pid": next(each["pid"] for each in told if each["pid"])}

    def close(self) -> None:
        """Listen no more."""
        self._line.shutdown(socket.SHUT_RDWR)
        self._reading.join()
        self._line.close()

    def _read(self) -> None:
        for line in self._line.makefile():
            self._told.append(json.loads(line))


def main(address: str) -> None:
    """Be the job."""
    import ray

    @ray.remote(num_cpus=1, resources={"kept": 1})
    def task() -> dict[str, Any]:
        return {"task": time.time(), "pid": os.getpid(), "instance": os.environ["RAY_CLOUD_INSTANCE_ID"]}

    print(json.dumps({"ready": True}), flush=True)
    sys.stdin.readline()
    seen: dict[str, Any] = {}
    watch = threading.Thread(target=_watch, args=(address, seen), daemon=True)
    watch.start()
    while True:
        try:
            ray.init(address=address, log_to_driver=False)
            break
        except (ConnectionError, RuntimeError, ValueError) as error:
            print(f"{time.time():.2f} no head yet: {error}", file=sys.stderr, flush=True)
            time.sleep(POLL_S)  # as a job's client does that tries again until there is a head
    seen["init"] = time.time()
    answer = ray.get(task.remote())
    watch.join()
    print(json.dumps({**seen, **answer}), flush=True)


def _watch(address: str, seen: dict[str, Any]) -> None:
    """Note when the GCS answers, when the head's node is alive, and a worker's."""
    from ray._raylet import GcsClient

    _await_listener(address)
    gcs = GcsClient(address=address)
    seen["cluster_id"] = gcs.cluster_id.hex()
    seen["gcs"] = time.time()
    while "node" not in seen:
        alive = [node for node in gcs.get_all_node_info().values() if node.state == 0]
        if any(node.is_head_node for node in alive):
            seen.setdefault("head", time.time())
        if any(not node.is_head_node for node in alive):
            seen["node"] = time.time()
        time.sleep(POLL_S)  # Ray's client has no call that waits for a node


def _await_listener(address: str) -> None:
    host, _, port = address.rpartition(":")
    while True:
        with suppress(OSError), socket.create_connection((host, int(port)), 1.0):
            return
        time.sleep(POLL_S)  # nobody tells that a port is about to be listened on


if __name__ == "__main__":
    main(sys.argv[1])
