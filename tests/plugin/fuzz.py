"""Hostile values for the fuzz of the plugins' door: any message of executor.proto, and a plugin that answers anything at all."""

import os
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field

import grpc
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import Phase, settings
from hypothesis import strategies as st

from rayscaler.api.executor.v1 import executor_pb2 as pb

FULL = 10
"""A soak and a long run have so many times the examples."""
GATE = FULL if os.environ.get("HYPOTHESIS_PROFILE") == "long" else 1
"""What the gate has of that."""
NOW = 1_800_000_000.0
IDS = ("a", "b-1", "c_2.x")
"""What requests are about, so that some answers fit them."""
NAMES = st.sampled_from((*IDS, "small", "CPU", "memory", "c", ""))
TEXTS = (
    NAMES | st.text(max_size=20) | st.sampled_from(("\0", "a\nb", "\u2028", "\U0010ffff", "../../etc", "%s{}$(x)", "x" * 513, "y" * 70_000))
)
"""Any that the wire can carry: no half of a surrogate pair."""
WHOLE = {
    FieldDescriptor.CPPTYPE_INT32: st.sampled_from((0, 1, -1, 7, 2**31 - 1, -(2**31))) | st.integers(-(2**31), 2**31 - 1),
    FieldDescriptor.CPPTYPE_INT64: st.sampled_from((0, 1, 10_000, 5_000, -1, 2**62, 2**63 - 1, -(2**63)))
    | st.integers(-(2**63), 2**63 - 1),
    FieldDescriptor.CPPTYPE_ENUM: st.integers(0, 7) | st.sampled_from((-1, 99, 2**31 - 1, -(2**31))),
}
SERVICE = pb.DESCRIPTOR.services_by_name["ExecutorService"]
METHODS = tuple(SERVICE.methods_by_name)


def examples(count: int) -> settings:
    """Return settings of a property with so many examples; a failure prints what runs it again."""
    return settings(max_examples=count, phases=[Phase.explicit, Phase.generate, Phase.shrink])


@st.composite
def messages(draw: st.DrawFn, kind: Descriptor) -> Message:
    """Return any message of a kind."""
    made = GetMessageClass(kind)()
    for each in kind.fields:
        if draw(st.integers(0, 3)):  # most are there, or hardly any message would be a good one
            _fill(draw, made, each)
    return made


def _fill(draw: st.DrawFn, made: Message, each: FieldDescriptor) -> None:
    target = getattr(made, each.name)
    if each.message_type is not None and each.message_type.GetOptions().map_entry:
        value = each.message_type.fields_by_name["value"]
        for key in draw(st.lists(TEXTS, max_size=3)):
            target[key] = draw(_scalars(value))
    elif each.message_type is not None and each.is_repeated:
        target.extend(draw(st.lists(messages(each.message_type), max_size=3)))
    elif each.message_type is not None:
        target.CopyFrom(draw(messages(each.message_type)))
    elif each.is_repeated:
        target.extend(draw(st.lists(_scalars(each), max_size=3)))
    else:
        setattr(made, each.name, draw(_scalars(each)))


def _scalars(each: FieldDescriptor) -> st.SearchStrategy:
    if each.cpp_type == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    return TEXTS if each.cpp_type == FieldDescriptor.CPPTYPE_STRING else WHOLE[each.cpp_type]


@st.composite
def data(draw: st.DrawFn, kind: Descriptor) -> bytes:
    """Return any bytes: those of a message, of one that was damaged, or just some."""
    good = draw(messages(kind)).SerializeToString()
    match draw(st.integers(0, 5)):
        case 0:
            return draw(st.binary(max_size=100))
        case 1:
            at = draw(st.integers(0, len(good)))
            return good[:at] + draw(st.binary(max_size=4)) + good[at + draw(st.integers(0, 4)) :]
        case _:
            return good


@dataclass(frozen=True)
class Refusal:
    """A status that a rogue answers with."""

    code: grpc.StatusCode
    text: str
    details: bytes


@st.composite
def refusals(draw: st.DrawFn) -> Refusal:
    """Return any refusal."""
    codes = st.sampled_from([each for each in grpc.StatusCode if each is not grpc.StatusCode.OK])
    return Refusal(draw(codes), draw(TEXTS)[:1000], draw(st.binary(max_size=200)))


Answer = bytes | Refusal


@dataclass
class Rogue(grpc.GenericRpcHandler):
    """Serves every method of the executor's service with whatever it was told to: the same each time, or one after the other."""

    answers: dict[str, Sequence[Answer]] = field(default_factory=dict)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Return what answers a method."""
        name = handler_call_details.method.rpartition("/")[2]
        if SERVICE.methods_by_name[name].server_streaming:
            return grpc.unary_stream_rpc_method_handler(self._stream(name))
        return grpc.unary_unary_rpc_method_handler(self._unary(name))

    def _unary(self, name: str) -> Callable:
        async def answer(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
            return await _said(self.answers[name][0], context)

        return answer

    def _stream(self, name: str) -> Callable:
        async def answer(request: bytes, context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
            for each in self.answers[name]:
                yield await _said(each, context)

        return answer


async def _said(answer: Answer, context: grpc.aio.ServicerContext) -> bytes:
    if isinstance(answer, bytes):
        return answer
    context.set_trailing_metadata((("grpc-status-details-bin", answer.details),))
    await context.abort(answer.code, answer.text)
    raise AssertionError("abort raises")
