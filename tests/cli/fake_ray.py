"""A fake `ray`: a head is a GCS that answers at the port it was told, a worker is a process that waits. Both say that they are up."""

import asyncio
import os
import signal
import sys

import grpc

from rayscaler.api.gcs.v1 import gcs_pb2
from tests.monitor.recorder import CLUSTER_ID, Recorder, show

HANGS = "FAKE_RAY_HANGS"
"""In the environment of one that starts and never says that it is up."""
STAYS = "FAKE_RAY_STAYS"
"""In the environment of one that does not end when asked."""


async def main(flags: dict[str, str]) -> None:
    if flags.get("object-store-memory") == "nonsense":
        sys.exit("'nonsense' is not a valid integer")
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, (lambda: None) if STAYS in os.environ else ended.set)
    server = grpc.aio.server()
    if "head" in flags:
        recorder = Recorder()
        recorder.answers["GetClusterId"] = gcs_pb2.GetClusterIdReply(cluster_id=CLUSTER_ID).SerializeToString()
        recorder.answers["CheckAlive"] = gcs_pb2.CheckAliveReply(ray_version="2.60.0").SerializeToString()
        show(recorder, version=1)
        server.add_generic_rpc_handlers((recorder,))
        server.add_insecure_port(f"127.0.0.1:{flags['port']}")
        await server.start()
    if HANGS not in os.environ:
        print("Ray runtime started.", flush=True)
    await ended.wait()
    await server.stop(0)


if __name__ == "__main__":
    words = [word.removeprefix("--").partition("=") for word in sys.argv[1:]]
    asyncio.run(main({name: value for name, _, value in words}))
