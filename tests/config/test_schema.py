"""The schema and the code say the same of every document, but for a few rules that a schema cannot say. Each names its reason."""

import json
import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError, validators

from rayscaler.config import native, shown
from rayscaler.errors import InvalidRequest, Problem
from rayscaler.model.resources import WHOLE
from tests.config.documents import JSON, YAML, changes, places, valid
from tests.config.test_native import GOOD, changed

pytestmark = pytest.mark.tier("property")

SCHEMA = json.loads((Path(__file__).parents[2] / "schema" / "cluster.schema.json").read_text())
ONLY_THE_CODE = {
    r"spec\.maxWorkers: .*: is below the sum of all minWorkers": "a sum over the list",
    r"\.minWorkers: .*: is above maxWorkers": "a comparison of two fields",
    r"\.cost: None: is needed, since there is a spendLimit": "of another field's presence",
    r"spec\.spendLimit: .*: is below what all minWorkers cost": "a sum over the list",
    r"\.(min|max)Workers: .*: must be a multiple of hostsPerReplica": "a comparison of two fields",
    r"\.max(ConcurrentLaunches|LaunchesPerMinute): .*: is below hostsPerReplica of": "a comparison of two fields",
    r"\.headroom: .*: must be a multiple of hostsPerReplica": "a comparison of two fields",
    r"\.startParams\..*: stands in .*resources too, and not the same": "a comparison of two fields",
    r"\.startParams\.labels: .*: labels stand in .*labels alone": "a comparison of two fields",
    r"\.name: .*: stands there twice; names are unique": "a schema knows unique items, not unique names of items",
    r"\.(idleTimeout|floorAfterDriver): '.*': a duration is 8784h at most": "a sum of hours, minutes and seconds",
    r"resources.*: '.*': a node has whole amounts of": "the value of a text: 0.3Ki, or 1e-1",
    r"resources.*: '.*': an amount is \d+ at most": "the value of a text: 9e20",
    r"resources.*: .*: Ray counts in steps of 0.0001": "the value of a text: 1e-9; and a float is a multiple of 0.0001 only nearly",
    r"\.resize\.timeout: '.*': (must be above 0s|a duration is 8784h at most)": "the value of a text: 0s, 0m0s; a sum",
    r"\.resize\.maxResources\..*: .*: (is below what the type|the type does not say how much)": "a comparison of two fields",
    r"\.resize: .*: hosts of a replica keep their size": "a comparison of two fields",
    r"maxResources\..*: '.*': (a node has whole amounts of|an amount is \d+ at most)": "the value of a text: 0.3Ki, or 9e20",
    r"maxResources.*: .*: Ray counts in steps of 0.0001": "the value of a text: 1e-9",
    r"(labels|env|startParams).*: -?\d+\.0: must be text": "2.0 is 2 in JSON; in YAML its text is another",
}


def pattern(_validator, wanted, instance, _schema):
    """ECMA's `$` is the end of the text; Python's also comes before a last newline."""
    if isinstance(instance, str) and not re.search(wanted.replace("$", r"\Z"), instance):
        yield ValidationError(f"{instance!r} does not match {wanted!r}")


VALIDATOR = validators.extend(Draft202012Validator, {"pattern": pattern})(SCHEMA)


def problems(document) -> tuple[Problem, ...]:
    try:
        native.cluster(document)
    except InvalidRequest as error:
        return error.problems
    return ()


def spelled(path) -> str:
    """Spell a path of jsonschema's as problems do."""
    text = ""
    for part in path:
        text = f"{text}[{part}]" if isinstance(part, int) else shown.under(text, part)
    return text


def is_related(one: str, other: str) -> bool:
    return one.startswith(other) or other.startswith(one)


def test_the_schema_is_a_schema():
    Draft202012Validator.check_schema(SCHEMA)


@given(valid())
@settings(max_examples=100)
def test_what_is_valid_is_taken_by_both(document):
    assert problems(document) == ()
    assert list(VALIDATOR.iter_errors(document)) == []


