"""Nothing is lost on the way through the door, and nothing but a named refusal comes of what breaks a rule."""

import contextlib
import math
from dataclasses import replace

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from rayscaler import errors
from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.errors import BrokenPlugin, InvalidRequest
from rayscaler.executor import raystart
from rayscaler.executor.base import LaunchSpec
from rayscaler.executor.record import spec_hash
from rayscaler.local import command
from rayscaler.model.instance import InstanceObservation, Phase, Size, Trouble
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.plugin import convert
from rayscaler.rules import Rules

pytestmark = pytest.mark.tier("property")

NAMES = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=20)
IDS = st.from_regex(convert.INSTANCE_ID, fullmatch=True)
PAIRS = st.dictionaries(NAMES, st.text(st.characters(codec="utf-8"), max_size=20), max_size=3).map(lambda each: tuple(sorted(each.items())))
TIMES = st.floats(0, 4e9).map(lambda at: round(at, 3))
AMOUNTS = st.dictionaries(NAMES, st.integers(1, 1 << 62), max_size=3).map(Resources)
SIZES = st.builds(Size, AMOUNTS, AMOUNTS, st.text(st.characters(codec="utf-8"), max_size=20))
NODE_TYPES = st.builds(
    NodeType,
    name=NAMES,
    resources=AMOUNTS,
    labels=PAIRS,
    env=PAIRS,
    start_params=PAIRS,
    is_spot=st.booleans(),
    template=st.text(st.characters(codec="utf-8"), max_size=50),
    hosts_per_replica=st.integers(1, 8),
)
SPECS = st.builds(LaunchSpec, cluster=NAMES, instance_id=IDS, node_type=NODE_TYPES, head_address=NAMES) | st.builds(
    lambda spec, replica, host: replace(spec, replica=replica, host=host % spec.node_type.hosts_per_replica),
    st.builds(LaunchSpec, cluster=NAMES, instance_id=IDS, node_type=NODE_TYPES, head_address=NAMES),
    IDS,
    st.integers(0, 7),
)


def sent(spec: LaunchSpec) -> pb.LaunchSpec:
    """Return the message of a spec without how Ray is started, which not every amount here can be."""
    made = pb.LaunchSpec(instance_id=spec.instance_id, node_type=convert.node_type(spec.node_type), head_address=spec.head_address)
    if spec.replica:
        made.replica_id, made.replica_host, made.replica_size = spec.replica, spec.host, spec.node_type.hosts_per_replica
    return made


@st.composite
def observations(draw) -> InstanceObservation:
    made_as, replica = draw(st.none() | NODE_TYPES), draw(st.just("") | IDS)
    text = st.text(st.characters(codec="utf-8"), max_size=50)
    return InstanceObservation(
        instance_id=draw(IDS),
        node_type=draw(NAMES) if made_as is None else made_as.name,
        external_id=draw(NAMES),
        phase=draw(st.sampled_from(Phase)),
        detail=draw(text),
        observed_at=draw(TIMES.filter(bool)),
        error=draw(text),
        made_as=made_as,
        trouble=draw(st.none() | st.sampled_from(Trouble)),
        ends_at=draw(st.none() | TIMES),
        size=draw(st.none() | SIZES),
        replica=replica,
        host=draw(st.integers(0, 1 << 31 - 1)) if replica else 0,
    )


@given(SPECS)
def test_a_spec_arrives_as_it_was_sent(spec):
    rules = Rules()
    found = convert.spec_from(rules, "spec", spec.cluster, pb.LaunchSpec.FromString(sent(spec).SerializeToString()))
    assert (found, rules.problems) == (spec, [])
    assert spec_hash(found) == spec_hash(spec)


@given(observations())
def test_an_observation_arrives_as_it_was_made(seen):
    told = pb.Observation.FromString(convert.observation(seen).SerializeToString())
    found = convert.observation_from(told, now=math.inf)
    assert found.ends_at is seen.ends_at is None or found.ends_at == pytest.approx(seen.ends_at, abs=1e-6)
    assert found.observed_at == pytest.approx(seen.observed_at, abs=1e-6)
    assert found == InstanceObservation(**{**vars(seen), "observed_at": found.observed_at, "ends_at": found.ends_at})


def test_cd16_a_host_of_a_replica_is_sent_as_one_and_knows_it():
    node_type = NodeType("slice", Resources.of(TPU=4), hosts_per_replica=4)
    host = LaunchSpec("c", "c-slice-1-2", node_type, "h:1", replica="c-slice-1-r0", host=2)
    made, alone = convert.launch_spec(host), convert.launch_spec(replace(host, replica="", host=0))
    assert (made.replica_id, made.replica_host, made.replica_size, made.node_type.hosts_per_replica) == ("c-slice-1-r0", 2, 4, 4)
    assert {key: value for key, value in made.ray_start.env.items() if key not in alone.ray_start.env} == {
        "RAYSCALER_REPLICA": "c-slice-1-r0",
        "RAYSCALER_HOST_INDEX": "2",
        "RAYSCALER_HOSTS": "4",
    }
    assert (alone.replica_id, alone.replica_host, alone.replica_size) == ("", 0, 0)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"replica_host": 4}, "spec.replica_host: 4 is not from 0 to 3"),
        ({"replica_host": -1}, "spec.replica_host: -1 is not from 0 to 3"),
        ({"replica_size": 8}, "spec.replica_size: must be that of its node type, 4"),
        ({"replica_id": "a/b"}, "spec.replica_id: must be letters, digits, '-', '_' and '.', at most 128"),
    ],
)
def test_x55_a_host_that_its_replica_does_not_have_is_refused(change, problem):
    made = sent(LaunchSpec("c", "c-slice-1-2", NodeType("slice", Resources(), hosts_per_replica=4), "h:1", replica="r", host=2))
    for field, value in change.items():
        setattr(made, field, value)
    rules = Rules()
    convert.spec_from(rules, "spec", "c", made)
    assert rules.problems == [problem]


