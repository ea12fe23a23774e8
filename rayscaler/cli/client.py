"""A client of the service, for the commands."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.api.head.v1 import head_pb2_grpc
from rayscaler.errors import NotFound, RayscalerError, Unavailable

CALL_S = 5.0
"""Deadline of one call."""


@contextmanager
def head_service(service: str) -> Iterator[Any]:
    """Yield a stub of HeadService; gRPC's errors become ours."""
    channel = grpc.insecure_channel(service, options=[("grpc.max_receive_message_length", 64 << 20)])
    try:
        yield head_pb2_grpc.HeadServiceStub(channel)
    except grpc.RpcError as error:
        code, detail = error.code(), error.details()
        if code is grpc.StatusCode.UNAVAILABLE:
            raise Unavailable(f"no service answers at {service}: {detail}") from error
        if code is grpc.StatusCode.NOT_FOUND:
            raise NotFound(detail) from error
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            raise Unavailable(f"the service at {service} did not answer within {CALL_S:g} s") from error
        raise RayscalerError(f"{service}: {code.name}: {detail}") from error
    finally:
        channel.close()


def get_status(service: str, cluster: str = "") -> pb.GetStatusResponse:
    """Ask for the status of one cluster, or of all."""
    with head_service(service) as stub:
        response: pb.GetStatusResponse = stub.GetStatus(pb.GetStatusRequest(cluster=cluster), timeout=CALL_S)
        return response


def get_explanations(service: str, cluster: str = "") -> pb.ExplainResponse:
    """Ask why things stand as they do, in one cluster or in all."""
    with head_service(service) as stub:
        response: pb.ExplainResponse = stub.Explain(pb.ExplainRequest(cluster=cluster), timeout=CALL_S)
        return response
