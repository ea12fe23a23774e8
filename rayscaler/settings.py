"""Process settings: read once at start from RAYSCALER_* and flags, frozen after. No other file reads the environment for them.

All durations are seconds. `RAYSCALER_TIME_FACTOR` divides every duration and deadline, so that a test can run the same rules faster.
"""

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

from rayscaler.errors import InvalidRequest, Problem

MAX_MESSAGE_BYTES = (1 << 31) - 1
"""gRPC keeps the limit in an int32."""
CALLS_PER_SECOND = 500
"""About what one API server with one etcd takes: 1,000 creates in 2.4 to 3.5 s."""
MAX_CALLS_PER_SECOND = 100_000
HEARTBEAT_READINGS = 4
"""A monitor confirms what has not changed with every fourth reading at the latest (H51 of SPEC.md)."""

_SOCKET = re.compile(r"unix://(?=/.{1,106}$)(/[!-.0-~]+)+")
"""The kernel takes 107 bytes of a path."""
_URL = re.compile(r"https?://[!-~]+", re.IGNORECASE)
URL_RULE = (
    "is no address to post to: give http://HOST[:PORT]/PATH or https://…, without user, password, spaces and #; a secret goes into a file"
)
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]")
MAX_PORT = 65535
LISTEN_RULE = (
    "is nowhere to listen: give unix:///PATH, of a socket in a directory that is there, 107 characters at most, "
    "or HOST:PORT, such as 0.0.0.0:6390 or [::]:6390"
)
PLUGIN_COOKIE = ("RAYSCALER_PLUGIN", "executor.v1")
"""Variable, and its value, by which a plugin knows that a host started it (go-plugin's magic cookie). No secret."""


@dataclass(frozen=True)
class Timings:
    """Durations of the service, in seconds."""

    coalesce_s: float = 0.05
    """Shortest time between two cycles of a cluster: a burst of changes is one cycle."""
    long_cycle_s: float = 0.05
    """A cycle that takes longer than this is long: as with thousands of instances that all change."""
    long_apart_s: float = 2.0
    """Longest time between two long cycles."""
    step_apart_s: float = 10.0
    """The same of cycles that only tell how launches get on."""
    plan_budget_s: float = 0.25
    """Work on a cheaper mix of node types, where one is to be hoped for; launches on demand wait for it, at most twice as long (RAYSCALER_PLAN_BUDGET_S)."""
    safety_cycle_s: float = 60.0
    """A cycle runs at least this often, though nothing should need it."""
    busy_interval_s: float = 0.25
    """Between reports while work is pending or instances are in flight."""
    quiet_interval_s: float = 0.5
    """Between reports otherwise."""
    due_interval_s: float = 0.1
    """The same while a decision waits for the next report: as short as a monitor takes it."""
    blind_after_s: float = 10.0
    """Without a report for so long, nothing is launched or ended."""
    settle_s: float = 2.0
    """After a new session began, nothing is ended for so long: its first snapshots may lack nodes (WC-8)."""
    usage_lag_s: float = 3.0
    """Ray shows a node's use about 1 to 2 s before it drops the demand that uses it (WC-9); see reconciler/landing.py."""
    doubled_lag_s: float = 12.0
    """The same while nothing says that the demand has gone, and no new work has come."""
    backlog_lag_s: float = 1.5
    """Ray sums its backlog from samples up to 1 s old, so a sample may count a moving task twice; see reconciler/backlog.py."""
    unneeded_grace_s: float = 10.0
    """An in-flight instance that nothing needs is ended after so long."""
    node_dead_grace_s: float = 5.0
    """An instance whose node died undrained is ended after so long."""
    drain_retry_s: float = 5.0
    """After a refused drain, the next one of that node waits so long."""
    ungrown_s: float = 300.0
    """A worker that could not grow in place is not asked to for so long; nodes are launched instead."""
    others_ungrown_s: float = 60.0
    """Nor are the others of its type for so long: what it should have grown for is launched for, and not tried on one after the other."""
    executor_call_s: float = 30.0
    """Deadline of one executor call."""
    executor_retry_s: float = 0.5
    """First wait after a failed executor call; doubles up to executor_retry_max_s."""
    executor_retry_max_s: float = 30.0
    """Longest such wait."""
    record_rest_s: float = 1.0
    """Between two writes of the record that guard nothing: a crash loses so much of targets, back-offs and the floor at most."""
    record_closing_s: float = 15.0
    """Before one that only says of launches that they arrived: who reads them as open sends each again by name, and is told that it exists."""
    lease_s: float = 9.0
    """In Kubernetes, without a change for so long, the Lease is free."""
    lease_deadline_s: float = 6.0
    """Not renewed for so long, the replica that leads takes it for lost."""
    lease_renew_s: float = 3.0
    """Between two renewals."""
    lease_retry_s: float = 0.5
    """Between tries of a renewal, or of anything else about the Lease; up to half as much again, by chance."""
    relist_s: float = 30.0
    """A watch is doubted, and everything listed again, this often."""
    failure_memory_s: float = 60.0
    """Failed launches are told to `ray status` for so long."""
    trouble_over_s: float = 60.0
    """A node type whose launches failed is in trouble no more, to a webhook, once none has been on its way for so long after its pause."""
    webhook_call_s: float = 5.0
    """Deadline of one try to tell a webhook."""
    webhook_retry_s: float = 1.0
    """First wait after a failed try; doubles up to webhook_retry_max_s, and half as much again by chance."""
    webhook_retry_max_s: float = 60.0
    """Longest such wait."""
    definition_look_s: float = 0.25
    """Between two looks at a definition's file."""
    definition_steady_s: float = 0.5
    """An edit is taken once the file has said the same for so long: one that is being written may look whole half-way."""
    unscheduled_s: float = 600.0
    pulling_s: float = 900.0
    starting_s: float = 300.0
    registering_s: float = 180.0
    rejoining_s: float = 150.0
    """A worker has so long to join a new head; then it is ended and, if still wanted, replaced (complaint F3: within 3 minutes)."""
    draining_s: float = 60.0
    terminating_s: float = 120.0
    plugin_start_s: float = 60.0
    """A plugin that rayscaler starts must have said where it listens, and be healthy, after so long (X44)."""
    plugin_still_s: float = 5.0
    """While one is waited for, the log says so this often."""
    plugin_health_s: float = 10.0
    """Between two questions after its health; it has half as long to answer, and 3 misses in a row are its end."""
    plugin_retry_s: float = 1.0
    """First wait before it is started again; doubles up to plugin_retry_max_s, and half as much again by chance."""
    plugin_retry_max_s: float = 60.0
    """Longest such wait."""
    plugin_steady_s: float = 60.0
    """Once it has served for so long, the next wait is a first one again."""
    plugin_grace_s: float = 5.0
    """Between asking one to end and forcing it (X47)."""

    def divided_by(self, factor: float) -> Self:
        """Return the same durations, each `factor` times shorter."""
        return replace(self, **{f.name: getattr(self, f.name) / factor for f in fields(self)})


