"""Quantities and durations go there and back; garbage ends in problems, never in a traceback."""

from decimal import Decimal
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rayscaler.config import document, load, native, quantity
from rayscaler.errors import InvalidRequest
from rayscaler.model.nodetype import ClusterConfig
from tests.config.test_native import GOOD

pytestmark = pytest.mark.tier("property")

FACTORS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "": 1}


@given(st.integers(0, 1 << 60))
def test_an_amount_of_units_comes_back_from_its_decimal_text_and_from_its_number(units):
    decimal = Decimal(units) / 10_000
    assert quantity.amount("GPU", str(decimal)) == units
    if units < 10**15:
        assert quantity.amount("GPU", float(decimal)) == units


@given(st.integers(0, 400), st.sampled_from(sorted(FACTORS)))
def test_bytes_take_every_suffix_of_kubernetes_and_others_none(count, suffix):
    assert quantity.amount("memory", f"{count}{suffix}") == count * FACTORS[suffix] * 10_000
    if suffix:
        with pytest.raises(ValueError, match="an amount is a number"):
            quantity.amount("CPU", f"{count}{suffix}")


@pytest.mark.parametrize(("text", "units"), [("1.5Gi", 3 * 2**29 * 10_000), (0.0001, 1), ("1e3", 10_000_000), (0, 0)])
def test_amounts_that_people_write(text, units):
    assert quantity.amount("memory", text) == units


@pytest.mark.parametrize(
    "value", [0.00005, "0.00011", "-1", "nan", "inf", float("inf"), True, None, [], "", "1e999999999", "1e30", 10**30, "Gi"]
)
def test_amounts_that_are_refused(value):
    with pytest.raises(ValueError, match=r"amount|steps|bytes"):
        quantity.amount("memory", value)


@given(st.integers(0, 8_000), st.integers(0, 10_000), st.integers(0, 10_000))
def test_a_duration_comes_back_from_its_text(hours, minutes, seconds):
    text = "".join(f"{count}{unit}" for count, unit in ((hours, "h"), (minutes, "m"), (seconds, "s")) if count) or "0s"
    assert quantity.duration_s(text) == hours * 3600 + minutes * 60 + seconds


@pytest.mark.parametrize("value", ["", "5", 5, "5 m", "-5s", "5s5m", "1d", None, "s", "9" * 400 + "h", "٣s", "1.5m", "5s\n"])
def test_durations_that_are_refused(value):
    with pytest.raises(ValueError, match="written like 30s"):
        quantity.duration_s(value)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.dates() | st.binary(max_size=4)
KEYS = st.sampled_from(
    ["apiVersion", "kind", "metadata", "spec", "name", "maxWorkers", "upscalingSpeed", "spendLimit", "maxConcurrentLaunches", "maxLaunchesPerMinute", "idleTimeout", "floorAfterDriver", "consolidation", "devices", "executor", "head", "nodeTypes",
     "resources", "labels", "env", "startParams", "minWorkers", "headroom", "cost", "costFactor", "priority", "spot", "hostsPerReplica", "resize", "maxResources", "timeout", "CPU", "memory"]
) | st.text(max_size=5) | st.integers() | st.none()  # fmt: skip


def definition_or_problems(make):
    """Make a definition; any other error than a list of problems is a failure of the test."""
    try:
        return make()
    except InvalidRequest as error:
        return tuple(map(str, error.problems))


ANYTHING = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12)
SPECS = st.dictionaries(KEYS, ANYTHING, max_size=6)


@given(
    document=ANYTHING | st.fixed_dictionaries({"metadata": SPECS, "spec": SPECS | st.fixed_dictionaries({"nodeTypes": st.lists(SPECS)})})
)
@settings(max_examples=150)
def test_any_document_is_a_definition_or_a_list_of_problems(document):
    made = definition_or_problems(lambda: native.cluster(document))
    if isinstance(made, ClusterConfig):
        assert made.name
    else:
        assert made
        assert all(": " in each for each in made)


