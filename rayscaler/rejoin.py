"""The supervisor: keeps a Ray worker with its cluster over the loss of a head, or any command alive. Knows nothing of rayscaler.

    python -I -S rejoin.py worker --gcs HOST:PORT [--socket PATH] [--lock PATH] [--prelude SHELL] -- ray start --address=... --block ...
    python -I -S rejoin.py keep [--socket PATH] -- COMMAND ...

One self-contained file of the standard library (Python 3.9 on, Linux, 15 MiB at most: so no pathlib), for any Ray image.
worker: runs the prelude once, waits for the GCS, runs `ray start`, holds a connection to the GCS. When that was lost and a GCS answers
again, a child (of the Python that the first line of `ray` names) asks for its cluster id. The raylet's own: it is left alone. Another: all
below is killed, `ray start` run again. After a drain nothing is started again. `--lock`: others here start in the same session directory,
and may ask the same; it is held while `ray start` starts, and a head that was away comes up first.
keep: runs the command again after each exit, when what it left in its session was killed; a service's workers have their own, and stay.
SIGTERM, in both: forwarded once, no start after it; where neither head nor work is left, it is the end. Who connects to the socket gets as
a JSON line, now and at each change: {"state": "starting|running|waiting|rejoining|ending", "since": wall seconds, "starts", "cluster_id", "pid", "detail"}
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import sys
import time
from _queue import Empty, SimpleQueue
from _thread import LockType, allocate_lock, start_new_thread
from collections.abc import Callable
from functools import partial

ENDED, DRAINED, NOT_RUNNABLE, PRELUDE_FAILED, USAGE = 0, 90, 91, 92, 93  # else the failing command's code; 128 + n: killed by signal n
STARTED, DRAIN_DETAIL = b"Ray runtime started.", "its node was drained"  # what `ray start` prints once its processes run; what we tell
FAILURES, FAILURES_S = 3, 600.0  # so many restarts in place in so many seconds; the next failure ends the supervisor
LINE_S, ASK_S = 3.0, 15.0  # for a new connection to speak; for the child that asks (0.4 s alone, most of it Ray's import)
PROBE_S, SILENCE_S = 10, 5  # the kernel probes a connection so often; without an answer for so long it is lost: a machine died
PAUSE_S = (0.1, 3.0)  # least and most between two tries to connect: 5 % of the outage so far
VERDICT_S = 5.0  # `ray start` looks at its raylet once a second: if it still runs so long after, it takes the end for orderly
LOCK_S, KILL_S, PUMP_S = 60.0, 10.0, 1.0  # longest hold of the lock; for the killed to be gone; for their last output to be passed on
KEEP_PAUSES_S, KEEP_ANEW_S = (0.0, 1.0, 2.0, 5.0, 10.0), 60.0  # between two runs; a run so long starts the row anew
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))  # a silent client is sent away after 120 s
SETTINGS, PING, GOAWAY, ACK, FRAME_HEAD = 4, 6, 7, 1, 9
BY = ["/bin/sh", "-c", 'read -r l <"$(command -v "$1")"; shift; case $l in "#!"*python*) exec ${l#??} -c "$@"; esac; exec "$0" -c "$@"']
ASK = """import fcntl, socket, sys, time; gcs, lock, since = sys.argv[1:]; board = lock and open(lock + ".id", "a+")
if board:  # what was true for another worker here, after the connection to this GCS was made, is true for this one
    fcntl.flock(board, fcntl.LOCK_EX); board.seek(0); told = [*board.read().split(), "", "0"]
    told[0] == gcs and float(told[1]) > float(since) and sys.exit(print("the id is: " + told[2]))
