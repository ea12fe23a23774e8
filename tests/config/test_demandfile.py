"""A demand file becomes the planner's values; a bad one the list of all its problems, each with path, value and rule (L5)."""

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from rayscaler.config import demandfile, load, native
from rayscaler.config.demandfile import Nodes, Wanted
from rayscaler.errors import InvalidRequest
from rayscaler.model.demand import Bundle, Demand, Gang, LabelCondition, LabelSelector, Locality, Operator, Strategy
from rayscaler.model.resources import Resources

pytestmark = pytest.mark.tier("unit")

SCHEMA = json.loads((Path(__file__).parents[2] / "schema" / "demand.schema.json").read_text())
VALID = jsonschema.Draft202012Validator(SCHEMA)

CONFIG = native.cluster(
    yaml.safe_load("""
apiVersion: rayscaler.io/v1
kind: Cluster
metadata: {name: prod}
spec:
  nodeTypes:
  - {name: cpu-large, resources: {CPU: 16, memory: 64Gi}}
  - {name: gpu, resources: {CPU: 8, GPU: 1}}
""")
)

GOOD = """
demands:
- {resources: {CPU: 4, GPU: 0.5, memory: 2Gi}, count: 100, labelSelectors: [{zone: a}, {zone: "!in(b,c)", ray.io/market-type: "!spot"}]}
- {resources: {}}
gangs:
- {strategy: STRICT_SPREAD, count: 2, within: zone, bundles: [{resources: {CPU: 1}, count: 3}, {resources: {CPU: "2"}}]}
- {bundles: [{resources: {GPU: 1}, labelSelectors: [{zone: "in(b, a)"}]}]}
constraints: [{resources: {CPU: 1}, count: 32}]
nodes: [{type: cpu-large, count: 2, used: {CPU: 3}}, {type: gpu}]
"""


def good():
    return yaml.safe_load(GOOD)


def changed(*path, to):
    """The good document with the value at `path` replaced."""
    document = good()
    where = document
    for key in path[:-1]:
        where = where[key]
    where[path[-1]] = to
    return document


def problems(document, config=CONFIG):
    with pytest.raises(InvalidRequest) as caught:
        demandfile.wanted(document, config)
    return list(map(str, caught.value.problems))


def test_a_good_file_becomes_what_it_says():
    cpu_large, gpu = CONFIG.node_types
    selectors = (
        LabelSelector((LabelCondition("zone", Operator.IN, ("a",)),)),
        LabelSelector(
            (LabelCondition("ray.io/market-type", Operator.NOT_IN, ("spot",)), LabelCondition("zone", Operator.NOT_IN, ("b", "c")))
        ),
    )
    spread = (Demand(Bundle(Resources.of(CPU=1)), 3), Demand(Bundle(Resources.of(CPU=2)), 1))
    in_zones = Bundle(Resources.of(GPU=1), (LabelSelector((LabelCondition("zone", Operator.IN, ("a", "b")),)),))
    assert demandfile.wanted(good(), CONFIG) == Wanted(
        demands=(Demand(Bundle(Resources.of(CPU=4, GPU=0.5, memory=2 << 30), selectors), 100), Demand(Bundle(Resources()), 1)),
        gangs=(
            tuple(Gang(f"gangs[0] #{number}", Strategy.STRICT_SPREAD, spread, locality=Locality("zone")) for number in (1, 2)),
            (Gang("gangs[1] #1", Strategy.PACK, (Demand(in_zones, 1),)),),
        ),
        constraints=(Demand(Bundle(Resources.of(CPU=1)), 32),),
        nodes=(Nodes(cpu_large, 2, Resources.of(CPU=3)), Nodes(gpu, 1)),
    )
    VALID.validate(good())


@pytest.mark.parametrize("document", [None, {}, {"demands": None, "gangs": [], "constraints": None, "nodes": []}])
def test_what_is_left_out_is_not_there(document):
    assert demandfile.wanted(document, CONFIG) == Wanted()
    VALID.validate(document)


@pytest.mark.parametrize("selectors", [None, [], [{}], [None], [{}, {"zone": "a"}]])
def test_a_first_alternative_without_a_wish_is_no_wish(selectors):
    document = {"demands": [{"resources": {"CPU": 1}, "labelSelectors": selectors}]}
    assert demandfile.wanted(document, CONFIG).demands[0].bundle.selectors == ()
    VALID.validate(document)


def test_a_last_alternative_without_a_wish_takes_any_node():
    document = {"demands": [{"resources": {"CPU": 1}, "labelSelectors": [{"zone": "a"}, {}]}]}
    bundle = demandfile.wanted(document, CONFIG).demands[0].bundle
    assert [bundle.label_rank({"zone": zone}) for zone in "ab"] == [0, 1]


def test_the_document_handed_in_is_not_changed():
    document, before = good(), good()
    demandfile.wanted(document, CONFIG)
    assert document == before


