"""Stand-ins for what a supervisor meets: a GCS port that speaks as much HTTP/2 as the real one, its cluster id, and `ray start`."""

import contextlib
import os
import socket
import sys
import threading
from pathlib import Path

from tests.ports import free_port

FAKE = Path(__file__).with_name("fake")
ASKED = {"PYTHONPATH": str(FAKE), "STAND_IN_ID": str(FAKE / "id")}
"""Environment of those who ask for the cluster id and shall get always the same answer."""
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
SETTINGS_ACK = b"\x00\x00\x00\x04\x01\x00\x00\x00\x00"
PING = b"\x00\x00\x08\x06\x00\x00\x00\x00\x00"
PING_ACK = b"\x00\x00\x08\x06\x01\x00\x00\x00\x00"
GOAWAY = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + bytes(8)

RAY = """
import os, signal, subprocess, sys, time
from pathlib import Path

raylet = Path(sys.argv[1])
behaviour = os.environ.get("STAND_IN_RAY", "")
with open(os.environ["STAND_IN_ID"] + ".starts", "a") as log:
    log.write(f"{os.getpid()}\\n")
print("starts", flush=True)
if behaviour == "fails":
    sys.exit(3)
if behaviour == "slow":
    time.sleep(600)
child = subprocess.Popen([raylet, "--node", "--cluster-id=" + Path(os.environ["STAND_IN_ID"]).read_text(), "--end"])
if behaviour == "scatters":  # a task's child that leaves the session
    subprocess.Popen([sys.executable, "-S", "-c", "import os, time; os.setsid(); time.sleep(600)"])
time.sleep(0.05)  # the child is what it is only after its exec
def end(*_):
    while behaviour == "drains" and not os.path.exists(os.environ["STAND_IN_ID"] + ".drained"):
        time.sleep(0.01)
    child.terminate()
    child.wait()
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
print("Ray runtime started.", flush=True)
while True:
    time.sleep(0.1)
    if child.poll() not in (None, 0, -15):
        print("Some Ray subprocesses exited unexpectedly", flush=True)
        os._exit(1)
"""
RAYLET = """#!/bin/sh
trap 'exit 0' TERM
"${0%/*}/${STAND_IN_WORK:-ray::task}" &
wait
"""
WORK = """#!/bin/sh
sleep 600
exit
"""
TITLES = ("ray::task", "ray::IDLE")
"""What Ray's workers call themselves."""


class Gcs:
    """A port: closed, or answering as a GCS does at the beginning of a connection."""

    def __init__(self) -> None:
        self.lines: list[socket.socket] = []
        self.heard = bytearray()
        self.accepted = 0
        self.greeting = SETTINGS
        self.port = free_port()
        self._listener: socket.socket | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def open(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def close(self) -> None:
        """Go as a killed GCS goes: the port refuses, connections end."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        self.drop()

    def drop(self) -> None:
        """End the connections and go on listening."""
        for line in self.lines:
            with contextlib.suppress(OSError):
                line.shutdown(socket.SHUT_RDWR)
            line.close()
        self.lines.clear()

    def send(self, data: bytes) -> None:
        for line in self.lines:
            with contextlib.suppress(OSError):  # the supervisor has let go of it
                line.sendall(data)

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                line, _ = listener.accept()
                self.lines.append(line)
                self.accepted += 1
                line.sendall(self.greeting)
                threading.Thread(target=self._hear, args=(line,), daemon=True).start()

    def _hear(self, line: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := line.recv(4096):
                self.heard += data


class Ray:
    """A `ray start` of a few lines with a raylet below it, which belongs to the cluster that the id file names at its start."""

    def __init__(self, directory: Path) -> None:
        self.id_path = directory / "id"
        self.name("aa11")
        for name, text in {"raylet": RAYLET, **dict.fromkeys(TITLES, WORK)}.items():
            (directory / name).write_text(text)
            (directory / name).chmod(0o755)
        self.argv = [sys.executable, "-IS", "-c", RAY, str(directory / "raylet")]
        self.env = {**os.environ, "PYTHONPATH": str(FAKE), "STAND_IN_ID": str(self.id_path)}

    def name(self, cluster_id: str) -> None:
        """Give the cluster an id; what runs keeps the one it started with."""
        draft = self.id_path.with_suffix(".new")
        draft.write_text(cluster_id)
        draft.replace(self.id_path)

    def drained(self) -> None:
        """Let the `ray start` that was told to end go on to its end, if its behaviour is "drains"."""
        Path(f"{self.id_path}.drained").touch()

    @property
    def starts(self) -> int:
        log = Path(f"{self.id_path}.starts")
        return len(log.read_text().splitlines()) if log.exists() else 0