SUITE = settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def agree(document) -> None:
    """Fail unless both take the document, or both refuse it at the same places, or only the code does by a rule of its own."""
    said = problems(document)
    refused = list(VALIDATOR.iter_errors(document))
    for error in refused:
        assert any(is_related(spelled(error.absolute_path), each.path.removeprefix("document")) for each in said), (error, said)
    if said and not refused:
        assert [str(each) for each in said if not any(re.search(rule, str(each)) for rule in ONLY_THE_CODE)] == []


@given(changes(valid(), JSON).map(lambda each: each[0]) | JSON)
@SUITE
def test_what_one_refuses_the_other_refuses_at_the_same_place(document):
    agree(document)


FULL = changed("spec", "head", "template", to={"spec": {}})
FULL["spec"]["nodeTypes"][0] |= {"hostsPerReplica": 1, "headroom": 1, "template": {"spec": {}}, "updatePolicy": "Recreate"}
FULL["spec"]["spendLimit"] = 5
FULL["spec"]["consolidation"] = True
FULL["spec"]["maxLaunchesPerMinute"] = FULL["spec"]["nodeTypes"][0]["maxConcurrentLaunches"] = 4
FULL["spec"]["devices"] = ["fpga"]
FULL["spec"]["nodeTypes"][1]["cost"] = 0
FULL["spec"]["nodeTypes"][1]["costFactor"] = 1.5
FULL["spec"]["nodeTypes"][0]["resize"] = {"maxResources": {"CPU": 8, "memory": "64Gi"}, "timeout": "30s"}
VALUES = [
    None, True, False, ["a", "a"], ["CPU"], ["GPU", "x"], [""], 0, 1, 2.0, -1, 1.5, 10**6 + 1, 10**19, "", "a", "A b", "x\0", "a\n", "1", "never", "5m", "4Gi", "local", "unix:///a", {"exec": ["a"]}, "Rolling", "Cluster",
    [], [1], [{"name": "a"}], {}, {"a": 1}, {"a": None}, {"A B": "x"}, {"name": "a"}, {"CPU": 0.5}, {"a": 0.5},
]  # fmt: skip


def test_each_value_at_each_place_is_taken_or_refused_by_both():
    count = 0
    for container, key, _ in list(places("", FULL)):
        before = container[key]
        for value in [*VALUES, *([{**before, "x": 1}] if isinstance(before, dict) else [])]:
            container[key] = value
            agree(FULL)
            count += 1
        container[key] = before
    for container, key, _ in [each for each in places("", FULL) if isinstance(each[0], dict)]:
        before = dict(container)
        del container[key]
        agree(FULL)
        container.clear()
        container.update(before)
    assert count > 1000