@dataclass(frozen=True)
class TlsFiles:
    """Files (PEM) by which two ends know each other: who vouches for the other end, and the own certificate with its key."""

    ca: Path | None = None
    cert: Path | None = None
    key: Path | None = None

    @classmethod
    def from_env(cls, env: Mapping[str, str], prefix: str, **given: Path | None) -> Self:
        """Read PREFIX_CA, PREFIX_CERT, PREFIX_KEY; what is given wins."""
        names = [each.name for each in fields(cls)]
        found = {name: Path(text) for name in names if (text := env.get(f"{prefix}_{name.upper()}"))}
        files = cls(**{**found, **{name: path for name, path in given.items() if path is not None}})
        if (files.cert is None) != (files.key is None):
            raise InvalidRequest(f"{prefix}_CERT: goes with {prefix}_KEY; set both or none")
        return files

    def read(self) -> tuple[bytes | None, bytes | None, bytes | None]:
        """Return what is in them now; raises OSError."""
        ca, cert, key = (None if each is None else each.read_bytes() for each in (self.ca, self.cert, self.key))
        return ca, cert, key


@dataclass(frozen=True)
class WebhookSettings:
    """Whom the service tells of node types in trouble; `url` "" is nobody.

    `token` is the file of a bearer token, as it is at each call; `ca` that of an authority (PEM) which is trusted beside the machine's own.
    """

    url: str = ""
    token: Path | None = None
    ca: Path | None = None

    @property
    def origin(self) -> str:
        """The address as it may be shown: what follows the host is often a secret."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Read RAYSCALER_WEBHOOK_URL, _TOKEN_FILE, _CA."""
        url, token, ca = (env.get(f"RAYSCALER_WEBHOOK_{each}", "") for each in ("URL", "TOKEN_FILE", "CA"))
        if url and not _can_post(url):
            raise InvalidRequest(Problem("RAYSCALER_WEBHOOK_URL", repr(re.sub(r"//[^/]*@", "//…@", url)), URL_RULE))
        for name, path in (("TOKEN_FILE", token), ("CA", ca)):
            if path and not url:
                raise InvalidRequest(Problem(f"RAYSCALER_WEBHOOK_{name}", repr(path), "goes with RAYSCALER_WEBHOOK_URL; set that too"))
        return cls(url, Path(token) if token else None, Path(ca) if ca else None)


