"""Errors of ours become gRPC status with google.rpc.ErrorInfo; anything else becomes INTERNAL with an id and no text."""

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from rayscaler.errors import InvalidRequest, RayscalerError

log = structlog.get_logger(__name__)

DOMAIN = "rayscaler.io"
"""`domain` of every ErrorInfo."""


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Outermost: whatever a method raises leaves as a status."""

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """Wrap unary methods; streams (reflection, health watch) are other people's code."""
        handler = await continuation(handler_call_details)
        if handler is None or handler.unary_unary is None:
            return handler
        method = handler.unary_unary

        async def guarded(request: Any, context: Any) -> Any:
            try:
                return await method(request, context)
            except RayscalerError as error:
                await context.abort_with_status(rpc_status.to_status(_status(error)))
            except grpc.aio.AbortError:
                raise
            except Exception:
                error_id = uuid.uuid4().hex[:12]
                log.exception("rpc.bug", method=handler_call_details.method, error_id=error_id)
                await context.abort(grpc.StatusCode.INTERNAL, f"internal error {error_id}; the service's log has it under this id")

        return grpc.unary_unary_rpc_method_handler(guarded, handler.request_deserializer, handler.response_serializer)


def _status(error: RayscalerError) -> status_pb2.Status:
    info = error_details_pb2.ErrorInfo(reason=error.name, domain=DOMAIN, metadata={"retry": error.retry.value})
    details = [_packed(info)]
    if isinstance(error, InvalidRequest):
        violations = [
            error_details_pb2.BadRequest.FieldViolation(field=each.partition(":")[0], description=each.partition(":")[2].strip())
            for each in error.problems
        ]
        details.append(_packed(error_details_pb2.BadRequest(field_violations=violations)))
    code: int = grpc.StatusCode[error.code].value[0]
    return status_pb2.Status(code=code, message=str(error), details=details)


def _packed(message: Any) -> AnyMessage:
    out = AnyMessage()
    out.Pack(message)
    return out