TYPE, HEAD_ = ("spec", "nodeTypes", 0), ("spec", "head")
EDGES = [
    (("metadata", "name"), "a" * 53, "a" * 54),
    (("spec", "maxWorkers"), 10**6, 10**6 + 1),
    (("spec", "upscalingSpeed"), 0, -0.001),
    (("spec", "idleTimeout"), "1.123456789s", "1.1234567891s"),
    (("spec", "idleTimeout"), "1h0m0s", "1m1h"),
    (("spec", "idleTimeout"), "000000009m", "0000000009m"),
    ((*TYPE, "minWorkers"), 0, -1),
    ((*TYPE, "headroom"), 0, -1),
    ((*TYPE, "maxConcurrentLaunches"), 1, 0),
    (("spec", "maxLaunchesPerMinute"), 10**6, 10**6 + 1),
    ((*TYPE, "cost"), 10**6, 10**6 + 0.1),
    ((*TYPE, "costFactor"), 0, -0.1),
    ((*TYPE, "priority"), -(10**6), -(10**6) - 1),
    ((*TYPE, "hostsPerReplica"), 1, 0),
    ((*TYPE, "hostsPerReplica"), 1.0, True),
    ((*TYPE, "resize"), {"maxResources": {"CPU": 64}}, {"maxResources": {}}),
    ((*TYPE, "resize"), {"maxResources": {"CPU": 64}, "timeout": "1.5s"}, {"maxResources": {"CPU": 64}, "timeout": "never"}),
    ((*TYPE, "resize"), None, {}),
    ((*TYPE, "resize"), {"maxResources": {"CPU": "64"}}, {"maxResources": {"GPU": 64}}),
    ((*TYPE, "labels"), {"z" * 63: "v" * 63}, {"z": "v" * 64}),
    ((*TYPE, "labels"), {"p" * 253 + "/z": 0}, {"p" * 254 + "/z": 0}),
    ((*TYPE, "labels"), {"a": 10**18}, {"a": -1}),
    ((*TYPE, "updatePolicy"), "OnDelete", "onDelete"),
    ((*TYPE, "labels"), {"a": ""}, {"a": "-"}),
    ((*TYPE, "env"), {"A" * 200: "\n"}, {"A" * 201: ""}),
    ((*TYPE, "env"), {"_": -(10**18)}, {"_": -(10**18) - 1}),
    ((*TYPE, "startParams"), {"a" * 100: None}, {"a" * 101: None}),
    ((*TYPE, "resources"), {"r" * 200: 1}, {"r" * 201: 1}),
    ((*TYPE, "resources"), {"CPU": 461168601842738}, {"CPU": 461168601842739}),
    ((*TYPE, "resources"), {"disk": 0.0001}, {"disk": -0.0001}),
    ((*TYPE, "resources"), {"disk": 0.5}, {"neuron_cores": 0.5}),
    ((*TYPE, "resources"), {"CPUs": 1.5}, {"CPU": 1.5}),
    ((*TYPE, "resources"), {"CPU": "1e003"}, {"CPU": "1e0003"}),
    ((*TYPE, "resources"), {"memory": "0.25Pi"}, {"memory": "0.25Ei"}),
    ((*TYPE, "resources"), {"memory": "1e3k"}, {"CPU": "1k"}),
    (("spec", "executor"), "unix:///" + "a" * 106, "unix:///" + "a" * 107),
    (("spec", "executor"), "unix:///a", "unix:///a b"),
    (("spec", "executor"), "dns:///[::1]:65535", "dns:///[::1]:65536"),
    (("spec", "executor"), "dns:///a:1", "dns:///a:0"),
    (("spec", "executor"), {"exec": ["a"] * 100}, {"exec": ["a"] * 101}),
    (("spec", "executor"), {"exec": ["a" * 4096]}, {"exec": ["a" * 4097]}),
    (("spec", "executor"), {"exec": ["a\n"]}, {"exec": ["\0"]}),
    ((*HEAD_, "startParams"), {"port": 1}, {"port": 0}),
    ((*HEAD_, "startParams"), {"port": "65535"}, {"port": "65536"}),
    ((*HEAD_, "startParams"), {"ray-client-server-port": 65535}, {"ray-client-server-port": "065535"}),
    ((*HEAD_, "startParams"), {"other": None}, {"port": None}),
]


@pytest.mark.parametrize(("path", "good", "bad"), EDGES)
def test_both_draw_the_line_at_the_same_value(path, good, bad):
    assert (problems(changed(*path, to=good)), VALIDATOR.is_valid(changed(*path, to=good))) == ((), True)
    assert len(problems(changed(*path, to=bad))) == 1
    assert not VALIDATOR.is_valid(changed(*path, to=bad))


ALONE = ("spec.maxWorkers", "spec.spendLimit", "spec.maxConcurrentLaunches", "spec.maxLaunchesPerMinute")
CROSS = re.compile(
    "is below the sum of all minWorkers|is above maxWorkers|stands there twice|since there is a spendLimit|all minWorkers cost|is below hostsPerReplica"
)