@dataclass(frozen=True)
class ServiceSettings:
    """Settings of `rayscaler serve`."""

    listen: str = "127.0.0.1:6380"
    state_dir: Path = Path("~/.rayscaler")
    max_message_bytes: int = 32 << 20
    timings: Timings = field(default_factory=Timings)
    executor_tls: TlsFiles = field(default_factory=TlsFiles)
    webhook: WebhookSettings = field(default_factory=WebhookSettings)

    @property
    def plugin_dir(self) -> Path:
        """Where plugins that the service starts are recorded."""
        return self.state_dir / "plugins"

    @property
    def run_dir(self) -> Path:
        """Where local workers are recorded."""
        return self.state_dir / "run"

    @classmethod
    def from_env(
        cls,
        env: Mapping[str, str] | None = None,
        *,
        listen: str | None = None,
        state_dir: Path | None = None,
        tls: Mapping[str, Path | None] | None = None,
    ) -> Self:
        """Read RAYSCALER_LISTEN, RAYSCALER_STATE_DIR, RAYSCALER_MAX_MESSAGE_BYTES, RAYSCALER_PLAN_BUDGET_S, RAYSCALER_TIME_FACTOR, RAYSCALER_EXECUTOR_*, RAYSCALER_WEBHOOK_*; flags win."""
        env = os.environ if env is None else env
        default = cls()
        timings = replace(default.timings, plan_budget_s=_positive(env, "RAYSCALER_PLAN_BUDGET_S", default.timings.plan_budget_s))
        return cls(
            listen=listen or env.get("RAYSCALER_LISTEN") or default.listen,
            state_dir=(state_dir or Path(env.get("RAYSCALER_STATE_DIR") or default.state_dir)).expanduser(),
            max_message_bytes=math.ceil(_positive(env, "RAYSCALER_MAX_MESSAGE_BYTES", default.max_message_bytes, most=MAX_MESSAGE_BYTES)),
            timings=timings.divided_by(_positive(env, "RAYSCALER_TIME_FACTOR", 1.0)),
            executor_tls=TlsFiles.from_env(env, "RAYSCALER_EXECUTOR", **(tls or {})),
            webhook=WebhookSettings.from_env(env),
        )


@dataclass(frozen=True)
class NamespaceSettings:
    """Settings of `rayscaler -n NAMESPACE serve`. `pod_name` "" means that the service runs in no pod of the namespace.

    `executor` is the address of a plugin that makes the workers in place of the service, such as `rayscaler executor serve k8s` beside it.
    """

    namespace: str
    pod_name: str = ""
    image: str = "rayscaler"
    """Of the monitor beside each head; the service's own."""
    image_pull_policy: str = "IfNotPresent"
    is_tls_on: bool = False
    monitor_service: str = ""
    """Where monitors find the replica that leads."""
    kubeconfig: Path | None = None
    executor: str = ""
    calls_per_second: int = CALLS_PER_SECOND
    """Creates and deletes of workers' pods."""

    @classmethod
    def from_env(cls, namespace: str, env: Mapping[str, str] | None = None) -> Self:
        """Read RAYSCALER_POD_NAME, _IMAGE, _IMAGE_PULL_POLICY, _TLS (on or off), _MONITOR_SERVICE, _EXECUTOR, _CALLS_PER_SECOND, and KUBECONFIG."""
        env = os.environ if env is None else env
        default = cls(namespace)
        return cls(
            namespace,
            pod_name=env.get("RAYSCALER_POD_NAME", ""),
            image=env.get("RAYSCALER_IMAGE") or default.image,
            image_pull_policy=env.get("RAYSCALER_IMAGE_PULL_POLICY") or default.image_pull_policy,
            is_tls_on=_on(env, "RAYSCALER_TLS"),
            monitor_service=env.get("RAYSCALER_MONITOR_SERVICE") or f"rayscaler-leader.{namespace}.svc:6380",
            kubeconfig=kubeconfig(env),
            executor=env.get("RAYSCALER_EXECUTOR", ""),
            calls_per_second=math.ceil(_positive(env, "RAYSCALER_CALLS_PER_SECOND", default.calls_per_second, most=MAX_CALLS_PER_SECOND)),
        )


