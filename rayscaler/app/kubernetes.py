"""The service of one namespace of Kubernetes: definitions and records in ConfigMaps, heads and workers as pods, one replica that leads."""

from collections.abc import Callable
from functools import partial

from rayscaler.app.clusters import Clusters
from rayscaler.app.process import Process
from rayscaler.app.service import Service, calm_collector
from rayscaler.cli.exits import Exit
from rayscaler.clock import SystemClock
from rayscaler.k8s.certificates import Certificates
from rayscaler.k8s.client import Client, connect
from rayscaler.k8s.executor import KubernetesExecutor
from rayscaler.k8s.heads import Sidecar
from rayscaler.k8s.identity import Identity
from rayscaler.k8s.lease import Leadership
from rayscaler.k8s.pods import Owner
from rayscaler.k8s.record import ConfigMapStore
from rayscaler.server.app import Server
from rayscaler.settings import NamespaceSettings, ServiceSettings


async def serve(own: NamespaceSettings, settings: ServiceSettings, on_listening: Callable[[int], None]) -> int:
    """Run a replica of the service until SIGINT or SIGTERM, or until another one leads in its place; return the exit code."""
    calm_collector()
    client = await connect(own.kubeconfig)
    leadership = Leadership(client, own.namespace, pod=own.pod_name, clock=SystemClock())
    try:
        return Exit.DONE if await _run(own, settings, on_listening, client=client, leadership=leadership) else Exit.FAILED
    finally:
        await leadership.release()
        await client.close()


async def _run(
    own: NamespaceSettings,
    settings: ServiceSettings,
    on_listening: Callable[[int], None],
    *,
    client: Client,
    leadership: Leadership,
) -> bool:
    clock, namespace, process = SystemClock(), own.namespace, Process()
    owners: dict[str, Owner] = {}
    store = ConfigMapStore(client, namespace, owner=owners.get, holder=leadership.holder)
    executor = KubernetesExecutor(client, namespace, on_end=process.ended, owner=owners.get)
    service = Service(process, settings.timings, executor=executor, store=store, clock=clock)
    sidecar = Sidecar(own.image, own.monitor_service, pull_policy=own.image_pull_policy, has_tls=own.is_tls_on)
    clusters = Clusters(service, client, namespace, owners=owners, kept=store, sidecar=sidecar, clock=clock)
    process.stop_on_signals()
    process.own(f"lead {namespace}", _lead(leadership, clusters, process))
    server = partial(
        Server,
        service.registry,
        listen=settings.listen,
        max_message_bytes=settings.max_message_bytes,
        leads=lambda: leadership.is_held,
    )
    if not own.is_tls_on:
        return await service.run(server(), on_listening)
    certificates, identity = Certificates(client, namespace, clock=clock), Identity(client, namespace, clock=clock)
    process.own("certificates", certificates.run())
    process.own("identity", identity.run())
    known = server(credentials=certificates.current, authenticate=identity.authenticate)
    return await service.run(known, on_listening, ready=certificates.ready)


async def _lead(leadership: Leadership, clusters: Clusters, process: Process) -> None:
    """Stand by until this replica leads; then keep the clusters, until it does not lead any more, which ends the process."""
    await leadership.acquire()
    for name, part in clusters.parts():
        process.own(name, part)
    await leadership.keep()