@st.composite
def bent(draw, messages) -> bytes:
    """Return the bytes of a message with some of them changed, left out or put in."""
    data = bytearray(draw(messages).SerializeToString())
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        data[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


def named_refusal(kind, data: bytes, call) -> None:
    """Fail unless what comes of bytes is a value, or an error that says which rule is broken."""
    try:
        told = kind.FromString(data)
    except DecodeError:
        return  # of which the session, or the interceptor, makes a named refusal
    with contextlib.suppress(BrokenPlugin, InvalidRequest):
        call(told)


def spec_or_refusal(told: pb.LaunchSpec) -> LaunchSpec:
    rules = Rules()
    found = convert.spec_from(rules, "spec", "c", told)
    if rules.problems:
        raise InvalidRequest(*rules.problems)
    assert convert.launch_spec(found).instance_id == told.instance_id  # what was taken can be passed on
    return found


OUTCOMES = st.builds(
    pb.LaunchResponse,
    results=st.lists(
        st.builds(pb.LaunchResult, instance_id=st.sampled_from("abc"), external_id=NAMES)
        | st.builds(pb.LaunchResult, instance_id=st.sampled_from("abc"), error=st.builds(pb.Error, reason=NAMES, message=NAMES)),
        max_size=3,
    ),
)


@given(st.binary(max_size=200) | bent(observations().map(convert.observation)))
def test_of_any_bytes_comes_an_observation_or_a_named_refusal(data):
    named_refusal(pb.Observation, data, lambda told: convert.observation(convert.observation_from(told, now=100.0)))


@given(st.binary(max_size=200) | bent(SPECS.map(sent)))
def test_of_any_bytes_comes_a_spec_or_a_named_refusal(data):
    named_refusal(pb.LaunchSpec, data, spec_or_refusal)


@given(st.binary(max_size=200) | bent(OUTCOMES))
def test_of_any_bytes_come_outcomes_or_a_named_refusal(data):
    named_refusal(pb.LaunchResponse, data, lambda told: convert.outcomes(told.results, ["a", "b"], "plugin x"))


KNOWN = [
    errors.NotFound,
    errors.Conflict,
    errors.Busy,
    errors.InsufficientCapacity,
    errors.Denied,
    errors.Unauthenticated,
    errors.Unsupported,
    errors.Unavailable,
]


@pytest.mark.parametrize("kind", KNOWN, ids=lambda kind: kind.__name__)
def test_an_error_of_the_table_comes_back_as_itself(kind):
    found = convert.error_from(convert.error(kind("why")), "plugin x")
    assert (type(found), str(found)) == (kind, "plugin x: why")


def test_an_invalid_request_comes_back_with_every_problem():
    raised = InvalidRequest(errors.Problem("a.b", "'x'", "must be y"), errors.Problem("c", "", "is required"))
    found = convert.error_from(convert.error(raised), "plugin x")
    assert isinstance(found, InvalidRequest)
    assert found.problems == raised.problems


@pytest.mark.parametrize(
    "raised", [errors.Fenced("x"), errors.Superseded("x"), errors.NotLeader("x"), errors.BrokenPlugin("x")], ids=lambda each: each.name
)
def test_what_is_not_a_plugins_to_say_is_taken_for_unavailable(raised):
    found = convert.error_from(convert.error(raised), "plugin x")
    assert type(found) is errors.Unavailable
    assert raised.name in str(found)


def test_what_was_seen_later_than_now_was_seen_now_and_without_a_time_too():
    told = pb.Observation(instance_id="a", node_type="t", external_id="x", phase=pb.PHASE_STARTING)
    assert convert.observation_from(told, now=50.0).observed_at == 50.0
    told.observed_at.seconds = 60
    assert convert.observation_from(told, now=50.0).observed_at == 50.0


def test_ray_is_started_as_a_local_worker_starts_it_but_for_what_this_machine_adds():
    spec = LaunchSpec(
        "c", "c-1", NodeType("t", Resources.of(CPU=2, fpga=0.5), env=(("A", "1"),), labels=(("z", "b"),), is_spot=True), "192.0.2.1:6379"
    )
    start = convert.launch_spec(spec).ray_start
    local = command.worker_argv(spec, "ray")
    assert [each for each in local if each not in start.argv] == ["--include-log-monitor=false"]
    assert start.argv[:2] == ["python3", "-c"]
    assert (start.env["A"], start.env["RAY_CLOUD_INSTANCE_ID"], start.env["RAY_NODE_MARKET_TYPE"]) == ("1", "c-1", "spot")
    assert set(start.not_inherited) == raystart.NOT_INHERITED


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ([], "X5: no result of a, b"),
        ([pb.LaunchResult(instance_id="a", external_id="1")], "X5: no result of b"),
        (
            [pb.LaunchResult(instance_id=each, external_id="1") for each in "aba"],
            "X5: a result of 'a', which was not asked for, or a second one",
        ),
        (
            [pb.LaunchResult(instance_id="a"), pb.LaunchResult(instance_id="b", external_id="1")],
            "X9: the result of a has no usable external_id",
        ),
        ([pb.LaunchResult(instance_id="a", external_id=""), pb.LaunchResult(instance_id="b", external_id="1")], "X9"),
        ([pb.LaunchResult(instance_id="a", external_id="\n"), pb.LaunchResult(instance_id="b", external_id="1")], "line break"),
    ],
)
def test_outcomes_that_are_none_are_not_taken(results, said):
    with pytest.raises(BrokenPlugin, match=said):
        convert.outcomes(results, ["a", "b"], "plugin x")