def kubeconfig(env: Mapping[str, str] | None = None) -> Path | None:
    """Return where access to the Kubernetes API is described, as kubectl has it; None in a pod, which has a service account."""
    env = os.environ if env is None else env
    named = env.get("KUBECONFIG", "")
    if not named and "KUBERNETES_SERVICE_HOST" in env:
        return None
    return Path(named or "~/.kube/config").expanduser()


@dataclass(frozen=True)
class MonitorSettings:
    """Settings of `rayscaler monitor`. `service` and `gcs` are gRPC targets; `incarnation` "" is a head that nobody named.

    `ca` is the file of the authority that vouches for the service, None for plain text; `token` the file of this pod's token.
    """

    cluster: str
    gcs: str
    service: str
    incarnation: str = ""
    ca: Path | None = None
    token: Path | None = None


@dataclass(frozen=True)
class PluginSettings:
    """Settings of a plugin in Python, on its own side. `listen` "" where a host starts it as its child. `tls.ca` vouches for those that may call it."""

    listen: str = ""
    is_child: bool = False
    socket_dir: Path | None = None
    tls: TlsFiles = field(default_factory=TlsFiles)

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None, *, listen: str = "", given_as: str = "--listen") -> Self:
        """Read RAYSCALER_PLUGIN (set by a host), RAYSCALER_PLUGIN_LISTEN, _CERT, _KEY, _CA, PLUGIN_UNIX_SOCKET_DIR; `listen` wins."""
        env = os.environ if env is None else env
        tls = TlsFiles.from_env(env, "RAYSCALER_PLUGIN")
        if tls.ca is not None and tls.cert is None:
            raise InvalidRequest("RAYSCALER_PLUGIN_CA: goes with RAYSCALER_PLUGIN_CERT and RAYSCALER_PLUGIN_KEY; set all three")
        socket_dir = env.get("PLUGIN_UNIX_SOCKET_DIR")  # go-plugin's own
        is_child = env.get(PLUGIN_COOKIE[0]) == PLUGIN_COOKIE[1]
        address = listen or env.get("RAYSCALER_PLUGIN_LISTEN", "")
        if address and not is_child and not _can_listen(address):
            raise InvalidRequest(Problem(given_as if listen else "RAYSCALER_PLUGIN_LISTEN", repr(address), LISTEN_RULE))
        return cls(
            listen=address,
            is_child=is_child,
            socket_dir=Path(socket_dir) if socket_dir else None,
            tls=tls,
        )


def _can_listen(address: str) -> bool:
    """Whether it is an address to listen at; gRPC listens somewhere else at some that are not."""
    if address.startswith("unix:"):
        return _SOCKET.fullmatch(address) is not None
    host, _, port = address.rpartition(":")
    return _HOST.fullmatch(host) is not None and port.isascii() and port.isdecimal() and int(port) <= MAX_PORT


def _can_post(url: str) -> bool:
    """Whether it is an address of HTTP, with no more in it than where to post."""
    if _URL.fullmatch(url) is None or "#" in url or "\\" in url:
        return False
    try:
        parts = urlsplit(url)
        host = f"[{parts.hostname}]" if ":" in (parts.hostname or "") else parts.hostname or ""
        return "@" not in parts.netloc and _HOST.fullmatch(host) is not None and parts.port != 0 and not parts.netloc.endswith(":")
    except ValueError:  # a port that is none
        return False


def _on(env: Mapping[str, str], name: str) -> bool:
    text = env.get(name) or "off"
    if text not in ("on", "off"):
        raise InvalidRequest(f"{name}: {text!r} is neither on nor off")
    return text == "on"


def _positive(env: Mapping[str, str], name: str, default: float, *, most: float = 1e9) -> float:
    text = env.get(name, "")
    if not text:
        return default
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value <= most:
        raise InvalidRequest(f"{name}: {text!r} is not a number above 0 and up to {most:.0f}; unset it or give one")
    return value
