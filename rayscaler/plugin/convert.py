"""The model to executor.proto and back: all validation of what comes over the wire, in both directions. Every problem is told at once.

What a plugin says is BrokenPlugin where it breaks a rule (SPEC X...), what a caller says is InvalidRequest: who reads decides which.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from rayscaler import wire
from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.errors import BrokenPlugin, InvalidRequest, Problem, RayscalerError, Unavailable
from rayscaler.executor import raystart
from rayscaler.executor.base import LaunchSpec
from rayscaler.executor.record import make_document
from rayscaler.model.instance import InstanceObservation, Phase, Size, Trouble
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.rules import MAX_AMOUNT, MAX_AT, MAX_DETAIL, MAX_PROBLEMS, Rules, is_sayable

VERSION = 1
"""Of the protocol: the newest that is known here, and the one that is served (X1)."""
MAX_BATCH = 1000
"""Instances in one call, whatever a plugin bears (X40)."""
INSTANCE_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
"""What every executor can make a name of its own from."""
MAX_TEMPLATE = 1 << 20
"""Characters of a node type's template: more than an API server takes of a pod."""
MAX_VALUE = 64 << 10
"""Characters of one value of an environment, a label or a start parameter."""
MADE = 64
"""Node types kept as they were converted last."""
PHASES = {
    pb.PHASE_UNSCHEDULED: Phase.UNSCHEDULED,
    pb.PHASE_PULLING: Phase.PULLING,
    pb.PHASE_STARTING: Phase.STARTING,
    pb.PHASE_REGISTERING: Phase.REGISTERING,
    pb.PHASE_ENDING: Phase.ENDING,
    pb.PHASE_GONE: Phase.GONE,
}
TROUBLES = {
    pb.TROUBLE_UNSCHEDULABLE: Trouble.UNSCHEDULABLE,
    pb.TROUBLE_RETRIED: Trouble.RETRIED,
    pb.TROUBLE_HOPELESS: Trouble.HOPELESS,
    pb.TROUBLE_GATED: Trouble.GATED,
}
R = TypeVar("R", pb.LaunchResult, pb.TerminateResult)
_PHASE_NUMBERS = {phase: number for number, phase in PHASES.items()}
_TROUBLE_NUMBERS = {trouble: number for number, trouble in TROUBLES.items()}

# what goes out


class Outgoing(NamedTuple):
    """A spec to be sent: what all launches of its node type have in common is made once, and copied into the call alone."""

    spec: LaunchSpec
    common: pb.LaunchSpec
    common_bytes: int

    @property
    def size(self) -> int:
        """How many bytes of a call it takes, about: its id stands there twice, and so does its replica's."""
        return self.common_bytes + 2 * (len(self.spec.instance_id) + len(self.spec.replica))


def outgoing(spec: LaunchSpec) -> Outgoing:
    """Return a spec with how Ray is started by it; raises InvalidRequest for amounts that no node can have, and for text that is none."""
    try:
        common = _common_of(spec.node_type, spec.head_address)
    except UnicodeEncodeError as error:
        raise InvalidRequest(f"node_type: {spec.node_type.name}: half a surrogate pair stands in a text, which no wire takes") from error
    return Outgoing(spec, *common)


def launch_spec(spec: LaunchSpec) -> pb.LaunchSpec:
    """Return one spec as it stands in a call; raises as `outgoing`."""
    return launch_request("", [outgoing(spec)]).specs[0]


def launch_request(cluster: str, specs: Iterable[Outgoing], supervisor: str = "") -> pb.LaunchRequest:
    """Return a call for all of them."""
    request = pb.LaunchRequest(cluster=cluster, supervisor=supervisor)
    for spec, common, _ in specs:
        made = request.specs.add()
        made.CopyFrom(common)
        made.instance_id = spec.instance_id
        if spec.replica:
            made.replica_id, made.replica_size, made.replica_host = spec.replica, spec.node_type.hosts_per_replica, spec.host
        made.ray_start.env.update(raystart.identity(spec))
    return request


