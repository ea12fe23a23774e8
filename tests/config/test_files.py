"""Files: every problem at once, YAML that is none with line and column, keys that stand there twice, and what is hardly meant."""

from pathlib import Path

import pytest

from rayscaler.config import load
from rayscaler.errors import InvalidRequest

pytestmark = pytest.mark.tier("unit")

FAULTY = sorted((Path(__file__).parent / "faulty").glob("*.yaml"))
HEADER = "apiVersion: rayscaler.io/v1\nkind: Cluster\nmetadata: {name: a}\n"


@pytest.mark.parametrize("path", FAULTY, ids=lambda path: path.stem)
def test_every_fault_of_a_file_is_told_at_once(path):
    expected = path.with_suffix(".txt").read_text().splitlines()
    assert len(expected) >= 3
    assert [str(each) for each in load.check(path).problems] == expected
    with pytest.raises(InvalidRequest) as caught:
        load.from_file(path)
    assert [str(each) for each in caught.value.problems] == [f"{path}: {each}" for each in expected]


def test_there_are_ten_such_files():
    assert len(FAULTY) >= 10


def told(text: str) -> list[str]:
    return [str(each) for each in load.check_text(text).problems]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty; there must be one document"),
        ("# only a comment\n---\n", "is empty; there must be one document"),
        (f"{HEADER}---\n{HEADER}", "line 5: the second of 2 documents begins here; put each into a file of its own"),
        ("a: 1\n---\nb: [\n", "line 4, column 1: '': cannot be read as YAML: while parsing a flow node: expected the node content"),
        ("kind: Cluster: x\n", "line 1, column 14: 'kind: Cluster: x': cannot be read as YAML: mapping values are not allowed here"),
        ("kind: Cluster\n\tspec: 1\n", "line 2, column 1: '\\tspec: 1': cannot be read as YAML: while scanning for the next token: found"),
        ("a: 'x\n", "line 2, column 1: '': cannot be read as YAML: while scanning a quoted scalar: found unexpected end of stream"),
        ("a: *b\n", "line 1, column 4: 'a: *b': cannot be read as YAML: found undefined alias"),
        ("a: !x 1\n", "line 1, column 4: 'a: !x 1': cannot be read as YAML: could not determine a constructor for the tag"),
        ("a: \x01\n", "cannot be read as YAML: unacceptable character #x0001: special characters are not allowed"),
        ("a: 2024-13-45\n", "cannot be read as YAML: month must be in 1..12"),
        ("[" * 5000, "cannot be read as YAML: is nested too deeply"),
        (
            f"{HEADER}spec:\n  nodeTypes:\n  - {{name: x, 'name': y}}\n",
            "spec.nodeTypes[0].name: 'name': stands in line 6 and again in line 6",
        ),
        (f"{HEADER}metadata: {{name: b}}\n", "metadata: 'metadata': stands in line 3 and again in line 4; keys are unique"),
    ],
    ids=range(14),
)
def test_what_is_no_single_document_is_told_with_its_place(text, said):
    found = told(text)
    assert len(found) == 1
    assert found[0].startswith(said)


def test_anchors_and_merges_are_no_second_key():
    text = HEADER + "spec:\n  nodeTypes:\n  - &x {name: x, cost: 1, resources: {CPU: 1}}\n  - {<<: *x, name: y}\n---\n"
    checked = load.check_text(text)
    assert checked.problems == checked.warnings == ()
    assert [(each.name, each.cost) for each in checked.config.node_types] == [("x", 1), ("y", 1)]


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("{maxWorkers: 0}", "spec.maxWorkers: 0: no worker of any type will ever be launched"),
        ("{idleTimeout: 2s}", "spec.idleTimeout: '2s': is below 5s: nodes will end between two tasks"),
        ("{head: {template: {spec: {}}}}", "spec.head.template: {'spec': {}}: the executor 'local' starts no pods"),
        ("{nodeTypes: [{name: x, maxWorkers: 0, resources: {CPU: 1}}]}", "spec.nodeTypes[0].maxWorkers: 0: x will never be launched"),
        ("{nodeTypes: [{name: x}]}", "spec.nodeTypes[0].resources: {}: x brings nothing"),
        ("{nodeTypes: [{name: x, idleTimeout: 0s, resources: {CPU: 1}}]}", "spec.nodeTypes[0].idleTimeout: '0s': is below 5s"),
        ("{nodeTypes: [{name: x, template: {a: 1}, resources: {CPU: 1}}]}", "spec.nodeTypes[0].template: {'a': 1}: the executor"),
        (
            "{nodeTypes: [{name: x, resources: {CPU: 1}}, {name: y, cost: 1, resources: {CPU: 2}}]}",
            "spec.nodeTypes[0].cost: None: other types have a cost",
        ),
        ("{nodeTypes: [{name: x, costFactor: 2, resources: {CPU: 1}}]}", "spec.nodeTypes[0].costFactor: 2: says nothing without a cost"),
        (
            "{head: {resources: {Gpu: 1}}}",
            "spec.head.resources.Gpu: 1: is another resource than GPU, which tasks ask for; Ray tells them apart: write GPU",
        ),
        ("{nodeTypes: [{name: x, resources: {cpu: '4'}}]}", "spec.nodeTypes[0].resources.cpu: '4': is another resource than CPU"),
        (
            "{nodeTypes: [{name: x, resources: {CPU: 1, object-store-memory: 7}}]}",
            "spec.nodeTypes[0].resources.object-store-memory: 7: is another resource than object_store_memory",
        ),
    ],
)
def test_what_is_hardly_meant_is_a_warning_and_the_definition_is_taken(spec, said):
    checked = load.check_text(f"{HEADER}spec: {spec}\n")
    assert checked.config is not None
    assert len(checked.warnings) == 1
    assert str(checked.warnings[0]).startswith(said)


def test_the_example_and_never_are_no_reason_for_a_warning():
    assert load.check(Path(__file__).parents[2] / "examples" / "demo.yaml").warnings == ()
    assert load.check_text(f"{HEADER}spec: {{idleTimeout: never}}\n").warnings == ()
    assert load.check_text(HEADER).warnings == ()
