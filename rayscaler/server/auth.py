"""Who may call: TLS towards the caller, a bearer token from it. Knows no kind of token; who checks one is handed in."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import grpc
from grpc_health.v1 import health

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.errors import Denied, Unauthenticated
from rayscaler.model.credentials import Caller, Certificate
from rayscaler.wire import parsed

Authenticate = Callable[[str], Caller]
"""Returns who a token is of; raises Unauthenticated, or Unavailable while nobody can tell."""

OPEN = f"/{health.SERVICE_NAME}/"
"""Methods that need no credential: kubelet has none."""
SCHEME = "bearer "


class AuthInterceptor(grpc.aio.ServerInterceptor):
    """Inside the one for errors: a call without a valid token is refused before a byte of its message is parsed."""

    def __init__(self, authenticate: Authenticate) -> None:
        self._authenticate = authenticate

    async def intercept_service(self, continuation: Callable[[Any], Awaitable[Any]], handler_call_details: Any) -> Any:
        """Wrap unary methods; a stream that needs a token is not served."""
        handler = await continuation(handler_call_details)
        if handler is None or handler_call_details.method.startswith(OPEN):
            return handler
        if handler.unary_unary is None:
            return None
        method, deserialize = handler.unary_unary, handler.request_deserializer

        async def checked(data: bytes, context: Any) -> Any:
            caller = self._authenticate(_token(context.invocation_metadata()))
            request = parsed(deserialize, data)
            _bind(request, caller)
            return await method(request, context)

        return grpc.unary_unary_rpc_method_handler(checked, None, handler.response_serializer)


def server_credentials(certificate: Callable[[], Certificate]) -> grpc.ServerCredentials:
    """Return TLS credentials that show each new connection the certificate of its moment."""
    shown = certificate()

    def another() -> Any:
        # Runs in a thread of gRPC's, before a handshake: looks at one name, and no more. None (of which the stubs know nothing) keeps the last.
        nonlocal shown
        now = certificate()
        if now is shown:
            return None
        shown = now
        return _configuration(now)

    return grpc.dynamic_ssl_server_credentials(_configuration(shown), another)


def _configuration(certificate: Certificate) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(certificate.key, certificate.chain)])


def _token(metadata: Sequence[tuple[str, str | bytes]] | None) -> str:
    for key, value in metadata or ():
        if key == "authorization" and isinstance(value, str) and value[: len(SCHEME)].lower() == SCHEME:
            return value[len(SCHEME) :].strip()
    raise Unauthenticated("authorization: is missing, or is not `Bearer TOKEN`; start the monitor with --ca and --token")


def _bind(request: Any, caller: Caller) -> None:
    """Refuse a report in another head's name: the pod of the credential is the head (SPEC H63)."""
    if isinstance(request, pb.ReportDemandRequest) and request.head_incarnation != caller.uid:
        raise Denied(
            f"head_incarnation: {request.head_incarnation[:64]!r} is not the pod of the token, {caller.pod} with uid {caller.uid!r}; "
            "start the monitor with --incarnation and the uid of its own pod"
        )
