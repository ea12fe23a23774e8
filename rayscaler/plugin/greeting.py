"""The one line by which a plugin says where it listens, read with suspicion. Pure.

`CORE|APP|NETWORK|ADDRESS|PROTOCOL|CERTIFICATE`, as go-plugin writes it; what came after the first four was added later and may be missing.
"""

import ipaddress
from dataclasses import dataclass
from pathlib import Path

from rayscaler.plugin import handshake
from rayscaler.plugin.faults import Failure, Fault
from rayscaler.plugin.output import readable

MAX_LINE_BYTES = 4096
"""A line is about 100 bytes, with a certificate 1,000."""
SHORTEST_CERTIFICATE = 50
"""Something shorter is what old plugins wrote in its place, as go-plugin's own host takes it too."""
ADVICE = "print nothing before go-plugin's Serve, or rayscaler.plugin.serve, has said where the plugin listens"
SHOWN_CHARS = 200
"""How much of a line that cannot be understood is shown."""


@dataclass(frozen=True)
class Greeting:
    """Where a plugin listens."""

    network: str
    address: str

    @property
    def target(self) -> str:
        """The address as gRPC names it."""
        return f"unix:{self.address}" if self.network == "unix" else self.address


def read(line: bytes, sockets: Path) -> Greeting:
    """Read the line of a plugin that was told to have its socket in `sockets`; raises Failure."""
    if len(line) > MAX_LINE_BYTES:
        raise Failure(Fault.LONG_LINE, f"its first line of output has more than {MAX_LINE_BYTES} bytes: {_shown(line)}; {ADVICE}")
    parts = line.decode(errors="replace").strip().split("|")
    if len(parts) < 4:
        raise Failure(
            Fault.GARBAGE,
            f"its first line of output is {_shown(line)}, not CORE|APP|NETWORK|ADDRESS|PROTOCOL; {ADVICE}",
        )
    core, app, network, address, *rest = parts
    _check_version(
        core, handshake.CORE_VERSION, Fault.WRONG_CORE_VERSION, "go-plugin's core protocol; build it with a go-plugin that speaks it"
    )
    _check_version(
        app,
        handshake.APP_VERSION,
        Fault.WRONG_APP_VERSION,
        "the executor protocol; set ProtocolVersion in its HandshakeConfig and serve that, or use a rayscaler that speaks the plugin's",
    )
    protocol = rest[0] if rest else "netrpc"  # what it was before there was a fifth part
    if protocol != handshake.PROTOCOL:
        raise Failure(
            Fault.WRONG_PROTOCOL,
            f"it speaks {_shown(protocol.encode())}, rayscaler only {handshake.PROTOCOL}; set GRPCServer in its ServeConfig, and serve a GRPCPlugin",
        )
    if len(rest) > 1 and len(rest[1]) > SHORTEST_CERTIFICATE:
        raise Failure(
            Fault.AUTO_MTLS,
            "it answers with a certificate although rayscaler sent none: AutoMTLS is not spoken here, a directory that only this user may enter "
            "guards the socket; serve without TLSProvider and without a certificate",
        )
    return _greeting(network, address, sockets)


def _check_version(text: str, wanted: int, fault: Fault, advice: str) -> None:
    if not text.isdecimal() or not text.isascii():
        raise Failure(
            Fault.GARBAGE, f"{_shown(text.encode())} stands in its first line where the version of {advice.partition(';')[0]} belongs"
        )
    if int(text[:9]) != wanted:
        raise Failure(fault, f"it speaks version {text[:9]}, rayscaler {wanted}, of {advice}")


def _greeting(network: str, address: str, sockets: Path) -> Greeting:
    if network == "unix":
        if sockets not in Path(address).parents or ".." in Path(address).parts:
            raise Failure(
                Fault.WRONG_ADDRESS,
                f"its socket {_shown(address.encode())} is not below {sockets}; build it with go-plugin 1.5 or later, "
                "or listen below the directory in PLUGIN_UNIX_SOCKET_DIR",
            )
        return Greeting(network, address)
    if network == "tcp" and _is_loopback(address):
        return Greeting(network, address)
    raise Failure(
        Fault.WRONG_ADDRESS,
        f"it listens at {_shown(f'{network} {address}'.encode())}; a plugin that rayscaler starts listens on a unix socket, or on tcp at 127.0.0.1. "
        "For one elsewhere give executor an address instead of a command",
    )


def _is_loopback(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback and 0 < int(port) < 1 << 16
    except ValueError:
        return False


def _shown(text: bytes) -> str:
    shown = readable(text)[: SHOWN_CHARS + 1]
    return repr(shown if len(shown) <= SHOWN_CHARS else f"{shown[:SHOWN_CHARS]}...")
