"""A plugin that misbehaves, as a program: python -m tests.plugin.rogue HOW. Each way is a function of its name.

It imports only what that way needs: the tests give it little time to begin.
"""

import asyncio
import os
import signal
import socket
import sys
import time
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import grpc
    from grpc_health.v1 import health

EMPTY_SETTINGS = bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def path() -> str:
    """Where a host wants the socket."""
    return f"{os.environ['PLUGIN_UNIX_SOCKET_DIR']}/rogue"


def say(line: str) -> None:
    """Print the handshake."""
    print(line, flush=True)


def greet() -> None:
    """Say where this listens, truly or not."""
    say(f"1|1|unix|{path()}|grpc")


def forever() -> None:
    """Do nothing more."""
    while True:
        time.sleep(60)  # whoever started this ends it


def listening() -> socket.socket:
    """Listen without knowing what to answer."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(path())
    listener.listen()
    return listener


def served(*, status: str = "SERVING", address: str = "", with_health: bool = True) -> "tuple[grpc.Server, health.HealthServicer, int]":
    """Serve gRPC with health; return the port too, which is 1 for a socket."""
    import grpc
    from grpc_health.v1 import health, health_pb2, health_pb2_grpc

    server, servicer = grpc.server(futures.ThreadPoolExecutor(2)), health.HealthServicer()
    if with_health:
        servicer.set("plugin", health_pb2.HealthCheckResponse.ServingStatus.Value(status))
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_insecure_port(address or f"unix:{path()}")
    server.start()
    return server, servicer, port


def exits() -> None:
    print("Traceback (most recent call last):\n  \x1b[31mKeyError\x1b[0m: 'region'", file=sys.stderr, flush=True)
    sys.exit(3)


def exits_half_way() -> None:
    print("1|1|unix|", end="", flush=True)


def hangs() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("reading the inventory", file=sys.stderr, flush=True)
    forever()


def endless_line() -> None:
    while True:
        os.write(1, b"x" * 65536)


def noise() -> None:
    say("\x1b[2Jwelcome to my plugin")
    forever()


def old_core() -> None:
    say(f"0|1|unix|{path()}|grpc")
    forever()


def mtls() -> None:
    say(f"1|1|unix|{path()}|grpc|{'M' * 700}")
    forever()


def elsewhere() -> None:
    say("1|1|unix|/tmp/rogue|grpc")
    forever()


def nobody_there() -> None:
    greet()
    forever()


def mute() -> None:
    listener = listening()
    greet()
    kept = []
    while True:
        kept.append(listener.accept())


def drips() -> None:
    """Answer what would be good HTTP/2, a byte now and then."""
    listener = listening()
    greet()
    while True:
        connection, _ = listener.accept()
        for byte in EMPTY_SETTINGS * 1000:
            time.sleep(0.05)  # slow is what it is about
            try:
                connection.sendall(bytes([byte]))
            except OSError:
                break


def no_health() -> None:
    server, _, _ = served(with_health=False)
    greet()
    server.wait_for_termination()


def unwell() -> None:
    server, _, _ = served(status="NOT_SERVING")
    greet()
    server.wait_for_termination()


def tcp() -> None:
    server, _, port = served(address="127.0.0.1:0")
    say(f"1|1|tcp|127.0.0.1:{port}|grpc")
    server.wait_for_termination()


def falls_ill() -> None:
    """Be healthy until a file says otherwise."""
    from grpc_health.v1 import health_pb2

    server, servicer, _ = served()
    greet()
    while not Path(os.environ["ROGUE_FILE"]).exists():
        time.sleep(0.01)  # the test says when
    servicer.set("plugin", health_pb2.HealthCheckResponse.NOT_SERVING)
    server.wait_for_termination()


def slows_down() -> None:
    """Be healthy, and answer byte by byte once there is a file that says so."""
    behind = Path(f"{path()}-behind")
    _kept = served(address=f"unix:{behind}")
    asyncio.run(_slow_down(behind))


async def _slow_down(behind: Path) -> None:
    from tests.plugin import loris

    async with loris.before(behind, Path(path())) as slow:
        greet()
        while True:
            slow.drips = Path(os.environ["ROGUE_FILE"]).exists()  # noqa: ASYNC240 - a program of a test
            await asyncio.sleep(0.01)  # the test says when


def floods() -> None:
    _kept = served()
    greet()
    while True:
        os.write(2, b"again and again\n" * 4000)


def garbled() -> None:
    """Answer what go-plugin's own services should with bytes that are no messages, once it has been healthy."""
    import grpc
    from grpc_health.v1 import health_pb2

    server = grpc.server(futures.ThreadPoolExecutor(4))
    healthy = health_pb2.HealthCheckResponse(status=health_pb2.HealthCheckResponse.SERVING).SerializeToString()
    answers = [healthy]
    check = grpc.unary_unary_rpc_method_handler(lambda request, context: answers.pop() if answers else b"\xff\xff")
    stdio = grpc.unary_stream_rpc_method_handler(lambda request, context: iter([b"\xff\xff"]))
    shutdown = grpc.unary_unary_rpc_method_handler(lambda request, context: b"\xff\xff")
    handlers = {
        "grpc.health.v1.Health": {"Check": check},
        "plugin.GRPCStdio": {"StreamStdio": stdio},
        "plugin.GRPCController": {"Shutdown": shutdown},
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, methods) for name, methods in handlers.items()])
    server.add_insecure_port(f"unix:{path()}")
    server.start()
    greet()
    server.wait_for_termination()


def leaves_children() -> None:
    server, _, _ = served()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        forever()
    greet()
    print(f"child {child}", file=sys.stderr, flush=True)
    server.wait_for_termination()


if __name__ == "__main__":
    globals()[sys.argv[1]]()