sys.path[:] = filter(None, sys.path); import ray._raylet; client = ray._raylet.GcsClient(address=gcs)
nodes = lambda: [(n.node_manager_address, n.node_manager_port) for n in client.get_all_node_info().values() if n.is_head_node and not n.state]
while (at := time.monotonic()) and lock and all(map(socket.socket().connect_ex, nodes())): time.sleep(0.05)  # a killed head seems alive for seconds
board and (board.truncate(0), print(gcs, at, client.cluster_id.hex(), file=board, flush=True)); print("the id is: " + client.cluster_id.hex())"""


class Keeper:  # what blocks, waits in a thread that posts a call; the main thread decides
    """Mode keep: one command, run again after each exit. And what mode worker shares with it: calls, timers, children, the socket."""

    _kills_all = _is_ending = _is_up = False
    _lost_at: float | None = None

    def __init__(self, argv: list[str], options: dict[str, str]) -> None:
        self._argv, self._options = argv, options
        self._code: int | None = None  # set: the end
        self._command, self._starts, self._row, self._began_at, self._cluster_id = 0, 0, 0, 0.0, ""
        self._calls: SimpleQueue[Callable[[], None]] = SimpleQueue()  # from threads
        self._timers: dict[str, tuple[float, Callable[[], object]]] = {}
        self._children: dict[int, Callable[[int], None]] = {}
        self._watchers: list[socket.socket] = []
        self._state: dict[str, object] = {"state": ""}
        ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER: who loses its parent becomes our child, so that all below is found
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD, signal.SIGTERM))  # a handler would run only once the main thread wakes
        start_new_thread(self._await_signals, ())

    def run(self) -> int:
        """Run until there is an exit code, and leave nothing."""
        if "--socket" in self._options:
            self._listen(self._options["--socket"])
        self._calls.put(self._begin)
        while self._code is None:
            due = min((at for at, _ in self._timers.values()), default=None)
            try:
                self._calls.get(timeout=None if due is None else max(0.0, due - time.monotonic()))()
            except Empty:
                self._timers.pop(min(self._timers, key=lambda name: self._timers[name][0]))[1]()
            except OSError as error:
                self._tell("ending", f"cannot go on: {error}")
                self._code = NOT_RUNNABLE
        self._kill_below()
        with contextlib.suppress(OSError):
            os.unlink(self._options.get("--socket", ""))
        return self._code if self._code >= 0 else 128 - self._code

    def _await_signals(self) -> None:
        while True:
            self._calls.put(self._reap if signal.sigwait((signal.SIGCHLD, signal.SIGTERM)) == signal.SIGCHLD else self._told_to_end)

    def _begin(self) -> None:
        self._starts, self._began_at = self._starts + 1, time.monotonic()
        self._command, self._is_up = self._spawn(self._argv), True
        self._children[self._command] = self._exited
        self._tell("running", f"pid {self._command}")

    def _exited(self, code: int) -> None:
        self._command = 0
        self._kill_below()
        self._code = ENDED if self._is_ending else None
        self._row = 1 if time.monotonic() - self._began_at >= KEEP_ANEW_S else self._row + 1
        pause_s = KEEP_PAUSES_S[min(self._row, len(KEEP_PAUSES_S)) - 1]
        self._tell("waiting", f"the command ended with exit code {code}; it runs again in {pause_s:g} s")
        self._timers["run"] = (time.monotonic() + pause_s, self._begin)

    def _told_to_end(self) -> None:
        if not self._is_ending:
            self._tell("ending", "told to end")
            self._is_ending = True
            if self._command and self._is_up and self._lost_at is None:  # else Ray would only sit out the 30 s of its drain
                os.kill(self._command, signal.SIGTERM)
            else:
                self._code = ENDED

    def _spawn(self, argv: list[str], out: int = 1) -> int:
        outs = [(os.POSIX_SPAWN_DUP2, out, fd) for fd in (1, 2) if out != 1]
        return os.posix_spawnp(argv[0], argv, os.environ, file_actions=outs, setsigmask=(), setsigdef=(signal.SIGPIPE, signal.SIGXFSZ))

    def _spawn_read(self, argv: list[str]) -> tuple[int, int]:
        reader, writer = os.pipe()
        with open(writer, "wb"):
            return self._spawn(argv, writer), reader

    def _kill_below(self) -> None:  # until nothing is left; their exits are not judged
        self._children.clear()
        deadline, session = time.monotonic() + KILL_S, [str(os.getsid(0))]
        while (pids := [each for each in below() if self._kills_all or stat(each)[4:5] == session]) and time.monotonic() < deadline:
            for pid in pids:
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
            self._reap()
            time.sleep(0.005)  # the killed need a moment to go, and orphans one to become our children

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0]:
                self._children.pop(found[0], bool)(os.waitstatus_to_exitcode(found[1]))

    def _tell(self, state: str, detail: str) -> None:
        news = {**self._state, "detail": detail, "starts": self._starts, "cluster_id": self._cluster_id, "pid": self._command}
        if state != news["state"]:
            news.update(state=state, since=round(time.time(), 3))
        if news != self._state and not self._is_ending:
            self._state = news
            with contextlib.suppress(OSError):
                os.write(1, f"rejoin: {state}: {detail}\n".encode())
            for watcher in self._watchers:
                self._show(watcher)

    def _listen(self, path: str) -> None:
        with contextlib.suppress(OSError):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        directory = os.open(os.path.dirname(path) or ".", os.O_PATH)
        listener.bind(f"/proc/self/fd/{directory}/{os.path.basename(path)}")  # a socket's own path has 107 characters at most
        listener.listen()
        start_new_thread(self._accept, (listener,))

    def _accept(self, listener: socket.socket) -> None:
        while True:
            self._calls.put(partial(self._admit, listener.accept()[0]))

    def _admit(self, watcher: socket.socket) -> None:
        self._watchers = [*self._watchers[-7:], watcher]  # who comes after eight takes the place of the oldest
        self._show(watcher)

    def _show(self, watcher: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it has gone, or does not read
            watcher.send(json.dumps(self._state).encode() + b"\n", socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)


class Worker(Keeper):
    """Mode worker: a raylet that follows its cluster."""

    _kills_all = True  # a task's child with a session of its own must not outlive its node
    _raylet = _number = 0  # the latter: of what is waited for, lock or cluster id; with another number it comes too late
    _connected_at, _was_up, _began_as = 0.0, False, "starting"  # monotonic seconds; 0 is not connected
    _exit: int | None = None  # of a `ray start` whose end is not judged yet
    _failures: tuple[float, ...] = ()

    def _begin(self) -> None:
        self._tell("starting", "runs its prelude, then connects to the head")
        self._gcs, self._lock_path, self._pumped = self._options["--gcs"], self._options.get("--lock", ""), allocate_lock()
        self._unlock: Callable[[], None] = contextlib.ExitStack().close  # nothing yet
        self._children[self._spawn(["/bin/sh", "-c", self._options.get("--prelude", ":")])] = self._prepared

    def _prepared(self, code: int) -> None:
        self._code = PRELUDE_FAILED if code else None
        start_new_thread(self._hold, ())

    def _told(self, is_up: bool) -> None:  # of a change of the connection; its loss alone means nothing
        self._connected_at, was_connected = time.monotonic() * is_up, bool(self._connected_at)
        if not is_up:
            if self._command and not self._is_up and os.path.exists(self._find_raylet()):
                self._was_up = True  # `ray start` does not know it yet, but a task may run there already
            elif self._command and not self._is_up:
                self._clear()  # half of it is the old head's; it would hang, or take the new head's socket names
            elif self._is_ending and not was_connected and not self._is_busy():
                self._code = ENDED  # nothing to drain, and nobody to drain it with: Ray would wait 30 s for an answer
            self._wait("does not answer" + ("; the raylet runs on" if self._command else ""))
        else:
            self._ask() if self._command or (self._lock_path and self._lost_at is not None) else self._judge("")

    def _wait(self, why: str) -> None:
        self._number += 1
        self._exit = None  # without a head, no end is the raylet's own fault
        self._lost_at = time.monotonic() if self._lost_at is None else self._lost_at
        self._tell("waiting", f"the head at {self._gcs} {why}")
        pause_s = min(max(PAUSE_S[0], (time.monotonic() - self._lost_at) / 20), PAUSE_S[1]) * (0.5 + time.monotonic_ns() % 1000 / 2000)
        self._timers["retry"] = (time.monotonic() + pause_s, self._ask if self._connected_at else partial(start_new_thread, self._hold, ()))

    def _ask(self) -> None:
        self._number += 1
        pid, reader = self._spawn_read([*BY, sys.executable, self._argv[0], ASK, self._gcs, self._lock_path, str(self._connected_at)])
        self._children[pid] = partial(self._answered, self._number, reader)
        self._timers[f"ask {pid}"] = (time.monotonic() + ASK_S, lambda: os.kill(pid, 9) if pid in self._children else None)

    def _answered(self, number: int, reader: int, _: int) -> None:
        said = os.read(reader, 65536).decode(errors="replace")
        os.close(reader)
        cluster_id = said.partition("the id is: ")[2].partition("\n")[0]  # Ray may log before and after
        if number == self._number:
            self._judge(cluster_id) if cluster_id else self._wait(f"does not tell its cluster id: {said[-200:]!r}")

    def _judge(self, cluster_id: str) -> None:  # what a head means that answers, with this id if it was asked
        self._lost_at, code, self._exit = None, self._exit, None
        if self._command:
            self._compare(cluster_id)
        elif code is None or (self._was_up and cluster_id != self._cluster_id):
            self._cluster_id = cluster_id or self._cluster_id
            self._start("rejoining" if self._was_up else "starting", "waits for its turn")
        else:
            self._failures = (*(at for at in self._failures if at > time.monotonic() - FAILURES_S), time.monotonic())
            if not self._was_up or len(self._failures) > FAILURES:
                self._code = code
            else:
                self._start("starting", f"exit code {code}; restart {len(self._failures)} of {FAILURES} in place")

    def _compare(self, cluster_id: str) -> None:
        has_ended = bool(self._raylet) and stat(self._raylet)[1:2] in ([], ["Z"])  # once up, maybe by a drain: that is judged elsewhere
        if cluster_id == self._cluster_id and (self._is_up or not has_ended):
            self._tell_start()
        elif not (self._is_up and has_ended):
            self._clear()
            self._code = ENDED if self._is_ending else None  # of whom its work was for, nothing is left
            self._cluster_id = cluster_id
            self._start("rejoining", f"the head has the cluster id {cluster_id}")

    def _start(self, state: str, why: str) -> None:
        self._began_as = state
        self._tell(state, why)
        self._number += 1
        start_new_thread(self._await_lock, (self._number,))

    def _await_lock(self, number: int) -> None:
        fd = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600) if self._lock_path else os.memfd_create("free")
        fcntl.flock(fd, fcntl.LOCK_EX)
        self._calls.put(partial(self._locked, os.fdopen(fd, "wb").close, number))

    def _locked(self, unlock: Callable[[], None], number: int) -> None:
        if number != self._number:
            unlock()
            return
        self._unlock = unlock
        self._timers["lock"] = (time.monotonic() + LOCK_S, unlock)
        self._starts += 1
        self._command, reader = self._spawn_read(self._argv)
        self._children[self._command] = self._exited
        self._pumped = allocate_lock()
        self._pumped.acquire()
        start_new_thread(self._pump, (reader, self._command, self._pumped))
        self._tell_start()

    def _tell_start(self) -> None:
        self._tell("running" if self._is_up else self._began_as, f"`ray start` has pid {self._command}")

    def _up(self, command: int) -> None:
        if command == self._command and not self._is_up:
            self._is_up = self._was_up = True
            self._unlock()
            self._find_raylet()
            if self._raylet:
                start_new_thread(self._await_raylet, (self._raylet,))
            if self._lost_at is None:
                self._tell_start()

    def _find_raylet(self) -> str:  # its command line names the cluster that it belongs to, and its socket, which is returned
        line, self._raylet = "", next((pid for pid in below() if stat(pid)[:1] == ["raylet"]), 0)
        with contextlib.suppress(OSError), open(f"/proc/{self._raylet}/cmdline", encoding="utf-8", errors="replace") as file:
            line = file.read()
        self._cluster_id = line.partition("\0--cluster-id=")[2].partition("\0")[0] or self._cluster_id
        return line.partition("\0--raylet_socket_name=")[2].partition("\0")[0]

    def _await_raylet(self, raylet: int) -> None:
        with contextlib.suppress(OSError), open(os.pidfd_open(raylet), "rb", buffering=0) as ended:
            select.select([ended], [], [])
        fields = stat(raylet)
        self._calls.put(partial(self._raylet_ended, raylet, os.waitstatus_to_exitcode(int(fields[-1])) if fields else None))

    def _raylet_ended(self, raylet: int, code: int | None) -> None:  # if not orderly, `ray start` ends too, and that is judged
        if raylet == self._raylet and not self._is_ending and code in (0, -signal.SIGTERM):
            self._tell("ending", DRAIN_DETAIL)
            self._code = DRAINED
        elif code is None:  # collected too soon
            self._timers["verdict"] = (time.monotonic() + VERDICT_S, partial(self._raylet_ended, raylet, 0))

    def _is_busy(self) -> bool:  # its raylet has other children than idle workers and agents (names are cut off after 15 characters)
        names = {fields[0] for pid in below() if (fields := stat(pid))[2:3] == [str(self._raylet)]}
        return bool(names - {"ray::IDLE", "ray::DashboardA", "ray::RuntimeEnv"})

    def _exited(self, code: int) -> None:
        self._clear()
        if self._is_ending:
            self._code = ENDED
        elif self._connected_at:
            self._exit = code
            self._tell("starting", f"`ray start` ended with exit code {code}; asks whether the head is there")
            self._ask()

    def _clear(self) -> None:
        self._kill_below()
        self._pumped.acquire(timeout=PUMP_S)
        self._unlock()
        self._command, self._raylet, self._is_up = 0, 0, False

    def _hold(self) -> None:  # a connection to the GCS, as an HTTP/2 client that only listens; told once it speaks, and once lost
        host, _, port = self._gcs.rpartition(":")
        with contextlib.suppress(OSError), socket.create_connection((host.strip("[]"), int(port)), LINE_S) as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, PROBE_S + os.getpid() % 5 - 2)  # not all at once
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, SILENCE_S)
            line.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE_S * 1000)
            is_told = os.environ.get("RAY_USE_TLS", "0").lower() in {"1", "true"}
            if is_told:  # it holds still, and the GCS closes it every two minutes: a lost connection as any other
                line.settimeout(None)
                self._calls.put(partial(self._told, True))
            else:
                line.sendall(PREFACE)
            stream = line.makefile("rb")
            while len(head := stream.read(FRAME_HEAD)) == FRAME_HEAD and head[3] != GOAWAY:
                body = stream.read(int.from_bytes(head[:3], "big"))
                if head[3] in {SETTINGS, PING} and not head[4] & ACK:
                    reply = body if head[3] == PING else b""
                    line.sendall(bytes((0, 0, len(reply), head[3], ACK, 0, 0, 0, 0)) + reply)
                if not is_told:
                    is_told = True
                    line.settimeout(None)
                    self._calls.put(partial(self._told, True))
        self._calls.put(partial(self._told, False))

    def _pump(self, reader: int, command: int, done: LockType) -> None:  # passes the output on
        seen = b""
        while data := os.read(reader, 65536):
            with contextlib.suppress(OSError):
                os.write(1, data)
            seen = (seen + data)[-len(data) - len(STARTED) :]
            if STARTED in seen:
                self._calls.put(partial(self._up, command))
        os.close(reader)
        done.release()


def stat(pid: int) -> list[str]:
    """Return a process's name, state, parent and so on, its wait status last; nothing of one that is collected."""
    with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        name, _, rest = file.read().partition("(")[2].rpartition(") ")
        return [name, *rest.split()]
    return []


def below() -> list[int]:
    """Return every process that descends from this one, the dead and not yet collected too."""
    parents = {int(name): int(fields[2]) for name in os.listdir("/proc") if name.isdigit() and (fields := stat(int(name)))}
    found, level = list[int](), {os.getpid()}
    while level := {pid for pid, parent in parents.items() if parent in level}:
        found += level
    return found


def main(args: list[str]) -> int:
    """Read the arguments and run."""
    mark = args.index("--") if "--" in args else 0
    mode, argv = "".join(args[:1]), args[mark + 1 :]
    options = {args[at]: args[at + 1] for at in range(1, mark - 1, 2)}
    known = {"keep": {"--socket"}, "worker": {"--socket", "--gcs", "--lock", "--prelude"}}.get(mode, set())
    host, _, port = options.get("--gcs", "none:0" if mode == "keep" else "").rpartition(":")
    if mark % 2 == 0 or not argv or not set(options) <= known or not (host and port.isdigit()):
        sys.stderr.write("rejoin: wrong arguments; see the beginning of rejoin.py\n")
        return USAGE
    return (Worker if mode == "worker" else Keeper)(argv, options).run()


if __name__ == "__main__":
    os._exit(main(sys.argv[1:]))  # threads that wait for ever hold nothing up
