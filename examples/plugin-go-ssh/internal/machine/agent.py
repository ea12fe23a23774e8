"""What runs on a machine for as long as the plugin's session lasts: starts workers, ends them, tells how they stand. Keeps nothing in memory only.

It comes over the session itself and is not kept there. One JSON message a line: orders at stdin, each with a number; at stdout, after MARK, the
answers, a whole view at first, then each change. Standard library, Python 3.9 on, Linux.

A worker is a session of its own: `<state>/<cluster>/<id>.json` is its record, `.log` its output, `.sock` its supervisor's door. It is known by pid, start time and
boot, and all that it starts by a variable with a number that is never used again; every signal goes through a pidfd that was checked after it was opened.
The newest agent of a state directory is the only one that acts: an older one, whose session hangs somewhere, finds its ticket gone and ends.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import selectors
import signal
import socket
import subprocess
import sys
import time
import uuid

MARK = "rayscaler-agent: "  # before each line of ours: a login script may print others
VARIABLE = "RAYSCALER_SSH_WORKER"  # in the environment of all that a worker starts
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}")
STARTED_LINE, DRAINED_LINE = b"Ray runtime started.", b"rejoin: ending: its node was drained"
MEANINGS = {
    0: "it ended by itself",
    90: "its node was drained",
    91: "`ray` cannot be run",
    92: "its prelude failed",
    93: "its supervisor was started wrongly",
}
LOOK_S, IDLE_S = 0.1, 1.0  # between two looks while something is awaited that tells nobody, and otherwise
SILENCE_S = 45.0  # without an order for so long, the plugin is taken for gone; it sends one every few seconds
STARTING_GRACE_S = 5.0  # from SIGTERM to SIGKILL for a worker that is not up: it has no work
TAIL_BYTES, LOGS_KEPT = 2000, 50  # of a log in an error; of dead workers, per cluster


class Refused(Exception):
    """An order that is not carried out; the first argument is a word for the plugin, the second is for people."""


class Worker:
    """One worker: its record on disk, and what is known only while it is followed."""

    def __init__(self, path: str, record: dict) -> None:
        self.path, self.record = path, record
        self.key = record["cluster"], record["instance_id"]
        self.pidfd = -1
        self.door: socket.socket | None = None  # the supervisor's
        self.child: subprocess.Popen | None = None
        self.told: dict = {}
        self.says, self.heard = "", b""
        self.is_dead, self.code = False, None
        self.killed = False

    @property
    def stem(self) -> str:
        return self.path[: -len(".json")]

    @property
    def log_path(self) -> str:
        return self.stem + ".log"

    @property
    def variable(self) -> bytes:
        return f"{VARIABLE}={self.record['mark']}".encode()

    def save(self, **changes: object) -> None:
        """Put a record in place of the former one, all or nothing, also in a power cut."""
        self.record.update(changes)
        with open(self.path + ".new", "w", opener=private) as file:
            json.dump(self.record, file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(self.path + ".new", self.path)
        directory = os.open(os.path.dirname(self.path), os.O_RDONLY)
        os.fsync(directory)
        os.close(directory)

    def note(self, **changes: object) -> None:
        """Save what may be lost: a full disk must not keep a worker alive, nor end an agent; it is found out, or asked for, again."""
        with contextlib.suppress(OSError):
            self.save(**changes)

    def view(self, phase: str = "", error: str = "") -> dict:
        ending = self.record["ending_at"] is not None
        detail = self.says or f"pid {self.record['pid']}, log {self.log_path}"
        phase = phase or ("ENDING" if ending else "REGISTERING" if self.record["was_up"] else "STARTING")
        return {
            **{name: self.record[name] for name in ("cluster", "instance_id", "spec")},
            "phase": phase,
            "detail": detail,
            "error": error,
        }


class Agent:
    """All workers of a state directory."""

    def __init__(self, order: dict) -> None:
        self.root = os.path.abspath(os.path.expanduser(order["state_dir"]))
        self.grace_s, self.ticket = float(order["grace_s"]), order["ticket"]
        self.workers: dict[tuple[str, str], Worker] = {}
        self.selector = selectors.DefaultSelector()
        self.heard_at, self.pending = time.monotonic(), b""
        os.makedirs(self.root, mode=0o700, exist_ok=True)
        self.lock = os.open(os.path.join(self.root, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
        with self.alone(new=True):
            for cluster in sorted(os.listdir(self.root)):
                if os.path.isdir(os.path.join(self.root, cluster)):
                    self.adopt_all(os.path.join(self.root, cluster))

    @contextlib.contextmanager
    def alone(self, new: bool = False):
        """Hold the state directory while something in it changes; ends an agent that another one has followed."""
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        try:
            path = os.path.join(self.root, "ticket")
            if new:
                with open(path, "w", opener=private) as file:
                    file.write(self.ticket)
            with open(path) as file:
                if file.read() != self.ticket:
                    sys.exit(f"another session has taken over {self.root}: two plugins must not share a machine's state_dir")
            yield
        finally:
            fcntl.flock(self.lock, fcntl.LOCK_UN)

    def adopt_all(self, directory: str) -> None:
        for name in sorted(os.listdir(directory)):
            if name.endswith(".json"):
                worker = read(os.path.join(directory, name))
                if worker.record["pid"] is None:  # whoever began it was cut off between intent and start
                    found = [pid for pid in marked(worker.variable) if fields(pid)[3:4] == [str(pid)]]
                    if not found:
                        self.forget(worker)
                        continue
                    worker.save(pid=found[0], started=started(found[0]), boot=boot())
                self.follow(worker)

    def follow(self, worker: Worker) -> None:
        self.workers[worker.key] = worker
        pid = worker.record["pid"]
        with contextlib.suppress(ProcessLookupError):
            worker.pidfd = os.pidfd_open(pid)
        if worker.pidfd < 0 or not is_same(worker.record):
            self.died(worker)
            return
        self.selector.register(worker.pidfd, selectors.EVENT_READ, lambda: self.died(worker))
        if worker.record["ending_at"] is not None:
            signal.pidfd_send_signal(worker.pidfd, signal.SIGTERM)

    # orders

    def launch(self, order: dict) -> dict:
        key = order["cluster"], order["instance_id"]
        for name in key:
            if not NAME.fullmatch(name):
                raise Refused("INVALID_REQUEST", f"{name!r} cannot be the name of a file")
        with self.alone():
            if key in self.workers:
                return {"one": self.workers[key].view()}
            if len(self.workers) >= order["slots"]:
                raise Refused("FULL", f"{len(self.workers)} of {order['slots']} slots are taken")
            try:
                return {"one": self.start(order).view()}
            except OSError as error:
                raise Refused("UNAVAILABLE", f"cannot start a worker: {error}") from error

    def start(self, order: dict) -> Worker:
        directory = os.path.join(self.root, order["cluster"])
        os.makedirs(directory, mode=0o700, exist_ok=True)
        record = {name: order[name] for name in ("cluster", "instance_id", "spec")}
        record.update(
            mark=uuid.uuid4().hex, pid=None, started=None, boot=None, ending_at=None, was_up=False, supervised=bool(order["supervisor"])
        )
        worker = Worker(os.path.join(directory, order["instance_id"] + ".json"), record)
        environment = {name: value for name, value in os.environ.items() if name not in order["not_inherited"]}
        environment.update(order["env"])
        environment["PATH"] = os.path.dirname(sys.executable) + os.pathsep + environment.get("PATH", os.defpath)
        environment[VARIABLE] = record["mark"]
        argv = [*self.supervisor(order, worker), *order["argv"]]
        worker.save()
        try:
            with open(worker.log_path, "ab", opener=private) as log:
                worker.child = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd=os.path.expanduser("~"),
                    env=environment,
                    start_new_session=True,
                )
            worker.save(pid=worker.child.pid, started=started(worker.child.pid), boot=boot())
        except OSError:
            kill_marked(worker.variable)
            self.forget(worker)
            raise
        self.follow(worker)
        return worker

    def supervisor(self, order: dict, worker: Worker) -> list[str]:
        """Return what goes before the command, with its file written if it is not there."""
        text = order["supervisor"]
        if not text:
            return []
        path = os.path.join(self.root, f"supervisor-{hashlib.sha256(text.encode()).hexdigest()[:16]}.py")
        if not os.path.exists(path):
            with open(path + ".new", "w", opener=private) as file:
                file.write(text)
            os.replace(path + ".new", path)
        lock = os.path.join(self.root, "start.lock")  # Ray chooses a raylet's socket by what is there: one start at a time
        flags = ["--gcs", order["head_address"], "--socket", door_path(worker), "--lock", lock]
        return [sys.executable, "-I", "-S", path, "worker", *flags, "--"]

    def end(self, order: dict) -> dict:
        with self.alone():
            worker = self.workers.get((order["cluster"], order["instance_id"]))
            if worker is not None and worker.record["ending_at"] is None:
                worker.note(ending_at=time.time())
                worker.says = ""
                if not worker.is_dead:
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(worker.pidfd, signal.SIGTERM)
            return {} if worker is None else {"one": worker.view()}

    # what happens

    def died(self, worker: Worker) -> None:
        worker.is_dead = True
        if worker.child is not None:
            worker.code = worker.child.wait()
        if worker.pidfd >= 0:
            with contextlib.suppress(KeyError):
                self.selector.unregister(worker.pidfd)
            os.close(worker.pidfd)
            worker.pidfd = -1
        self.close_door(worker)

    def look(self, worker: Worker) -> None:
        """Do what is due for a worker, and tell what has changed."""
        if worker.is_dead:
            if kill_marked(worker.variable):
                return  # until nothing of it runs
            self.gone(worker)
            return
        ending_at = worker.record["ending_at"]
        grace_s = self.grace_s if worker.record["was_up"] else min(STARTING_GRACE_S, self.grace_s)
        if ending_at is not None and not 0 <= time.time() - ending_at < grace_s:
            worker.killed = True
            kill_marked(worker.variable)
        if worker.door is None and worker.record["supervised"]:
            self.open_door(worker)
        elif not worker.record["supervised"] and not worker.record["was_up"]:
            with open(worker.log_path, "rb") as log:
                if STARTED_LINE in log.read():
                    worker.note(was_up=True)
        self.tell(worker)

    def gone(self, worker: Worker) -> None:
        del self.workers[worker.key]
        tail = end_of(worker.log_path)
        was_asked = worker.record["ending_at"] is not None
        how = "killed: it did not end in time" if worker.killed else "ended" if was_asked else meaning(worker.code, tail)
        worker.says = how
        error = "" if was_asked else f"{how}; {end_of_text(tail)}"
        self.forget(worker, keep_log=not was_asked)
        say({"one": worker.view("GONE", error)})

    def forget(self, worker: Worker, keep_log: bool = False) -> None:
        for path in (worker.path, door_path(worker), *(() if keep_log else (worker.log_path,))):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        directory = os.path.dirname(worker.path)
        names = os.listdir(directory)
        logs = [os.path.join(directory, name) for name in names if name.endswith(".log") and name[:-4] + ".json" not in names]
        for path in sorted(logs, key=os.path.getmtime, reverse=True)[LOGS_KEPT:]:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def open_door(self, worker: Worker) -> None:
        door = socket.socket(socket.AF_UNIX)
        directory = os.open(os.path.dirname(worker.path), os.O_PATH)
        try:  # by way of the directory: a socket's own path has 107 characters at most
            door.connect(f"/proc/self/fd/{directory}/{os.path.basename(door_path(worker))}")
        except OSError:
            door.close()
            return
        finally:
            os.close(directory)
        door.setblocking(False)
        worker.door = door
        self.selector.register(door, selectors.EVENT_READ, lambda: self.listen(worker))

    def close_door(self, worker: Worker) -> None:
        if worker.door is not None:
            self.selector.unregister(worker.door)
            worker.door.close()
            worker.door = None

    def listen(self, worker: Worker) -> None:
        """Take what a supervisor tells."""
        data = b""
        if worker.door is not None:
            with contextlib.suppress(BlockingIOError, ConnectionError):
                data = worker.door.recv(65536)
        if not data:
            self.close_door(worker)
            return
        *lines, worker.heard = (worker.heard + data).split(b"\n")
        for line in lines:
            status = json.loads(line)
            worker.says = "" if status["state"] == "running" else f"{status['state']}: {status['detail']}"
            if status["state"] == "running" and not worker.record["was_up"]:
                worker.note(was_up=True)
        self.tell(worker)

    def tell(self, worker: Worker) -> None:
        view = worker.view()
        if view != worker.told:
            worker.told = view
            say({"one": view})

    def orders(self) -> None:
        data = os.read(0, 1 << 20)
        if not data:
            sys.exit(0)  # the session is closed; the workers live on
        self.heard_at = time.monotonic()
        *lines, self.pending = (self.pending + data).split(b"\n")
        for line in lines:
            order = json.loads(line)
            act = {"launch": self.launch, "end": self.end, "ping": lambda _: {}}[order["do"]]
            try:
                say({"re": order["id"], **act(order)})
            except Refused as refused:
                say({"re": order["id"], "no": refused.args[0], "why": refused.args[1]})

    def run(self) -> None:
        for worker in [*self.workers.values()]:
            if not worker.is_dead and worker.record["supervised"]:
                self.open_door(worker)
            worker.told = worker.view()
        say({"all": [worker.told for worker in self.workers.values()]})
        self.selector.register(0, selectors.EVENT_READ, self.orders)
        while time.monotonic() - self.heard_at < SILENCE_S:
            restless = any(each.is_dead or each.door is None or each.record["ending_at"] is not None for each in self.workers.values())
            for key, _ in self.selector.select(LOOK_S if restless else IDLE_S):
                key.data()
            for worker in [*self.workers.values()]:
                self.look(worker)
        sys.exit(f"no order came for {SILENCE_S:g} s")


def say(message: dict) -> None:
    """Write one message; whoever does not read ends us by closing the pipe."""
    data = (MARK + json.dumps(message) + "\n").encode()
    while data:
        data = data[os.write(1, data) :]


def read(path: str) -> Worker:
    """Read a record; ends the agent rather than leave one out. What stands in it may be nobody's business."""
    try:
        with open(path) as file:
            return Worker(path, json.load(file))
    except (ValueError, KeyError, TypeError):
        sys.exit(f"{path} is not readable as a record: end its process by hand and remove the file")