@lru_cache(maxsize=MADE)
def _common_of(made: NodeType, head_address: str) -> tuple[pb.LaunchSpec, int]:
    """Return what all launches of a node type have in common, and how many bytes that is."""
    spec = LaunchSpec("", "", made, head_address)
    start = pb.RayStart(
        argv=raystart.worker_argv(made, head_address), env=raystart.worker_env(spec), not_inherited=sorted(raystart.NOT_INHERITED)
    )
    common = pb.LaunchSpec(node_type=node_type(made), head_address=head_address, ray_start=start)
    return common, common.ByteSize()


@lru_cache(maxsize=MADE)
def node_type(made: NodeType) -> pb.NodeType:
    """Return what makes a worker of the type, to be copied and never changed; limits and prices stay here."""
    return pb.NodeType(**make_document(made))


def observation(seen: InstanceObservation) -> pb.Observation:
    """Return an observation."""
    told = pb.Observation()
    tell(told, seen)
    return told


def tell(told: pb.Observation, seen: InstanceObservation) -> None:
    """Fill an observation in its place, field by field: made elsewhere, or by its constructor, it takes as long again."""
    told.instance_id = seen.instance_id
    told.node_type = seen.node_type
    told.external_id = seen.external_id
    told.phase = _PHASE_NUMBERS[seen.phase]
    told.detail = _sayable(seen.detail)
    if seen.error:
        told.error = _sayable(seen.error)
    if seen.trouble is not None:
        told.trouble = _TROUBLE_NUMBERS[seen.trouble]
    if seen.replica:
        told.replica_id = seen.replica
    if seen.host:
        told.replica_host = seen.host
    if seen.observed_at:
        _set(told.observed_at, seen.observed_at)
    if seen.made_as is not None:
        told.made_as.CopyFrom(node_type(seen.made_as))
    if seen.ends_at is not None:
        _set(told.ends_at, seen.ends_at)
    if seen.size is not None:
        told.size.asked.update(seen.size.asked.amounts)
        told.size.actual.update(seen.size.actual.amounts)
        told.size.refusal = _sayable(seen.size.refusal)


def error(raised: RayscalerError) -> pb.Error:
    """Return why one instance's part of a call failed."""
    problems = raised.problems if isinstance(raised, InvalidRequest) else ()
    return pb.Error(
        reason=raised.name,
        message=_sayable(str(raised)[:MAX_DETAIL]),
        problems=[
            pb.Problem(path=_sayable(each.path), value=_sayable(each.value), rule=_sayable(each.rule)) for each in problems[:MAX_PROBLEMS]
        ],
    )


# what comes in


def error_from(told: pb.Error, peer: str) -> RayscalerError:
    """Return the error that a plugin tells of one instance; a reason that is not in the table is taken for UNAVAILABLE (X36)."""
    text = _text(told.message) or "says nothing more"
    kind = wire.OF_REASON.get(told.reason)
    if kind is None:
        return Unavailable(f"{peer}: {told.reason[:64]!r}, which is no reason of the protocol: {text}")
    if kind is InvalidRequest and told.problems:
        return InvalidRequest(*(Problem(_text(each.path), _text(each.value), _text(each.rule)) for each in told.problems[:MAX_PROBLEMS]))
    return kind(f"{peer}: {text}")


