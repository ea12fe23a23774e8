"""Code and `schema/demand.schema.json` agree on any file, and any field may be anything: a good file, or an error that names the place."""

import copy
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayscaler.config import demandfile, native, shown
from rayscaler.errors import InvalidRequest
from tests.config.demand_documents import worlds
from tests.config.test_demandfile import CONFIG, VALID, good

pytestmark = pytest.mark.tier("property")

BEYOND_THE_SCHEMA = ("no such node type", "is more than", "Ray counts in steps", "an amount is 461168601842738 at most")
"""Rules that need the definition, or arithmetic on text."""
NAN, INFINITE = float("nan"), float("inf")
JUNK = st.sampled_from(
    [None, True, False, 0, -1, 1, 7, 10**6, 10**6 + 1, 10**30, 0.5, -0.5, 0.00001, 1e300, NAN, INFINITE, "", "x", "1", "-1", "1.5", "2Gi", "1e3",
     "1e999", "!a", "in(a)", "in(", "a b", "gpu", "PACK", "pack", [], [None], [1], ["a"], [[]], [{}], {}, {"CPU": 1}, {"a": {"b": 1}},
     {"resources": {"CPU": 1}}, {"zone": "a"}, {1: 2}, {None: None}, {"": ""}, b"x"]
)  # fmt: skip
KEYS = st.sampled_from(
    ["count", "resources", "labelSelectors", "strategy", "bundles", "type", "used", "CPU", "memory", "bundle_group_x", "zone", "-"]
)


def places(document, path=()):
    """Yield the path of every value below the root."""
    items = document.items() if isinstance(document, dict) else enumerate(document) if isinstance(document, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def text(path):
    found = ""
    for key in path:
        found = f"{found}[{key}]" if isinstance(key, int) else shown.under(found, key)
    return found


@st.composite
def mutations(draw):
    """A good file with one value replaced, left out, or added under a key that may not be there: the file and the path."""
    document = good()
    path = draw(st.sampled_from(list(places(document))))
    where = document
    for key in path[:-1]:
        where = where[key]
    kind = draw(st.sampled_from(["replace", "replace", "replace", "leave out", "add"]))
    if kind == "leave out":
        del where[path[-1]]
        return document, path[:-1] if isinstance(path[-1], int) else path
    if kind == "add" and isinstance(where, dict):
        path = (*path[:-1], draw(KEYS))
    where[path[-1]] = draw(JUNK)
    return document, path


def problems(document, config=CONFIG):
    """Return the problems of a file, none of a good one; any other error is a failure of the test."""
    try:
        assert isinstance(demandfile.wanted(document, config), demandfile.Wanted)
    except InvalidRequest as error:
        return [str(each) for each in error.problems]
    return []


def is_json(value) -> bool:
    if isinstance(value, dict):
        return all(isinstance(key, str) and is_json(each) for key, each in value.items())
    if isinstance(value, list):
        return all(map(is_json, value))
    return not isinstance(value, bytes) and not (isinstance(value, float) and not math.isfinite(value))


@given(mutations())
@settings(max_examples=500, database=None)
def test_a_mutated_file_is_good_or_its_errors_name_the_place(mutation):
    document, path = mutation
    before = copy.deepcopy(document)
    found, place = problems(document), text(path)
    for each in found:
        where, _, rest = each.partition(": ")
        assert rest
        # Of another type a node may be too small for what is used: that error stands at the amount.
        assert where.startswith((place, text((*path[:-1], "used")) if path[-1] == "type" else place)) or place.startswith(where), found
    assert repr(document) == repr(before)
    if is_json(document):
        is_beyond = all(any(rule in each for rule in BEYOND_THE_SCHEMA) for each in found)
        is_valid = VALID.is_valid(document)
        assert not is_valid or is_beyond, found
        assert is_valid or found


@given(worlds)
@settings(database=None)
def test_good_files_are_good_to_code_and_schema(world):
    cluster, document = world
    assert problems(document, native.cluster(cluster)) == []
    VALID.validate(document)