def private(path: str, flags: int) -> int:
    """Open a file that is made for its owner alone."""
    return os.open(path, flags, 0o600)


def door_path(worker: Worker) -> str:
    """Return where its supervisor answers: a short name, for an id may be longer than a socket's can be."""
    return os.path.join(os.path.dirname(worker.path), hashlib.sha256(worker.key[1].encode()).hexdigest()[:16] + ".sock")


def fields(pid: int) -> list[str]:
    """Return /proc/<pid>/stat from the state on: state, parent, group, session, and 19 on the start time; nothing of one that is collected."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return file.read().rpartition(") ")[2].split()
    return []


def started(pid: int) -> int:
    """Return when a process started, in clock ticks since the boot; 0 if there is none."""
    return int((fields(pid)[19:20] or ["0"])[0])


def boot() -> str:
    """Return the id of this boot, and of this machine's root among those of one kernel."""
    with open("/proc/sys/kernel/random/boot_id") as file:
        return file.read().strip()


def is_same(record: dict) -> bool:
    """Whether the process of a record runs, and not another with its number."""
    return record["boot"] == boot() and started(record["pid"]) == record["started"] and fields(record["pid"])[0] not in ("Z", "X")


def has_variable(pid: int, variable: bytes) -> bool:
    """Whether a process that runs was started with a variable."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/environ", "rb") as file:
        return variable in file.read().split(b"\0")
    return False


def marked(variable: bytes) -> list[int]:
    """Return every process with a variable: a worker and all below it, whatever sessions they are in."""
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if has_variable(pid, variable)]


def kill_marked(variable: bytes) -> int:
    """Kill every process with a variable; return to how many a signal was sent."""
    count = 0
    for pid in marked(variable):
        with contextlib.suppress(ProcessLookupError), open(os.pidfd_open(pid), "rb", buffering=0) as pidfd:
            if has_variable(pid, variable):
                signal.pidfd_send_signal(pidfd.fileno(), signal.SIGKILL)
                count += 1
    return count


def end_of(path: str) -> bytes:
    """Return the end of a log."""
    with contextlib.suppress(OSError), open(path, "rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - TAIL_BYTES))
        return log.read()
    return b""


def end_of_text(tail: bytes) -> str:
    """Return the end of a log for people."""
    return "its log ends with: " + (tail.decode(errors="replace").strip() or "(nothing)")


def meaning(code: int | None, tail: bytes) -> str:
    """Say what an end means that nobody asked for; a code is known of those only that this agent started."""
    if DRAINED_LINE in tail:
        return MEANINGS[90]
    if code is None:
        return "exited, exit code unknown (an earlier session started it)"
    return f"killed by signal {-code}" if code < 0 else MEANINGS.get(code, f"exit code {code}")


def main() -> None:
    """Take the first order, which says where the state is, then all others."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # of a session that was lost; it ends by the silence
    first = b""
    while not first.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return
        first += byte
    try:
        Agent(json.loads(first)).run()
    except BrokenPipeError:
        return


main()
