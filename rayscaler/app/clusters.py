"""The clusters of a namespace, for as long as this replica leads: each has a definition, a head, a task that keeps it, and a status."""

from collections.abc import Callable, Coroutine, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from rayscaler.app.service import Service
from rayscaler.app.telling import Scene, Telling
from rayscaler.clock import Clock
from rayscaler.config.file import Definition
from rayscaler.errors import Unavailable
from rayscaler.k8s import labels, services
from rayscaler.k8s.client import Client
from rayscaler.k8s.definitions import Definitions
from rayscaler.k8s.events import EventReason, Events
from rayscaler.k8s.head import Heads
from rayscaler.k8s.heads import Sidecar
from rayscaler.k8s.hostnames import HostNames
from rayscaler.k8s.pods import Owner
from rayscaler.k8s.rights import Rights
from rayscaler.k8s.statusdocument import DefinitionStanding, HeadStanding
from rayscaler.k8s.statuses import Statuses
from rayscaler.k8s.succession import HeadFact, HeadPhase
from rayscaler.model.nodetype import ClusterConfig
from rayscaler.reconciler.cluster import ClusterReconciler
from rayscaler.store import base


@dataclass
class _Cluster:
    """What is known of one cluster."""

    reconciler: ClusterReconciler | None = None
    definition: DefinitionStanding = field(default_factory=DefinitionStanding)
    head: HeadFact | None = None


