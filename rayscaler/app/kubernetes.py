"""The service of one namespace of Kubernetes: definitions and records in ConfigMaps, heads and workers as pods, one replica that leads."""

import contextlib
import socket
import uuid
from collections.abc import Callable

from rayscaler.app.clusters import Clusters
from rayscaler.app.executors import by_address
from rayscaler.app.process import Process
from rayscaler.app.service import Service
from rayscaler.app.webhook import Outward
from rayscaler.cli.exits import Exit
from rayscaler.clock import SystemClock
from rayscaler.executor.base import Executor
from rayscaler.k8s.certificates import Certificates
from rayscaler.k8s.client import Client, connect
from rayscaler.k8s.executor import KubernetesExecutor, Options
from rayscaler.k8s.heads import Sidecar
from rayscaler.k8s.identity import Identity
from rayscaler.k8s.lease import Leadership
from rayscaler.k8s.pods import Owner
from rayscaler.k8s.record import ConfigMapStore
from rayscaler.server.app import Server
from rayscaler.settings import NamespaceSettings, ServiceSettings
from rayscaler.tasks import Apart, calm_collector


async def serve(own: NamespaceSettings, settings: ServiceSettings, on_listening: Callable[[int], None]) -> int:
    """Run a replica of the service until SIGINT or SIGTERM, or until another one leads in its place; return the exit code."""
    calm_collector()
    async with contextlib.AsyncExitStack() as stack:
        first = await connect(own.kubeconfig)
        stack.push_async_callback(first.close)
        # The Lease has a thread and connections of its own, that wait for nothing else; what changes clusters goes out only while it is held.
        apart = await stack.enter_async_context(Apart("lease"))
        of_lease = await connect(own.kubeconfig)
        stack.push_async_callback(lambda: apart.run(of_lease.close()))
        holder, pod = own.pod_name or _holder(), own.pod_name or None
        leadership = Leadership(of_lease, own.namespace, holder=holder, pod=pod, clock=SystemClock(), timings=settings.timings)
        stack.push_async_callback(lambda: apart.run(leadership.release()))
        client = await connect(own.kubeconfig, may_write=leadership.check)
        stack.push_async_callback(client.close)
        replica = _Replica(own, settings, first, client, leadership, apart=apart)
        return Exit.DONE if await replica.run(on_listening) else Exit.FAILED


class _Replica:
    """One replica's parts."""

    def __init__(
        self, own: NamespaceSettings, settings: ServiceSettings, first: Client, client: Client, leadership: Leadership, *, apart: Apart
    ) -> None:
        clock, namespace, owners = SystemClock(), own.namespace, dict[str, Owner]()
        self._process = Process()
        self._leadership = leadership
        self._apart = apart
        store = ConfigMapStore(client, namespace, holder=leadership.holder, transitions=lambda: leadership.transitions, owner=owners.get)
        executor: Executor = (
            by_address(own.executor, settings, clock, path="RAYSCALER_EXECUTOR", may_write=leadership.check)
            if own.executor
            else KubernetesExecutor(
                client, namespace, on_end=self._process.ended, owner=owners.get, options=Options(per_second=own.calls_per_second)
            )
        )
        outward = Outward(settings, clock, namespace)
        self._service = Service(self._process, settings.timings, executor=executor, store=store, clock=clock, outward=outward)
        sidecar = Sidecar(own.image, own.monitor_service, pull_policy=own.image_pull_policy, has_tls=own.is_tls_on)
        pods_of = executor.pods_of if isinstance(executor, KubernetesExecutor) else None
        self._clusters = Clusters(
            self._service, client, namespace, owners=owners, kept=store, sidecar=sidecar, clock=clock, pods_of=pods_of
        )
        self._certificates = Certificates(first, namespace, clock=clock) if own.is_tls_on else None
        self._identity = Identity(first, namespace, clock=clock) if own.is_tls_on else None
        self._server = Server(
            self._service.registry,
            listen=settings.listen,
            max_message_bytes=settings.max_message_bytes,
            leads=lambda: leadership.leads,
            credentials=None if self._certificates is None else self._certificates.current,
            authenticate=None if self._identity is None else self._identity.authenticate,
        )

    async def run(self, on_listening: Callable[[int], None]) -> bool:
        """Serve, and stand by or lead, until told to stop; return False if a part ended by itself."""
        self._process.stop_on_signals()
        self._process.own("leadership", self._lead())
        if self._certificates is None or self._identity is None:
            return await self._service.run(self._server, on_listening)
        self._process.own("certificates", self._certificates.run())
        self._process.own("identity", self._identity.run())
        return await self._service.run(self._server, on_listening, ready=self._certificates.ready)

    async def _lead(self) -> None:
        """Stand by until this replica leads; then keep the clusters, until it does not lead any more, which ends the process."""
        await self._apart.run(self._leadership.acquire())
        for name, part in self._clusters.parts():
            self._process.own(name, part)
        await self._apart.run(self._leadership.keep())


def _holder() -> str:
    """Return a name that no other process has, outside of pods."""
    return f"{socket.gethostname()}-{uuid.uuid4().hex[:8]}"