def spec_from(rules: Rules, path: str, cluster: str, told: pb.LaunchSpec) -> LaunchSpec:
    """Return the spec that a caller sends; problems go to `rules`."""
    instance_id, head_address = told.instance_id, told.head_address
    if not is_instance_id(instance_id):
        rules.broken(f"{path}.instance_id", "must be letters, digits, '-', '_' and '.', at most 128")
    rules.name(f"{path}.head_address", head_address, required=True)
    rules.need(f"{path}.node_type", told.HasField("node_type"), "is required")
    made = node_type_from(rules, f"{path}.node_type", told.node_type)
    if told.replica_id:
        size, rule = told.replica_size, f"must be that of its node type, {made.hosts_per_replica}"
        rules.need(f"{path}.replica_id", is_instance_id(told.replica_id), "must be letters, digits, '-', '_' and '.', at most 128")
        rules.need(f"{path}.replica_size", size == made.hosts_per_replica, rule)
        rules.need(f"{path}.replica_host", 0 <= told.replica_host < size, f"{told.replica_host} is not from 0 to {size - 1}")
    host = told.replica_host if told.replica_id else 0  # of no replica it says nothing
    return LaunchSpec(cluster, instance_id, made, head_address, told.replica_id, host)


def is_instance_id(name: str) -> bool:
    """Whether it is a name that an instance can have (X13)."""
    return INSTANCE_ID.fullmatch(name) is not None


def node_type_from(rules: Rules, path: str, told: pb.NodeType) -> NodeType:
    """Return the node type that somebody sends; problems go to `rules`. Pairs are sorted, so that the same type is the same again."""
    made, problems = _node_type_of(told.SerializeToString(deterministic=True))
    for each in problems:
        rules.broken(f"{path}.{each.path}", each.rule)
    return made


@lru_cache(maxsize=MADE)
def _node_type_of(data: bytes) -> tuple[NodeType, tuple[Problem, ...]]:
    """Return the node type in a message, and its problems: of a thousand instances most are of a few types."""
    told, rules = pb.NodeType.FromString(data), Rules()
    rules.name("name", told.name, required=True)
    resources = amounts(rules, "resources", told.resources)
    rules.natural("hosts_per_replica", told.hosts_per_replica)
    rules.need("template", len(told.template) <= MAX_TEMPLATE, f"is longer than {MAX_TEMPLATE} characters")
    made = NodeType(
        name=told.name,
        resources=resources,
        labels=_pairs(rules, "labels", told.labels),
        env=_pairs(rules, "env", told.env),
        start_params=_pairs(rules, "start_params", told.start_params),
        is_spot=told.is_spot,
        template=told.template,
        hosts_per_replica=told.hosts_per_replica or 1,
    )
    return made, tuple(map(Problem.of, rules.problems))


def amounts(rules: Rules, path: str, told: Mapping[str, int]) -> Resources:
    """Return amounts of resources; problems go to `rules`."""
    for name, amount in told.items():
        rules.name(path, name, required=True)
        rules.need(f"{path}.{name[:64]}", 0 < amount <= MAX_AMOUNT, f"{amount} is no amount above 0 and up to 2^62")
    return Resources(told)


def _size_from(rules: Rules, told: pb.Size) -> Size:
    return Size(amounts(rules, "size.asked", told.asked), amounts(rules, "size.actual", told.actual), _text(told.refusal))


def changes(told: pb.WatchResponse) -> list[pb.Observation]:
    """Return what a message of a watch tells, in order."""
    return [*([told.observation] if told.HasField("observation") else ()), *told.further]


