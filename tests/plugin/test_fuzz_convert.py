"""The converters under any message: what comes out is a value or a refusal of ours, and what is good survives the way there and back."""

import math
from dataclasses import replace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.errors import BrokenPlugin, InvalidRequest, RayscalerError
from rayscaler.executor.base import LaunchSpec
from rayscaler.model.instance import InstanceObservation, Phase, Trouble
from rayscaler.model.nodetype import NodeType
from rayscaler.model.resources import Resources
from rayscaler.plugin import convert
from rayscaler.rules import MAX_AT, Rules
from tests.counts import counted
from tests.plugin.fuzz import FULL, GATE, IDS, NOW, TEXTS, examples, messages

pytestmark = pytest.mark.tier("property")

MANY = counted(gate=GATE, full=FULL)

GOOD = st.from_regex(r"[A-Za-z0-9_-]{1,8}", fullmatch=True)
PEOPLE = st.text(max_size=30) | st.text(st.sampled_from("a\n\u2028\ud800\udcff\U0001f600"), max_size=1100)
"""Texts for people, of Python's own: with halves of surrogate pairs, as paths that are no UTF-8 have."""


def types(texts: st.SearchStrategy[str]) -> st.SearchStrategy[NodeType]:
    """Return any node type of these texts."""
    values = texts.filter(lambda text: len(text) < convert.MAX_VALUE)
    pairs = st.dictionaries(GOOD, values, max_size=3).map(lambda found: tuple(sorted(found.items())))
    amounts = st.dictionaries(GOOD | st.just("CPU"), st.integers(1, 2**62), max_size=3).map(Resources)
    return st.builds(
        NodeType, name=GOOD, resources=amounts, labels=pairs, env=pairs, start_params=pairs, is_spot=st.booleans(), template=texts
    )


MOMENTS = st.floats(0, MAX_AT) | st.sampled_from((0.0, NOW, float(MAX_AT)))
SEEN = st.builds(
    InstanceObservation,
    instance_id=GOOD,
    node_type=GOOD,
    external_id=GOOD,
    phase=st.sampled_from(Phase),
    detail=PEOPLE,
    observed_at=MOMENTS,
    error=PEOPLE,
    trouble=st.none() | st.sampled_from(Trouble),
    ends_at=st.none() | MOMENTS,
)


def alike(one: InstanceObservation, other: InstanceObservation) -> bool:
    """Whether two are the same but for what a float cannot keep of a time."""
    ends = (one.ends_at, other.ends_at)
    if None in ends and ends != (None, None):
        return False
    near = all(math.isclose(a or 0.0, b or 0.0, abs_tol=1e-3) for a, b in ((one.observed_at, other.observed_at), ends))
    return near and replace(one, observed_at=0.0, ends_at=None) == replace(other, observed_at=0.0, ends_at=None)


@examples(200 * MANY)
@given(messages(pb.Observation.DESCRIPTOR))
def test_any_observation_is_read_or_refused(told):
    try:
        seen = convert.observation_from(told, NOW)
    except BrokenPlugin as refused:
        assert str(refused).startswith("X24")  # noqa: PT017 - whether it is refused is what is drawn
        return
    assert seen.observed_at <= NOW
    seen = replace(seen, observed_at=seen.observed_at or NOW)  # a time of 0 is one that nobody knows
    assert alike(convert.observation_from(convert.observation(seen), NOW), seen)


ALONE = pb.LaunchSpec(instance_id="a", node_type=pb.NodeType(name="a"), head_address="a", replica_host=1)
"""Of no replica, yet some host of it."""


@examples(100 * MANY)
@example(ALONE)
@given(messages(pb.LaunchSpec.DESCRIPTOR))
def test_any_spec_is_read_or_refused_and_a_good_one_stays_the_same(told):
    rules = Rules()
    spec = convert.spec_from(rules, "spec", "c", told)
    if not rules.problems:
        assert_survives(spec)


@examples(100 * MANY)
@given(messages(pb.Error.DESCRIPTOR))
def test_any_error_is_one_of_ours(told):
    found = convert.error_from(told, "peer")
    assert isinstance(found, RayscalerError)
    again = convert.error_from(convert.error(found), "peer")
    assert again.name == found.name


@examples(100 * MANY)
@given(messages(pb.LaunchResponse.DESCRIPTOR), messages(pb.TerminateResponse.DESCRIPTOR), st.sets(st.sampled_from(IDS)))
def test_any_results_are_those_of_what_was_asked_for_or_refused(launched, ended, asked):
    for read, results in ((convert.outcomes, launched.results), (convert.ends, ended.results)):
        try:
            assert read(results, asked, "peer").keys() == asked
        except BrokenPlugin as refused:
            assert str(refused).startswith("peer: X")  # noqa: PT017 - as above


@examples(100 * MANY)
@given(SEEN, st.none() | types(TEXTS))
def test_what_an_executor_has_seen_survives(seen, made_as):
    if made_as is not None:
        made_as = replace(made_as, name=seen.node_type)
    seen = replace(seen, made_as=made_as)
    told = pb.Observation.FromString(convert.observation(seen).SerializeToString())
    found = convert.observation_from(told, float(MAX_AT))
    # A time of 0 is one that nobody knows; texts are cut, and what is no text is escaped.
    expected = replace(seen, detail=found.detail, error=found.error, observed_at=seen.observed_at or float(MAX_AT))
    assert alike(found, expected)
    for text, came in ((seen.detail, found.detail), (seen.error, found.error)):
        assert came == text or len(text) > convert.MAX_DETAIL or any("\ud800" <= each <= "\udfff" for each in text)


@examples(100 * MANY)
@given(
    types(TEXTS | st.just("\ud800")),
    GOOD,  # a definition can say even that
    TEXTS.filter(lambda text: 0 < len(text) <= 512),
)
def test_what_is_to_be_launched_survives(node_type, instance_id, address):
    assert_survives(LaunchSpec("c", instance_id, node_type, address))


@examples(100 * MANY)
@given(PEOPLE, st.sampled_from((InvalidRequest, BrokenPlugin)))
def test_any_text_of_an_error_can_be_said(text, kind):
    told = pb.Error.FromString(convert.error(kind(text)).SerializeToString())
    assert (
        convert.error_from(told, "peer").name == kind("").name or kind is BrokenPlugin
    )  # that one is the host's to find, and none to tell


def assert_survives(spec: LaunchSpec) -> None:
    """Check that a spec comes back as it was sent, or is refused before."""
    try:
        sent = convert.launch_spec(spec)
    except InvalidRequest:
        return  # a fraction of a whole thing, say, or no text
    rules = Rules()
    found = convert.spec_from(rules, "spec", spec.cluster, pb.LaunchSpec.FromString(sent.SerializeToString()))
    if not rules.problems:
        assert found.node_type.is_made_like(spec.node_type)
        assert replace(found, node_type=spec.node_type) == spec
