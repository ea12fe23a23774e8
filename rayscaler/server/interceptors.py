"""Errors of ours become gRPC status with google.rpc.ErrorInfo; anything else becomes INTERNAL with an id and no text."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from rayscaler.errors import InvalidRequest, RayscalerError

log = structlog.get_logger(__name__)

DOMAIN = "rayscaler.io"
"""`domain` of every ErrorInfo."""
MAX_TEXT = 1000
"""Characters of a status's text. It and the details travel in trailers, of which gRPC takes 8 KiB, percent-encoded and in base64."""
MAX_DETAILS_BYTES = 2500
"""Of the problems in a status's details; those beyond are left out."""


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Outermost: whatever a method raises leaves as a status."""

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """Wrap unary methods; streams (reflection, health watch) are other people's code."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        method, deserialize = handler.unary_unary, handler.request_deserializer

        async def guarded(data: bytes, context: Any) -> Any:
            try:
                return await method(parsed(deserialize, data), context)
            except RayscalerError as error:
                await context.abort_with_status(rpc_status.to_status(_status(error)))
            except grpc.aio.AbortError:
                raise
            except Exception:
                # A bug of ours: gRPC would send its text to the caller, who gets an id instead.
                error_id = uuid.uuid4().hex[:12]
                log.exception("rpc.bug", method=handler_call_details.method, error_id=error_id)
                await context.abort(grpc.StatusCode.INTERNAL, f"internal error {error_id}; the service's log has it under this id")

        # The bytes are parsed above: gRPC itself would call a message that it cannot parse our bug.
        return grpc.unary_unary_rpc_method_handler(guarded, None, handler.response_serializer)


def parsed(deserialize: Callable[[bytes], Any] | None, data: bytes) -> Any:
    """Return the message of these bytes, or the bytes where an inner interceptor parses them; raises InvalidRequest."""
    try:
        return data if deserialize is None else deserialize(data)
    except DecodeError as error:
        raise InvalidRequest("request: is not a message of this method") from error


def _status(error: RayscalerError) -> status_pb2.Status:
    info = error_details_pb2.ErrorInfo(reason=error.name, domain=DOMAIN, metadata={"retry": error.retry.value})
    details = [_packed(info)]
    if isinstance(error, InvalidRequest):
        bad = error_details_pb2.BadRequest()
        for problem in error.problems:
            bad.field_violations.add(field=problem.path, description=": ".join(filter(None, (problem.value, problem.rule))))
            if bad.ByteSize() > MAX_DETAILS_BYTES:
                del bad.field_violations[-1]
                break
        details.append(_packed(bad))
    code: int = grpc.StatusCode[error.code].value[0]
    text = str(error).encode("ascii", "backslashreplace").decode("ascii")
    return status_pb2.Status(code=code, message=text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]} ...", details=details)


def _packed(message: Any) -> AnyMessage:
    out = AnyMessage()
    out.Pack(message)
    return out
