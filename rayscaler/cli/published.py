"""What the service of a namespace has written back there, read with the rights of whoever asks: to read ConfigMaps is enough."""

import asyncio
from collections.abc import Mapping
from typing import TypeVar

from google.protobuf.json_format import Parse, ParseError
from google.protobuf.message import Message

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.errors import NotFound, Unavailable
from rayscaler.k8s import client, statuses
from rayscaler.settings import kubeconfig

M = TypeVar("M", bound=Message)

CALL_S = 5.0
"""Deadline of one call."""


def get_status(namespace: str, cluster: str = "") -> pb.GetStatusResponse:
    """Return the status of one cluster, or of all, as it was written back last."""
    found = _read(namespace, cluster, statuses.FULL)
    return pb.GetStatusResponse(clusters=[_parsed(name, text, pb.ClusterStatus()) for name, text in sorted(found.items())])


def get_explanations(namespace: str, cluster: str = "") -> pb.ExplainResponse:
    """Return why things stand as they do, as it was written back last."""
    found = _read(namespace, cluster, statuses.EXPLAIN)
    return pb.ExplainResponse(clusters=[_parsed(name, text, pb.ClusterExplanation()) for name, text in sorted(found.items())])


def _read(namespace: str, cluster: str, key: str) -> dict[str, str]:
    """Return a document of each cluster by its name; raises NotFound for a cluster of which there is none."""
    found = asyncio.run(_fetch(namespace))
    if cluster and cluster not in found:
        known = ", ".join(sorted(found)) or "none"
        raise NotFound(f"no status of a cluster {cluster!r} in the namespace {namespace}; there is one of: {known}")
    chosen = {name: documents for name, documents in found.items() if cluster in ("", name)}
    return {name: documents[key] for name, documents in chosen.items() if key in documents}


async def _fetch(namespace: str) -> dict[str, Mapping[str, str]]:
    door = await client.connect(kubeconfig(), call_s=CALL_S)
    try:
        return await statuses.read(door, namespace)
    finally:
        await door.close()


def _parsed(cluster: str, text: str, empty: M) -> M:
    try:
        return Parse(text, empty, ignore_unknown_fields=True)
    except ParseError as error:
        raise Unavailable(f"the status of {cluster} cannot be read, another version may have written it: {error}") from error