@given(st.data())
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_in_a_file_are_a_definition_or_a_list_of_problems(tmp_path: Path, data):
    cuts = st.integers(0, len(GOOD))
    noise = st.binary(max_size=20) | st.sampled_from(
        [b"!!int x", b"&a", b"*a", b"<<: ", b"? ", b"{", b"[", b"'", b"\t", b"2024-13-45", b"!!bool maybe"]
    )
    start, end = sorted((data.draw(cuts), data.draw(cuts)))
    path = tmp_path / "cluster.yaml"
    path.write_bytes(data.draw(st.sampled_from([GOOD[:start], ""])).encode() + data.draw(noise) + GOOD[end:].encode())
    made = definition_or_problems(lambda: load.from_file(path))
    assert isinstance(made, ClusterConfig) or all(each.startswith(f"{path}: ") for each in made)


def read_by(loaders, text):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(document, "_LOADERS", loaders)
        return repr(definition_or_problems(lambda: document.read(text)))


@pytest.mark.skipif(len(document._LOADERS) < 2, reason="PyYAML was built without libyaml: install it from a wheel")
@given(st.data())
def test_with_libyaml_all_that_pyyaml_reads_is_read_as_it_does(data):
    cuts = st.integers(0, len(GOOD))
    noise = st.text("\n :-?[]{},&*!|>'\"%@#~<aé0.", max_size=6) | st.sampled_from(
        ["!!int 0x1f", "&a", "*a", "<<: ", "2024-12-31", "1e3", "---\n"]
    )
    start, end = sorted((data.draw(cuts), data.draw(cuts)))
    text = GOOD[:start] + data.draw(noise) + GOOD[end:]
    own = read_by((yaml.SafeLoader,), text)
    if own.startswith("Document("):  # libyaml takes more, such as a tab between two tokens
        assert read_by(document._LOADERS, text) == own  # libyaml also takes less, such as "[a:]", which is read again then


@pytest.mark.parametrize(
    "text",
    [
        "a: 2024-13-45",
        "a: !!bool maybe",
        "a: !!int x",
        "a: !!float x",
        "a: !!timestamp x",
        "a: !!binary é",
        "[" * 5000,
        "- " * 50_000,
        "&a [*a]",
        "a: &a [*a]\nspec: *a",
        "a: " + "9" * 5000,
        "spec: {maxWorkers: 0x" + "f" * 5000 + "}",
        "? [a]\n: b",
        "a: 1\n---\nb: 2",
        "\x00",
        "!!python/object/apply:os.system [true]",
        "x: &x [a,a,a,a,a,a,a,a,a]\n" + "".join(f"x{i}: &x{i} [" + ",".join([f"*x{i - 1}" if i else "*x"] * 9) + "]\n" for i in range(9)) + "spec: *x8",
    ],
    ids=range(17),
)  # fmt: skip
def test_what_breaks_yaml_readers_is_a_problem_like_any_other(tmp_path, text):
    path = tmp_path / "cluster.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidRequest) as caught:
        load.from_file(path)
    assert all(str(each).startswith(f"{path}: ") for each in caught.value.problems)
    assert len(str(caught.value)) < 20_000


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xfd"])
def test_a_file_that_cannot_be_read_is_named(tmp_path, content):
    path = tmp_path / "missing.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"missing\.yaml: cannot be read( as text)?: "):
        load.from_file(path)


def test_a_duration_of_more_than_a_year_is_refused():
    assert quantity.duration_s("8784h") == 366 * 86_400
    with pytest.raises(ValueError, match="a duration is 8784h at most"):
        quantity.duration_s("8784h0.1s")


def test_the_good_document_survives_yaml_there_and_back():
    document = yaml.safe_load(GOOD)
    assert native.cluster(yaml.safe_load(yaml.safe_dump(document))) == native.cluster(document)