class Clusters:
    """Hears of definitions and heads, and has every other part do what follows from it. `kept` has the last good definitions."""

    def __init__(
        self,
        service: Service,
        client: Client,
        namespace: str,
        *,
        owners: dict[str, Owner],
        kept: base.Definitions,
        sidecar: Sidecar,
        clock: Clock,
        pods_of: Callable[[str], Mapping[str, Owner]] | None = None,
    ) -> None:
        """Keep in `owners` what the objects of each cluster belong to.

        `pods_of` returns a cluster's pods by instance; None where instances are no pods of ours, and do not end with the cluster's objects.
        """
        clears = pods_of is None
        self._service = service
        self._owners = owners
        self._namespace = namespace
        self._clusters: dict[str, _Cluster] = {}
        self._definitions = Definitions(client, namespace, sink=self, kept=kept, clock=clock, clear=self._clear if clears else None)
        self._heads = Heads(client, namespace, sidecar=sidecar, told=self._head_changed, clock=clock)
        # Where a plugin makes the workers, it is for the plugin to give them names.
        self._host_names = None if clears else HostNames(client, namespace, told=self._hosts_unnamed, clock=clock)
        self._events = Events(client, namespace, clock=clock)
        self._statuses = Statuses(client, namespace, clock=clock)
        self._telling = Telling(self._statuses, self._events, self._scene, clock, pods_of or (lambda _: {}))
        self._rights = Rights(client, namespace, told=self._lacks)
        self._lacking: tuple[str, ...] = ()

    def parts(self) -> Iterator[tuple[str, Coroutine[Any, Any, None]]]:
        """Yield what has to run for as long as this replica leads, each with its name."""
        yield f"heads of {self._namespace}", self._heads.run()
        if self._host_names is not None:
            yield f"host names of {self._namespace}", self._host_names.run()
        yield f"definitions of {self._namespace}", self._definitions.run()
        yield f"events of {self._namespace}", self._events.run()
        yield f"statuses of {self._namespace}", self._statuses.run()
        yield f"rights in {self._namespace}", self._rights.run()
        yield f"tidings of {self._namespace}", self._telling.run()

    # what Definitions tells

    def defined(self, definition: Definition, owner: Owner) -> None:
        """Put a definition in force."""
        name = definition.config.name
        self._owners[name] = owner
        cluster = self._clusters.setdefault(name, _Cluster())
        if cluster.reconciler is None:
            cluster.reconciler = self._service.add(
                definition.config,
                content_hash=definition.content_hash,
                head_address=self._head_address,
                served_head=partial(self._served_head, name),
                told=partial(self._telling.note, name),
            )
        else:
            cluster.reconciler.redefine(definition.config, definition.content_hash)
            if cluster.definition.held:
                cluster.reconciler.withhold("")
        cluster.reconciler.advise(definition.warnings)
        cluster.definition = DefinitionStanding()
        self._heads.want(definition.config, owner)
        if self._host_names is not None:
            self._host_names.want(definition.config, owner)
        self._tell(name, EventReason.DEFINITION_TAKEN, f"version {definition.content_hash} is in force")

    def refused(self, name: str, problems: tuple[str, ...]) -> None:
        """Tell what is wrong with a definition; what is in force stays."""
        cluster = self._clusters.setdefault(name, _Cluster())
        cluster.definition = DefinitionStanding(problems=problems)
        if cluster.reconciler is not None:
            cluster.reconciler.refuse(problems)
        self._tell(name, EventReason.DEFINITION_REFUSED, "; ".join(problems))

    def held(self, name: str, why: str) -> None:
        """Launch and end nothing of a cluster until more is known."""
        cluster = self._clusters.setdefault(name, _Cluster())
        cluster.definition = replace(cluster.definition, held=why)
        self._forget(name)
        if cluster.reconciler is not None:
            cluster.reconciler.withhold(why)
        self._tell(name, EventReason.DEFINITION_HELD, why)

    def gone(self, name: str) -> None:
        """Let go of a cluster: what belonged to its definition goes with it."""
        cluster = self._clusters.pop(name, None)
        self._owners.pop(name, None)
        self._forget(name)
        self._telling.forget(name)
        if cluster is not None and cluster.reconciler is not None:
            self._service.remove(name)

    def _forget(self, name: str) -> None:
        self._heads.forget(name)
        if self._host_names is not None:
            self._host_names.forget(name)

    async def _clear(self, name: str, told: Callable[[str], None]) -> None:
        """Launch nothing more for a cluster, for good, and end what there is of it."""
        cluster = self._clusters.get(name)
        if cluster is not None and cluster.reconciler is not None:
            cluster.reconciler = None
            self._service.remove(name)
        await self._service.clear(name, told)

    # what else is told

    def _head_changed(self, name: str, fact: HeadFact) -> None:
        cluster = self._clusters.get(name)
        if cluster is None:
            return
        before, cluster.head = cluster.head, fact
        if fact.phase is HeadPhase.LOST and (before is None or before.phase is not HeadPhase.LOST):
            self._tell(name, EventReason.HEAD_LOST, fact.reason)
        elif fact.phase is HeadPhase.READY and (before is None or before.phase is not HeadPhase.READY):
            self._tell(name, EventReason.HEAD_MADE, f"{labels.head_pod(name, fact.epoch)} is ready")
        self._telling.note(name)

    def _hosts_unnamed(self, name: str, why: str) -> None:
        self._tell(name, EventReason.HOSTS_UNNAMED, f"hosts of a replica do not find each other: {why}")

    def _lacks(self, lacking: tuple[str, ...]) -> None:
        self._lacking = lacking
        for name in self._clusters:
            self._telling.note(name)

    def _tell(self, name: str, reason: EventReason, detail: str) -> None:
        owner = self._definitions.owner(name)
        if owner is not None:
            self._events.tell(owner, reason, detail)
        self._telling.note(name)

    def _served_head(self, name: str) -> str:
        """Return the incarnation that alone is heard; raises Unavailable while it is not known, for any pod here can have a token."""
        found = self._heads.incarnation(name)
        if not found:
            raise Unavailable(f"which pod is the head of {name} is not known yet")
        return found

    def _head_address(self, config: ClusterConfig) -> str:
        return services.address(config.name, self._namespace)

    def _scene(self, name: str) -> Scene | None:
        cluster, owner = self._clusters.get(name), self._definitions.owner(name)
        if cluster is None or owner is None:
            return None
        definition = replace(cluster.definition, resource_version=self._definitions.version(name))
        return Scene(owner, cluster.reconciler, definition, _standing(name, self._namespace, cluster.head), self._lacking)


def _standing(cluster: str, namespace: str, fact: HeadFact | None) -> HeadStanding:
    """Return how a head stands in the words of a status."""
    if fact is None:
        return HeadStanding()
    host = services.address(cluster, namespace).rpartition(":")[0]
    schemes = {services.GCS: "", services.CLIENT: "ray://", services.DASHBOARD: "http://", services.SERVE: "http://"}
    return HeadStanding(
        is_ready=fact.phase is HeadPhase.READY,
        reason=fact.phase.value.capitalize(),
        message="; ".join(filter(None, (fact.reason, fact.detail))),
        pod="" if fact.phase is HeadPhase.MISSING else labels.head_pod(cluster, fact.epoch),
        endpoints={name: f"{schemes[name]}{host}:{port}" for name, port in services.PORTS.items()},
    )