def observation_from(told: pb.Observation, now: float) -> InstanceObservation:
    """Return what a plugin has seen; raises BrokenPlugin with every breach of X24. What was seen later than `now` was seen now."""
    rules = Rules()
    instance_id, node_type, external_id, replica = told.instance_id, told.node_type, told.external_id, told.replica_id
    phase, trouble, host = PHASES.get(told.phase), TROUBLES.get(told.trouble), told.replica_host
    if not is_instance_id(instance_id):
        rules.broken("instance_id", f"{instance_id[:64]!r} is no instance's")
    rules.name("node_type", node_type, required=True)
    rules.name("external_id", external_id, required=True)
    if phase is None:
        rules.broken("phase", f"{told.phase} is no phase")
    if trouble is None and told.trouble != pb.TROUBLE_UNSPECIFIED:
        rules.broken("trouble", f"{told.trouble} is no trouble")
    if replica and not is_instance_id(replica):
        rules.broken("replica_id", f"{replica[:64]!r} is no replica's")
    rules.natural("replica_host", host)
    observed_at = _at(rules, "observed_at", told.observed_at) if told.HasField("observed_at") else now
    seen = InstanceObservation(
        instance_id=instance_id,
        node_type=node_type,
        external_id=external_id,
        phase=phase or Phase.UNSCHEDULED,
        detail=_text(told.detail),
        observed_at=min(observed_at, now),
        error=_text(told.error),
        made_as=node_type_from(rules, "made_as", told.made_as) if told.HasField("made_as") else None,
        trouble=trouble,
        ends_at=_at(rules, "ends_at", told.ends_at) if told.HasField("ends_at") else None,
        replica=replica,
        host=host if replica else 0,
        size=_size_from(rules, told.size) if told.HasField("size") else None,
    )
    if seen.made_as is not None and seen.made_as.name != node_type:
        rules.broken("made_as.name", "is not node_type")
    if rules.problems:
        raise BrokenPlugin(f"X24: observation of {instance_id[:64]!r}: {'; '.join(rules.problems)}")
    return seen


def outcomes(results: Iterable[pb.LaunchResult], asked: Iterable[str], peer: str) -> dict[str, str | RayscalerError]:
    """Return what became of each launch; raises BrokenPlugin unless there is one result for each that was asked for (X5)."""
    found: dict[str, str | RayscalerError] = {}
    for each in _each_once("X5", results, asked, peer):
        if each.HasField("error"):
            found[each.instance_id] = error_from(each.error, peer)
        elif is_sayable(each.external_id):
            found[each.instance_id] = each.external_id
        else:
            rules = Rules()
            rules.name("external_id", each.external_id, required=True)
            raise BrokenPlugin(f"{peer}: X9: the result of {each.instance_id} has no usable external_id: {'; '.join(rules.problems)}")
    return found


def ends(results: Iterable[pb.TerminateResult], asked: Iterable[str], peer: str) -> dict[str, RayscalerError | None]:
    """Return what became of each termination; raises BrokenPlugin unless there is one result for each that was asked for (X16)."""
    return {
        each.instance_id: error_from(each.error, peer) if each.HasField("error") else None
        for each in _each_once("X16", results, asked, peer)
    }


def _each_once(rule: str, results: Iterable[R], asked: Iterable[str], peer: str) -> Iterator[R]:
    missing = dict.fromkeys(asked)
    for each in results:
        if missing.pop(each.instance_id, True):
            raise BrokenPlugin(f"{peer}: {rule}: a result of {each.instance_id[:64]!r}, which was not asked for, or a second one")
        yield each
    if missing:
        raise BrokenPlugin(f"{peer}: {rule}: no result of {', '.join(list(missing)[:5])}")


def _pairs(rules: Rules, path: str, told: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    for name, value in told.items():
        rules.name(path, name, required=True)
        rules.need(f"{path}.{name[:64]}", len(value) <= MAX_VALUE, f"is longer than {MAX_VALUE} characters")
    return tuple(sorted(told.items()))


def _at(rules: Rules, path: str, told: Timestamp) -> float:
    at = told.seconds + told.nanos / 1e9  # protobuf's own conversions raise on some that the wire can carry
    if not 0 <= at <= MAX_AT:
        rules.broken(path, f"{at} is no time from 1970 to 9999")
    return at


def _set(stamp: Timestamp, at: float) -> None:
    stamp.seconds = math.floor(at)
    stamp.nanos = int((at - stamp.seconds) * 1e9)


def _sayable(text: str) -> str:
    """Return a text for people as the wire takes it: a path or a log of other bytes than UTF-8 is half a surrogate pair in Python."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _text(told: str) -> str:
    """Return a text for people, as long as anybody reads."""
    return told if len(told) <= MAX_DETAIL else f"{told[:MAX_DETAIL]} ..."
