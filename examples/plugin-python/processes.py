"""A plugin in Python: each instance is a process of this machine that runs Ray. What it was launched with stands in its environment.

In a definition:  executor: {exec: [python3, processes.py]}
With words after it (processes.py sleep 600) these are run in place of Ray, to try the plugin alone.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path

from rayscaler.errors import Conflict
from rayscaler.executor import raystart, record
from rayscaler.executor.feed import Feed
from rayscaler.model.instance import InstanceObservation, Phase
from rayscaler.plugin import serve
from rayscaler.throttle import Unpaced

MARK = "PROCESSES_PY_INSTANCE"
FORCE = '(sleep 10; kill -9 -"$0") >/dev/null 2>&1 &'  # runs by itself, so that an end that has begun goes on without us


class Processes:
    def __init__(self, argv):
        self.argv, self.pace, self.feed = argv, Unpaced(), Feed()
        self.ending, self.followed, self.read = set(), {}, None

    async def launch(self, spec):
        wanted, known = record.spec_document(spec), self._found(spec.cluster).get(spec.instance_id)
        if known is not None and known[1] != wanted:
            raise Conflict(f"{spec.instance_id} exists with another spec")
        pid = self._begin(spec, wanted) if known is None else known[0]
        self._follow(pid, wanted)
        while pid in self.followed and not _document(pid):  # noqa: ASYNC110 - for a moment it does not show its environment, and /proc tells nobody
            await asyncio.sleep(0.001)
        return spec.instance_id

    async def terminate(self, cluster, instance_id):
        pid, document = self._found(cluster).get(instance_id, (None, None))
        if pid is not None and pid not in self.ending:
            self._follow(pid, document)
            self.ending.add(pid)
            self._tell(pid, document, Phase.ENDING)
            os.kill(pid, signal.SIGTERM)
            await (await asyncio.create_subprocess_exec("sh", "-c", FORCE, str(pid), start_new_session=True)).wait()

    async def list(self, cluster):
        found = self._found(cluster).values()
        for pid, document in found:
            self._follow(pid, document)
        return [self._seen(pid, document) for pid, document in found]

    def watch(self, cluster):
        return self.feed.watch(cluster)

    async def close(self):
        for task, _ in self.followed.values():
            task.cancel()

    def _begin(self, spec, document):
        argv = self.argv or raystart.worker_argv(spec.node_type, spec.head_address)
        inherited = {name: value for name, value in os.environ.items() if name not in raystart.NOT_INHERITED}
        env = {**inherited, **raystart.worker_env(spec), MARK: json.dumps(document)}
        quiet = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1, 2)]
        return os.posix_spawnp(argv[0], argv, env, file_actions=quiet, setsid=True)

    def _found(self, cluster):
        """Read the machine's processes: they are the record of what there is. One that was just begun does not show it at once."""
        mine = [(pid, document) for pid, (_, document) in self.followed.items()]
        found = {document["instance_id"]: (pid, document) for pid, document in mine if document["cluster"] == cluster}
        for pid, document in self._read().items():
            if document["cluster"] == cluster:
                found[document["instance_id"]] = (pid, document)
        return found

    def _read(self):
        """Read them once for all that is asked in one turn of the loop: a call may be for a thousand instances."""
        if self.read is None:
            documents = {pid: _document(pid) for pid in (int(path.name) for path in Path("/proc").glob("[0-9]*"))}
            self.read = {pid: document for pid, document in documents.items() if document}
            asyncio.get_running_loop().call_soon(setattr, self, "read", None)
        return self.read

    def _follow(self, pid, document):
        if pid not in self.followed:
            self.followed[pid] = (asyncio.create_task(self._gone(pid, document)), document)
            self._tell(pid, document, Phase.REGISTERING)

    async def _gone(self, pid, document):
        with contextlib.suppress(ProcessLookupError):
            fd, ended = os.pidfd_open(pid), asyncio.Event()
            asyncio.get_running_loop().add_reader(fd, ended.set)
            await ended.wait()
            asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)
            os.killpg(pid, signal.SIGKILL)  # what it left behind
        self._reap(pid)
        self._tell(pid, document, Phase.GONE, error="" if pid in self.ending else "its process ended by itself")
        self.ending.discard(pid)
        del self.followed[pid]

    def _reap(self, pid):
        with contextlib.suppress(ChildProcessError):  # a child of an earlier life is somebody else's now
            os.waitpid(pid, 0)

    def _tell(self, pid, document, phase, error=""):
        self.feed.tell(document["cluster"], self._seen(pid, document, phase, error))

    def _seen(self, pid, document, phase=None, error=""):
        spec = record.spec_from(document)
        phase = phase or (Phase.ENDING if pid in self.ending else Phase.REGISTERING)
        name, told = spec.instance_id, {"error": error, "made_as": spec.node_type, "replica": spec.replica, "host": spec.host}
        return InstanceObservation(name, spec.node_type.name, name, phase, f"pid {pid}", **told)


def _document(pid):
    """Return what an instance's process was launched with; None for what it has started itself, and for all other processes."""
    with contextlib.suppress(OSError):
        for each in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            if each.startswith(f"{MARK}=".encode()) and os.getsid(pid) == pid:
                return json.loads(each.partition(b"=")[2])
    return None


if __name__ == "__main__":
    serve(Processes(sys.argv[1:]), name="processes.rayscaler.io", version="1.0")
