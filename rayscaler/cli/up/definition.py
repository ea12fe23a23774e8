"""What a definition says of the three parts of a local cluster: their commands, addresses, and what makes each another one. Starts nothing."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from rayscaler import __version__
from rayscaler.config import load
from rayscaler.config.file import content_hash
from rayscaler.errors import Problem
from rayscaler.executor.record import head_hash
from rayscaler.local.command import ray_executable
from rayscaler.local.head import HeadOptions, free_client_port, head_argv, head_env
from rayscaler.local.parts import is_taken
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.processes import Identity
from rayscaler.settings import ServiceSettings

HOST = "127.0.0.1"
"""A local head's GCS listens at every address of the machine; this one never changes."""
GCS_PORT = 6379
"""Ray's default for `ray start --head --port`."""
CLIENT_PORT = 10001
"""Ray's default for ray:// clients."""
CLIENT_FLAG = "ray-client-server-port"
ANEW = 'rm -f -- "$0"; exec "$@"'
"""Before each start of a head: a killed one leaves that file, and with it `ray start` takes raylets that wait for it for a running head."""


@dataclass(frozen=True)
class Definition:
    """A definition as it was read from `path`."""

    path: Path
    text: str
    config: ClusterConfig
    warnings: tuple[Problem, ...] = ()

    @classmethod
    def read(cls, path: Path) -> "Definition":
        """Read and check a file; raises InvalidRequest with every problem."""
        return cls(path, *load.with_text(path))

    @property
    def name(self) -> str:
        """The cluster's name."""
        return self.config.name

    @property
    def content_hash(self) -> str:
        """What the service's status tells once this very text is in force."""
        return content_hash(self.text.encode())

    def gcs_port(self) -> int:
        """Return the port of the head's GCS."""
        return self._port("port") or GCS_PORT

    @property
    def gcs(self) -> str:
        """Where drivers, workers and the monitor find the head."""
        return f"{HOST}:{self.gcs_port()}"

    def client_port(self) -> int:
        """Return the port of the head's ray:// server: as the definition says, else Ray's own if it is free, else a free one."""
        return self._port(CLIENT_FLAG) or (free_client_port() if is_taken("", CLIENT_PORT) else CLIENT_PORT)

    def _port(self, flag: str) -> int | None:
        """Return a port that the definition gives the head, None if it gives none."""
        text = dict(self.config.head.start_params).get(flag)
        return None if text is None else int(text)

    def service_facts(self, settings: ServiceSettings) -> dict[str, str]:
        """Return what makes the service another one: it is started anew when any of it has changed."""
        return {"listen": settings.listen, "version": __version__}

    def service_command(self, kept: Path, settings: ServiceSettings) -> list[str]:
        """Return the command of the service, which reads the definition's copy in `kept`."""
        where = ("--listen", settings.listen, "--state-dir", str(settings.state_dir))
        return [sys.executable, "-m", "rayscaler", "serve", "-f", str(kept), *where]

    def head_facts(self) -> dict[str, str]:
        """Return what makes the head another one; a running one is never changed."""
        return {"section": head_hash(self.config.head)}

    def head_command(self, client_port: int) -> list[str]:
        """Return the head's command."""
        options = HeadOptions(resources=self.config.head.resources, start_params=self.config.head.start_params)
        temp_dir = Path(dict(options.start_params).get("temp-dir") or ray_temp_dir(os.environ))
        command = head_argv(ray_executable(), options, port=self.gcs_port(), temp_dir=temp_dir, client_port=client_port)
        return ["/bin/sh", "-c", ANEW, str(temp_dir / "ray_current_cluster"), *command]

    def head_environ(self, base: Mapping[str, str]) -> dict[str, str]:
        """Return the head's environment."""
        return head_env(HeadOptions(env=self.config.head.env), base)

    def monitor_facts(self) -> dict[str, str]:
        """Return what makes the monitor another one, beside its command."""
        return {"version": __version__}

    def monitor_command(self, settings: ServiceSettings, head: Identity) -> list[str]:
        """Return the command of the monitor beside the head that `head` keeps."""
        where = ("--gcs", self.gcs, "--service", settings.listen, "--incarnation", incarnation(head))
        return [sys.executable, "-m", "rayscaler", "monitor", "--cluster", self.name, *where]


def incarnation(head: Identity) -> str:
    """Return which head this is: the same for every life of it under one supervisor (design §2b.3)."""
    return f"{head.pid}-{head.started}"


def ray_temp_dir(environ: Mapping[str, str]) -> Path:
    """Return Ray's own default, so that `ray status` and ray.init("auto") find the head without its address."""
    return Path(environ.get("RAY_TMPDIR") or environ.get("TMPDIR") or "/tmp") / "ray"  # noqa: S108 - Ray's default