@given(changes(valid() | st.just(yaml.safe_load(GOOD)), YAML))
@settings(SUITE, max_examples=500)
def test_one_change_anywhere_is_valid_or_a_problem_that_names_the_place(change):
    document, where = change
    for each in problems(document):
        crosses = CROSS.search(each.rule) and (is_related(where, "spec.nodeTypes") or where in ALONE)
        assert crosses or is_related(each.path.removeprefix("document"), where), (str(each), where)
        assert "\n" not in str(each)
        assert len(str(each)) < 1000


def properties(schema: dict) -> set[str]:
    return set(schema["properties"])


def test_the_keys_of_the_code_and_of_the_schema_are_the_same():
    kinds = SCHEMA["$defs"]
    assert properties(SCHEMA) == native.ROOT
    assert properties(SCHEMA["properties"]["metadata"]) == native.METADATA
    assert properties(SCHEMA["properties"]["spec"]) == native.SPEC
    assert properties(kinds["head"]) == native.HEAD
    assert properties(kinds["nodeType"]) == native.TYPE
    assert properties(kinds["head"]["properties"]["startParams"]) == set(native.PORTS)
    (whole,) = kinds["resources"]["patternProperties"]
    assert {*whole.strip("^()$").split("|"), *properties(kinds["resources"])} == WHOLE


def described(path: str, schema: dict):
    """Yield each property of a schema, and whether it says what it is."""
    for name, each in schema.get("properties", {}).items():
        yield f"{path}.{name}", len(each.get("description", "")) > 10
        yield from described(f"{path}.{name}", each)


def test_every_field_says_what_it_is():
    named = {"": SCHEMA, **SCHEMA["$defs"]}
    found = dict(pair for name, each in named.items() for pair in described(name, each))
    assert len(found) >= 30
    assert [path for path, is_said in found.items() if not is_said] == []


@pytest.mark.parametrize(("rule", "document"), [
    ("is below the sum", {"maxWorkers": 1, "nodeTypes": [{"name": "a", "minWorkers": 2}]}),
    ("is above maxWorkers", {"nodeTypes": [{"name": "a", "minWorkers": 2, "maxWorkers": 1}]}),
    ("since there is a spendLimit", {"spendLimit": 1, "nodeTypes": [{"name": "a"}]}),
    ("all minWorkers cost", {"spendLimit": 1.9, "nodeTypes": [{"name": "a", "cost": 1, "minWorkers": 2}]}),
    ("is below hostsPerReplica", {"maxConcurrentLaunches": 3, "nodeTypes": [{"name": "a", "hostsPerReplica": 4}]}),
    ("is below hostsPerReplica", {"nodeTypes": [{"name": "a", "hostsPerReplica": 4, "maxLaunchesPerMinute": 3}]}),
    ("stands there twice", {"nodeTypes": [{"name": "a"}, {"name": "a", "cost": 1}]}),
    ("8784h at most", {"idleTimeout": "8784h1s"}),
    ("has whole amounts", {"head": {"resources": {"memory": "0.3Ki"}}}),
    ("an amount is", {"head": {"resources": {"CPU": "9e20"}}}),
    ("in steps of", {"head": {"resources": {"CPU": "1e-9"}}}),
    ("in steps of", {"head": {"resources": {"disk": 0.00001}}}),
    ("must be text", {"head": {"env": {"A": 2.0}}}),
    ("and not the same", {"head": {"resources": {"CPU": 1}, "startParams": {"num-cpus": 2}}}),
    ("labels alone", {"nodeTypes": [{"name": "a", "startParams": {"labels": "zone=a"}}]}),
])  # fmt: skip
def test_each_rule_that_only_the_code_has_is_one_that_the_schema_lets_pass(rule, document):
    whole = {"apiVersion": native.API_VERSION, "kind": "Cluster", "metadata": {"name": "a"}, "spec": document}
    assert list(VALIDATOR.iter_errors(whole)) == []
    (found,) = problems(whole)
    assert rule in found.rule
    assert any(re.search(each, str(found)) for each in ONLY_THE_CODE)
