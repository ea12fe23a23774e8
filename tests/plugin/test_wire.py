"""What an error says survives the wire; what others may not say, or what is none of ours, is taken for something harmless."""

import contextlib

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from rayscaler import errors, wire

pytestmark = pytest.mark.tier("protocol")

SAYABLE = [
    errors.InvalidRequest("a: is wrong"),
    *(
        kind("why not")
        for kind in (
            errors.NotFound,
            errors.Conflict,
            errors.Busy,
            errors.InsufficientCapacity,
            errors.Denied,
            errors.Unauthenticated,
            errors.Unsupported,
            errors.BookmarkExpired,
            errors.Unavailable,
        )
    ),
]


@contextlib.asynccontextmanager
async def answering(short_path, unary, stream=None):
    """Serve two methods behind the interceptor; yield a channel."""
    handlers = {"Unary": grpc.unary_unary_rpc_method_handler(unary)}
    if stream is not None:
        handlers["Stream"] = grpc.unary_stream_rpc_method_handler(stream)
    server = grpc.aio.server(interceptors=[wire.ErrorInterceptor()])
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.T", handlers),))
    server.add_insecure_port(f"unix:{short_path / 's'}")
    await server.start()
    async with grpc.aio.insecure_channel(f"unix:{short_path / 's'}", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        yield channel
    await server.stop(0)


async def error_of(call) -> errors.RayscalerError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return wire.error_of(caught.value, "peer")


async def read(call) -> None:
    async for _ in call:
        pass


@pytest.mark.parametrize("raised", SAYABLE, ids=lambda each: each.name)
async def test_an_error_arrives_as_itself_from_a_method_and_from_a_stream(short_path, raised):
    async def unary(request, context):
        raise raised

    async def stream(request, context):
        yield b"first"
        raise raised

    async with answering(short_path, unary, stream) as channel:
        for call in (channel.unary_unary("/t.T/Unary")(b""), read(channel.unary_stream("/t.T/Stream")(b""))):
            found = await error_of(call)
            assert (type(found), str(found)) == (type(raised), f"peer: {raised}")


@pytest.mark.parametrize(
    "raised", [errors.Fenced("x"), errors.Superseded("x"), errors.NotLeader("x"), errors.BrokenPlugin("x")], ids=lambda each: each.name
)
async def test_what_is_not_for_others_to_say_is_unavailable(short_path, raised):
    async def unary(request, context):
        raise raised

    async with answering(short_path, unary) as channel:
        assert type(await error_of(channel.unary_unary("/t.T/Unary")(b""))) is errors.Unavailable


async def test_a_bug_in_a_stream_leaves_as_an_id_and_no_text(short_path):
    async def unary(request, context):
        return b""

    async def stream(request, context):
        yield b"first"
        raise ZeroDivisionError("secret")

    async with answering(short_path, unary, stream) as channel:
        found = await error_of(read(channel.unary_stream("/t.T/Stream")(b"")))
        assert "internal error" in str(found)
        assert "secret" not in str(found)


CODES = {
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidRequest,
    grpc.StatusCode.ALREADY_EXISTS: errors.Conflict,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.InsufficientCapacity,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unsupported,
    grpc.StatusCode.OUT_OF_RANGE: errors.BookmarkExpired,
    grpc.StatusCode.INTERNAL: errors.Unavailable,
    grpc.StatusCode.UNKNOWN: errors.Unavailable,
    grpc.StatusCode.DATA_LOSS: errors.Unavailable,
    grpc.StatusCode.FAILED_PRECONDITION: errors.Unavailable,
}


@pytest.mark.parametrize(("code", "kind"), CODES.items(), ids=lambda each: getattr(each, "name", ""))
async def test_a_bare_status_is_taken_for_what_its_code_says(short_path, code, kind):
    async def unary(request, context):
        await context.abort(code, "in its own words")

    async with answering(short_path, unary) as channel:
        found = await error_of(channel.unary_unary("/t.T/Unary")(b""))
        assert (type(found), str(found)) == (kind, "peer: in its own words")


@pytest.mark.parametrize("domain", ["googleapis.com", ""])
async def test_details_of_somebody_elses_domain_say_nothing(short_path, domain):
    status = status_pb2.Status(code=grpc.StatusCode.UNAVAILABLE.value[0], message="x")
    status.details.add().Pack(error_details_pb2.ErrorInfo(reason="CONFLICT", domain=domain))

    async def unary(request, context):
        await context.abort_with_status(rpc_status.to_status(status))

    async with answering(short_path, unary) as channel:
        assert type(await error_of(channel.unary_unary("/t.T/Unary")(b""))) is errors.Unavailable


@pytest.mark.parametrize("details", [b"\xff\xff\xff", b"", status_pb2.Status(code=3, message="another").SerializeToString()])
async def test_details_that_cannot_be_read_say_nothing(short_path, details):
    async def unary(request, context):
        context.set_trailing_metadata((("grpc-status-details-bin", details),))
        await context.abort(grpc.StatusCode.UNAVAILABLE, "x")

    async with answering(short_path, unary) as channel:
        assert type(await error_of(channel.unary_unary("/t.T/Unary")(b""))) is errors.Unavailable
