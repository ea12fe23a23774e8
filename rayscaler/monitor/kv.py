"""Ray's key-value store in the GCS: which mode the head runs in, and the notice that drivers print. Decides nothing."""

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.monitor.link import ClusterLine

KV = "/ray.rpc.InternalKVGcsService"

MODE = (b"__autoscaler", b"__autoscaler_v2_enabled")
"""Namespace and key: "1" for v2; the head writes it a moment after its GCS has begun to answer."""

NOTICE = (b"", b"__autoscaling_error")
"""Every driver that connects prints its value; `ray status` prints it too in v1 mode."""

OURS = "rayscaler: "
"""Begins every notice of ours; what begins otherwise is somebody else's and is left alone."""


async def read_mode(line: ClusterLine) -> str:
    """Return "1" for a head in v2 mode, another text for v1, and "" while the head has not said it."""
    return (await _get(line, *MODE)).decode(errors="replace")


async def set_notice(line: ClusterLine, text: str) -> None:
    """Let connecting drivers print `text`, or no longer if it is empty; never over a notice that is not ours."""
    there = await _get(line, *NOTICE)
    wanted = (OURS + text).encode() if text else b""
    if there == wanted or (there and not there.startswith(OURS.encode())):
        return
    namespace, key = NOTICE
    if wanted:
        put = gcs_pb2.InternalKVPutRequest(namespace=namespace, key=key, value=wanted, overwrite=True)
        await line.call(f"{KV}/InternalKVPut", put, gcs_pb2.InternalKVPutReply)
    else:
        delete = gcs_pb2.InternalKVDelRequest(namespace=namespace, key=key)
        await line.call(f"{KV}/InternalKVDel", delete, gcs_pb2.InternalKVDelReply)


async def _get(line: ClusterLine, namespace: bytes, key: bytes) -> bytes:
    """Return the value, empty where there is none."""
    request = gcs_pb2.InternalKVGetRequest(namespace=namespace, key=key)
    return (await line.call(f"{KV}/InternalKVGet", request, gcs_pb2.InternalKVGetReply)).value