D, G, B, C, N = ("demands", 0), ("gangs", 0), ("gangs", 0, "bundles", 1), ("constraints", 0), ("nodes", 0)
ZONE = (*D, "labelSelectors", 1)
IS_BEYOND_THE_SCHEMA = {"is more than cpu-large has", "no such node type", "steps of 0.0001"}

BAD = [
    (("demands",), {}, "demands: {}: must be a list"),
    (("gangs",), 3, "gangs: 3: must be a list"),
    (("constraints",), "x", "constraints: 'x': must be a list"),
    (("nodes",), True, "nodes: True: must be a list"),
    (D, "CPU", "demands[0]: 'CPU': must be a mapping"),
    (D, None, "demands[0].resources: None: is missing; {} is for what needs nothing but a node"),
    ((*D, "resources"), None, "demands[0].resources: None: is missing"),
    ((*D, "resources"), [], "demands[0].resources: []: must be a mapping"),
    ((*D, "resources", "CPU"), -1, "demands[0].resources.CPU: -1: an amount is 0 or more"),
    ((*D, "resources", "CPU"), True, "demands[0].resources.CPU: True: an amount is a number"),
    ((*D, "resources", "CPU"), "2Gi", "demands[0].resources.CPU: '2Gi': an amount is a number"),
    ((*D, "resources", "CPU"), None, "demands[0].resources.CPU: None: an amount is a number"),
    ((*D, "resources", "CPU"), 1e30, "demands[0].resources.CPU: 1e+30: an amount is 461168601842738 at most"),
    ((*D, "resources", "GPU"), 0.00005, "demands[0].resources.GPU: 5e-05: Ray counts in steps of 0.0001"),
    ((*D, "resources", "memory"), "2Gb", "demands[0].resources.memory: '2Gb': bytes are written like 64Gi"),
    ((*D, "resources", "bundle_group_00ff"), 1, "demands[0].resources.bundle_group_00ff: 'bundle_group_00ff': is Ray's own"),
    ((*D, "resources", "bundle_group_00ff"), 0, "demands[0].resources.bundle_group_00ff: 'bundle_group_00ff': is Ray's own"),
    ((*D, "count"), 0, "demands[0].count: 0: must be a whole number from 1 to 1000000"),
    ((*D, "count"), 2.5, "demands[0].count: 2.5: must be a whole number"),
    ((*D, "count"), "3", "demands[0].count: '3': must be a whole number"),
    ((*D, "count"), True, "demands[0].count: True: must be a whole number"),
    ((*D, "count"), 1_000_001, "demands[0].count: 1000001: must be a whole number from 1 to 1000000"),
    ((*D, "labelSelectors"), {"zone": "a"}, "demands[0].labelSelectors: {'zone': 'a'}: must be a list"),
    (ZONE, "a", "demands[0].labelSelectors[1]: 'a': must be a mapping"),
    ((*ZONE, "zone"), None, "demands[0].labelSelectors[1].zone: None: a label wish is written a, !a, in(a, b) or !in(a, b)"),
    ((*ZONE, "zone"), 1, "demands[0].labelSelectors[1].zone: 1: a label wish"),
    ((*ZONE, "zone"), "", "demands[0].labelSelectors[1].zone: '': a label wish"),
    ((*ZONE, "zone"), "in()", "demands[0].labelSelectors[1].zone: 'in()': a label wish"),
    ((*ZONE, "zone"), "in(a,!b)", "demands[0].labelSelectors[1].zone: 'in(a,!b)': a label wish"),
    ((*ZONE, "zone"), "!!a", "demands[0].labelSelectors[1].zone: '!!a': a label wish"),
    ((*ZONE, "zone"), "(a)", "demands[0].labelSelectors[1].zone: '(a)': a label wish"),
    ((*ZONE, "zone"), "a_", "demands[0].labelSelectors[1].zone: 'a_': a label wish"),
    ((*ZONE, "zone"), "a" * 64, "a label wish"),
    ((*ZONE, "zo ne"), "a", "demands[0].labelSelectors[1]['zo ne']: 'zo ne': a label's key is a name"),
    ((*ZONE, "-zone"), "a", "demands[0].labelSelectors[1].-zone: '-zone': a label's key is a name"),
    (G, [1], "gangs[0]: [1]: must be a mapping"),
    ((*G, "strategy"), "STRICT_SPRED", "gangs[0].strategy: 'STRICT_SPRED': did you mean STRICT_SPREAD?"),
    ((*G, "within"), "a zone", "gangs[0].within: 'a zone': must be a label's key, such as zone"),
    ((*G, "within"), 7, "gangs[0].within: 7: must be a label's key, such as zone"),
    ((*G, "strategy"), 7, "gangs[0].strategy: 7: one of: PACK, SPREAD, STRICT_PACK, STRICT_SPREAD"),
    ((*G, "count"), 10_001, "gangs[0].count: 10001: must be 10000 at most in one entry"),
    ((*G, "count"), -1, "gangs[0].count: -1: must be a whole number from 1"),
    ((*G, "bundles"), [], "gangs[0].bundles: []: must have at least one bundle"),
    ((*G, "bundles"), None, "gangs[0].bundles: None: must have at least one bundle"),
    ((*G, "bundles"), {"CPU": 1}, "gangs[0].bundles: {'CPU': 1}: must be a list"),
    (B, 1, "gangs[0].bundles[1]: 1: must be a mapping"),
    ((*B, "resources", "CPU"), "two", "gangs[0].bundles[1].resources.CPU: 'two': an amount is a number"),
    ((*B, "count"), 0, "gangs[0].bundles[1].count: 0: must be a whole number"),
    ((*C, "resources"), 3, "constraints[0].resources: 3: must be a mapping"),
    ((*C, "count"), [], "constraints[0].count: []: must be a whole number"),
    (N, 1, "nodes[0]: 1: must be a mapping"),
    ((*N, "type"), "cpu-larg", "nodes[0].type: 'cpu-larg': no such node type in the definition; did you mean cpu-large?"),
    ((*N, "type"), "tpu9", "nodes[0].type: 'tpu9': no such node type in the definition; one of: cpu-large, gpu"),
    ((*N, "type"), None, "nodes[0].type: None: no such node type"),
    ((*N, "type"), ["gpu"], "nodes[0].type: ['gpu']: no such node type"),
    ((*N, "count"), 100_001, "nodes[0].count: 100001: must be 100000 at most in one entry"),
    ((*N, "used"), "all", "nodes[0].used: 'all': must be a mapping"),
    ((*N, "used", "CPU"), 17, "nodes[0].used.CPU: 17: is more than cpu-large has, 16"),
    ((*N, "used", "GPU"), 1, "nodes[0].used.GPU: 1: is more than cpu-large has, 0"),
    ((*N, "used", "memory"), "65Gi", "nodes[0].used.memory: '65Gi': is more than cpu-large has, 64 GiB"),
    ((*N, "used", "CPU"), "x", "nodes[0].used.CPU: 'x': an amount is a number"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "said"), BAD, ids=range(len(BAD)))
