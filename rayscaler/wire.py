"""Errors of ours as gRPC statuses with google.rpc.ErrorInfo, and back; anything else becomes INTERNAL with an id and no text. Knows no service."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Protocol, Self

import grpc
import structlog
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from rayscaler import errors
from rayscaler.errors import InvalidRequest, RayscalerError, Unsupported

log = structlog.get_logger(__name__)

DOMAIN = "rayscaler.io"
"""`domain` of every ErrorInfo."""
MAX_TEXT = 1000
"""Characters of a status's text. It and the details travel in trailers, of which gRPC takes 8 KiB, percent-encoded and in base64."""
MAX_DETAILS_BYTES = 2500
"""Of the problems in a status's details; those beyond are left out."""
TOO_LARGE = "message larger than max"
"""In gRPC's own words about a message that passes a limit; it has no ErrorInfo."""

_TOLD: tuple[type[RayscalerError], ...] = (
    errors.InvalidRequest,
    errors.NotFound,
    errors.Conflict,
    errors.Busy,
    errors.InsufficientCapacity,
    errors.Denied,
    errors.Unauthenticated,
    errors.Unsupported,
    errors.BookmarkExpired,
)
_OF_CODE = {kind.code: kind for kind in _TOLD}
"""For whoever sends a bare status; all other codes say that there is no answer now."""
OF_REASON: dict[str, type[RayscalerError]] = {kind("").name: kind for kind in (*_TOLD, errors.Unavailable)}
"""What others may tell us, by the `reason` of its ErrorInfo. That we are fenced, say, is not for them to say."""


class Reply(Protocol):
    """A generated message class, as far as a call needs it."""

    @classmethod
    def FromString(cls, s: bytes) -> Self:  # noqa: N802  (protobuf's own name)
        """Parse the bytes of an answer."""
        ...


class ErrorInterceptor(grpc.aio.ServerInterceptor):
    """Outermost: whatever a method raises leaves as a status."""

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """Wrap methods with one request; others are other people's code, and so are streams that are no async generators (health's Watch)."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith("/grpc."):
            return handler
        deserialize, name = handler.request_deserializer, handler_call_details.method

        # The bytes are parsed in here: gRPC itself would call a message that it cannot parse our bug.
        if handler.unary_unary is not None:

            async def guarded(data: bytes, context: Any) -> Any:
                try:
                    return await handler.unary_unary(parsed(deserialize, data), context)
                except Exception as error:  # noqa: BLE001 - each becomes a status, or is raised again
                    await _abort(context, name, error)

            return grpc.unary_unary_rpc_method_handler(guarded, None, handler.response_serializer)
        if handler.unary_stream is not None:

            async def guarded_stream(data: bytes, context: Any) -> AsyncIterator[Any]:
                try:
                    async for each in handler.unary_stream(parsed(deserialize, data), context):
                        yield each
                except Exception as error:  # noqa: BLE001 - each becomes a status, or is raised again
                    await _abort(context, name, error)

            return grpc.unary_stream_rpc_method_handler(guarded_stream, None, handler.response_serializer)
        return handler


async def _abort(context: Any, method: str, error: Exception) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if isinstance(error, NotImplementedError):  # of generated code: a method that nobody serves here
        error = Unsupported(f"{method} is not served here")
    if isinstance(error, RayscalerError):
        await context.abort_with_status(rpc_status.to_status(status_of(error)))
    # A bug of ours: gRPC would send its text to the caller, who gets an id instead.
    await context.abort(grpc.StatusCode.INTERNAL, bug(method, error))


def bug(method: str, error: Exception) -> str:
    """Log a bug of ours under an id; return what others are told of it."""
    error_id = uuid.uuid4().hex[:12]
    log.error("rpc.bug", method=method, error_id=error_id, exc_info=error)
    return f"internal error {error_id}; the service's log has it under this id"


def parsed(deserialize: Callable[[bytes], Any] | None, data: bytes) -> Any:
    """Return the message of these bytes, or the bytes where an inner interceptor parses them; raises InvalidRequest."""
    try:
        return data if deserialize is None else deserialize(data)
    except DecodeError as error:
        raise InvalidRequest("request: is not a message of this method") from error


def status_of(error: RayscalerError) -> status_pb2.Status:
    """Return the status that tells an error."""
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


def error_of(error: grpc.aio.AioRpcError, peer: str) -> RayscalerError:
    """Return the error that a status tells: by its ErrorInfo if that is ours, else by its code. `peer` is who was called, for the text."""
    text = f"{peer}: {(error.details() or error.code().name)[:MAX_TEXT]}"
    kind = OF_REASON.get(_reason(error))
    if kind is None:
        is_size = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and TOO_LARGE in (error.details() or "")
        kind = errors.BrokenPlugin if is_size else _OF_CODE.get(error.code().name, errors.Unavailable)
    return kind(text)


def _reason(error: grpc.aio.AioRpcError) -> str:
    try:
        status = rpc_status.from_call(error)
    except (ValueError, DecodeError):  # details that contradict the code, or are none
        return ""
    for detail in () if status is None else status.details:
        info = error_details_pb2.ErrorInfo()
        try:
            if detail.Unpack(info) and info.domain == DOMAIN:
                return str(info.reason)
        except DecodeError:
            continue
    return ""


def _packed(message: Any) -> AnyMessage:
    out = AnyMessage()
    out.Pack(message)
    return out
