"""What a host and a plugin that it started say to each other before the first call: HashiCorp go-plugin's handshake. Pure.

The host puts COOKIE into the child's environment and reads one line of its stdout, `CORE|APP|NETWORK|ADDRESS|PROTOCOL`. Then gRPC:
health under HEALTH_SERVICE, the executor's own service, and SHUTDOWN at the end.
"""

from rayscaler.settings import PLUGIN_COOKIE

CORE_VERSION = 1
"""Of go-plugin's handshake."""
APP_VERSION = 1
"""Of what is served: go-plugin's ProtocolVersion. It names the package executor.v1, and grows with the next package."""
COOKIE_KEY, COOKIE_VALUE = PLUGIN_COOKIE
"""Tells a plugin that a host started it, and not somebody by hand. No secret."""
VERSIONS_KEY = "PLUGIN_PROTOCOL_VERSIONS"
"""Variable with the app versions that the host speaks, by comma."""
PROTOCOL = "grpc"
"""The only one spoken here; go-plugin's netrpc is Go's alone."""
HEALTH_SERVICE = "plugin"
"""What go-plugin's hosts ask grpc.health.v1 for."""
SHUTDOWN = "/plugin.GRPCController/Shutdown"
"""The method that ends a plugin, once calls under way are done; its messages are empty."""


def line(network: str, address: str) -> str:
    """Return the line by which a plugin says where it listens."""
    return f"{CORE_VERSION}|{APP_VERSION}|{network}|{address}|{PROTOCOL}"