def test_a_problem_names_path_value_and_rule_and_the_schema_has_it_too(path, value, said):
    document = changed(*path, to=value)
    found = problems(document)
    assert len([each for each in found if said in each]) == 1, found
    is_expressible = not any(rule in said for rule in IS_BEYOND_THE_SCHEMA) or value in (None, ["gpu"])
    assert VALID.is_valid(document) is not is_expressible


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (("demand",), "demand: 'demand': unknown key; did you mean demands?"),
        (("node",), "node: 'node': unknown key; did you mean nodes?"),
        ((*D, "labelSelector"), "demands[0].labelSelector: 'labelSelector': unknown key; did you mean labelSelectors?"),
        ((*D, "resource"), "demands[0].resource: 'resource': unknown key; did you mean resources?"),
        ((*D, "zzz"), "demands[0].zzz: 'zzz': unknown key; one of: count, labelSelectors, resources"),
        ((*G, "bundle"), "gangs[0].bundle: 'bundle': unknown key; did you mean bundles?"),
        ((*B, "counts"), "gangs[0].bundles[1].counts: 'counts': unknown key; did you mean count?"),
        ((*C, "counts"), "constraints[0].counts: 'counts': unknown key; did you mean count?"),
        ((*N, "user"), "nodes[0].user: 'user': unknown key; did you mean used?"),
    ],
)
def test_an_unknown_key_is_refused_with_a_hint(path, said):
    document = changed(*path, to=1)
    assert problems(document) == [said]
    assert not VALID.is_valid(document)


def test_every_problem_is_told_at_once():
    document = {
        "demans": [],
        "demands": [{"count": 0}, {"resources": {"CPU": "x", "GPU": -1}, "labelSelectors": [{"zone": "in("}]}],
        "gangs": [{"strategy": "LOOSE", "count": 0}],
        "constraints": [[]],
        "nodes": [{"type": "gpu", "used": {"TPU": 1}}, {}],
    }
    assert [each.split(": ")[0] for each in problems(document)] == [
        "demans",
        "demands[0].resources",
        "demands[0].count",
        "demands[1].resources.CPU",
        "demands[1].resources.GPU",
        "demands[1].labelSelectors[0].zone",
        "gangs[0].strategy",
        "gangs[0].bundles",
        "gangs[0].count",
        "constraints[0]",
        "constraints[0].resources",
        "nodes[0].used.TPU",
        "nodes[1].type",
    ]


def test_a_file_is_named_with_each_of_its_problems(tmp_path):
    path = tmp_path / "demand.yaml"
    path.write_text("demands: [{}, 1]")
    with pytest.raises(InvalidRequest) as caught:
        load.demand_from_file(path, CONFIG)
    assert all(str(each).startswith(f"{path}: demands[") for each in caught.value.problems)
    path.write_text(yaml.safe_dump(good()))
    assert load.demand_from_file(path, CONFIG) == demandfile.wanted(good(), CONFIG)


def test_the_schema_is_a_good_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
