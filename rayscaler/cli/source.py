"""Where `status` and `explain` have their answers from: a service's own door, or what it writes back into its namespace."""

from dataclasses import dataclass

import click

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.cli import client

DEFAULT_SERVICE = "127.0.0.1:6380"
NAMESPACED = frozenset({"serve", "status", "explain", "executor"})
"""Commands that know of namespaces."""


@dataclass(frozen=True)
class Source:
    """The service at `service`, or, where there is a `namespace`, the one that keeps it."""

    service: str
    namespace: str = ""

    def status(self, cluster: str = "") -> pb.GetStatusResponse:
        """Return the status of one cluster, or of all."""
        if self.namespace:
            from rayscaler.cli import published  # and with it a client of Kubernetes, half a second of imports

            return published.get_status(self.namespace, cluster)
        return client.get_status(self.service, cluster)

    def explanations(self, cluster: str = "") -> pb.ExplainResponse:
        """Return why things stand as they do, in one cluster or in all."""
        if self.namespace:
            from rayscaler.cli import published  # likewise

            return published.get_explanations(self.namespace, cluster)
        return client.get_explanations(self.service, cluster)


def chosen(service: str | None) -> Source:
    """Return what the flags of the command that runs name: `-n` before it, or --service; raises UsageError for both."""
    namespace = click.get_current_context().obj or ""
    if namespace and service:
        raise click.UsageError("-n and --service are two places to ask; give one")
    return Source(service or DEFAULT_SERVICE, namespace)


def check_namespaced(context: click.Context, command: str) -> None:
    """Refuse a namespace for a command that does nothing with it; one from the environment is left unused."""
    is_given = context.get_parameter_source("namespace") is click.core.ParameterSource.COMMANDLINE
    if is_given and command not in NAMESPACED:
        raise click.UsageError(f"-n is for {', '.join(sorted(NAMESPACED))}; {command} knows no namespace")
