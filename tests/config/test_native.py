"""The native dialect: a good document becomes a definition, a bad one the list of all its problems, each with path, value and rule."""

import copy
from pathlib import Path

import pytest
import yaml

from rayscaler.config import load, native
from rayscaler.errors import InvalidRequest
from rayscaler.model.nodetype import UNLIMITED, ClusterConfig, Head, NodeType
from rayscaler.model.resources import Resources

pytestmark = pytest.mark.tier("unit")

GOOD = """
apiVersion: rayscaler.io/v1
kind: Cluster
metadata: {name: prod}
spec:
  maxWorkers: 20
  upscalingSpeed: 1.5
  idleTimeout: 1m30s
  executor: local
  head:
    resources: {CPU: 0}
    startParams: {port: 6390}
    env: {LEVEL: debug, EMPTY: }
  nodeTypes:
  - name: small
    minWorkers: 1
    maxWorkers: 4
    resources: {CPU: 2, memory: 4Gi}
    labels: {zone: b, disk: fast}
    cost: 0.1
    priority: -2
    spot: true
    idleTimeout: 10s
    env: {A: "1"}
    startParams: {object-store-memory: 80000000}
  - name: plain
"""


def changed(*path, to):
    """The good document with the value at `path` replaced."""
    document = yaml.safe_load(GOOD)
    where = document
    for key in path[:-1]:
        where = where[key]
    where[path[-1]] = to
    return document


def problems(document):
    with pytest.raises(InvalidRequest) as caught:
        native.cluster(document)
    return [str(each) for each in caught.value.problems]


def test_a_good_document_becomes_the_definition_it_says():
    assert native.cluster(yaml.safe_load(GOOD)) == ClusterConfig(
        name="prod",
        node_types=(
            NodeType(
                name="small",
                resources=Resources.of(CPU=2, memory=4 << 30),
                labels=(("disk", "fast"), ("zone", "b")),
                min_workers=1,
                max_workers=4,
                cost=0.1,
                priority=-2,
                is_spot=True,
                idle_timeout_s=10.0,
                env=(("A", "1"),),
                start_params=(("object-store-memory", "80000000"),),
            ),
            NodeType(name="plain", resources=Resources()),
        ),
        max_workers=20,
        upscaling_speed=1.5,
        idle_timeout_s=90.0,
        head=Head(start_params=(("port", "6390"),), env=(("EMPTY", ""), ("LEVEL", "debug"))),
    )


def test_what_is_left_out_takes_its_default():
    document = {"apiVersion": "rayscaler.io/v1", "kind": "Cluster", "metadata": {"name": "a"}}
    config = native.cluster(document)
    assert config == ClusterConfig("a", ())
    assert (config.max_workers, config.upscaling_speed, config.idle_timeout_s) == (UNLIMITED, None, 300.0)


def test_the_document_handed_in_is_not_changed():
    document = yaml.safe_load(GOOD)
    before = copy.deepcopy(document)
    native.cluster(document)
    assert document == before


@pytest.mark.parametrize("name", ["demo.yaml"])
def test_the_examples_are_good(name):
    assert load.from_file(Path(__file__).parents[2] / "examples" / name).node_types


SMALL = ("spec", "nodeTypes", 0)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("apiVersion",), "v2", "apiVersion: 'v2': must be rayscaler.io/v1"),
        (("kind",), None, "kind: None: must be Cluster"),
        (("metadata",), [], "metadata: []: must be a mapping"),
        (("metadata", "name"), "Prod", "metadata.name: 'Prod': must be lower-case"),
        (("metadata", "name"), "a" * 54, "53 characters at most"),
        (("metadata", "name"), "a\n", "metadata.name: 'a\\n': must be lower-case"),
        (("spec",), 3, "spec: 3: must be a mapping"),
        (("spec", "maxWorkers"), -1, "spec.maxWorkers: -1: must be a whole number from 0"),
        (("spec", "maxWorkers"), 1.5, "spec.maxWorkers: 1.5: must be a whole number"),
        (("spec", "maxWorkers"), True, "spec.maxWorkers: True: must be a whole number"),
        (("spec", "maxWorkers"), 1 << 31, "must be a whole number from 0 to 1000000"),
        (("spec", "maxWorkers"), 0, "spec.maxWorkers: 0: is below the sum of all minWorkers, 1"),
        (("spec", "upscalingSpeed"), float("nan"), "spec.upscalingSpeed: nan: must be a number"),
        (("spec", "upscalingSpeed"), float("inf"), "spec.upscalingSpeed: inf: must be a number"),
        (("spec", "idleTimeout"), 60, "spec.idleTimeout: 60: a duration is written like 30s, 5m or 1h30m"),
        (("spec", "executor"), "k8s", "spec.executor: 'k8s': not yet"),
        (("spec", "nodeTypes"), {}, "spec.nodeTypes: {}: must be a list"),
        (SMALL, "small", "spec.nodeTypes[0]: 'small': must be a mapping"),
        ((*SMALL, "name"), None, "spec.nodeTypes[0].name: None: must be lower-case"),
        ((*SMALL, "name"), "plain", "spec.nodeTypes[1].name: 'plain': stands there twice"),
        ((*SMALL, "minWorkers"), 5, "spec.nodeTypes[0].minWorkers: 5: is above maxWorkers, 4"),
        ((*SMALL, "cost"), float("nan"), "spec.nodeTypes[0].cost: nan: must be a number"),
        ((*SMALL, "spot"), "no", "spec.nodeTypes[0].spot: 'no': must be true or false"),
        ((*SMALL, "hostsPerReplica"), 4, "spec.nodeTypes[0].hostsPerReplica: 4: not yet"),
        ((*SMALL, "labels"), {"on": True}, "spec.nodeTypes[0].labels.on: True: must be text; put it in quotes"),
        ((*SMALL, "env"), {"A": [1]}, "spec.nodeTypes[0].env.A: [1]: must be text"),
        ((*SMALL, "env"), {"A": 1 << 99999}, "spec.nodeTypes[0].env.A: a huge number: must be text"),
        ((*SMALL, "resources"), {"CPU": 0.5}, "spec.nodeTypes[0].resources.CPU: 0.5: `ray start` takes whole amounts"),
        ((*SMALL, "resources"), {"CPU": -1}, "spec.nodeTypes[0].resources.CPU: -1: an amount is 0 or more"),
        ((*SMALL, "resources"), {"memory": "4Gb"}, "spec.nodeTypes[0].resources.memory: '4Gb': bytes are written like 64Gi"),
        (("spec", "head", "resources"), {"CPU": "x"}, "spec.head.resources.CPU: 'x': an amount is a number"),
    ],
)  # fmt: skip
def test_a_problem_names_path_value_and_rule(path, value, said):
    found = problems(changed(*path, to=value))
    assert len([each for each in found if said in each]) == 1, found


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (("sepc",), "sepc: 'sepc': unknown key; did you mean spec?"),
        (("spec", "maxworkers"), "spec.maxworkers: 'maxworkers': unknown key; did you mean maxWorkers?"),
        (("spec", "head", "resource"), "spec.head.resource: 'resource': unknown key; did you mean resources?"),
        ((*SMALL, "minWorker"), "spec.nodeTypes[0].minWorker: 'minWorker': unknown key; did you mean minWorkers?"),
        ((*SMALL, "zzz"), "unknown key; known keys: cost, env, hostsPerReplica"),
        (("spec", "suspend"), "spec.suspend: 'suspend': not yet"),
        (("spec", "headroom"), "spec.headroom: 'headroom': not yet"),
        (("spec", "schedules"), "spec.schedules: 'schedules': not yet"),
        (("spec", "spendLimit"), "spec.spendLimit: 'spendLimit': not yet"),
    ],
)
def test_an_unknown_key_is_refused_with_a_hint(path, said):
    found = problems(changed(*path, to=1))
    assert len(found) == 1
    assert said in found[0]


def test_every_problem_is_told_at_once():
    document = changed("spec", "nodeTypes", to=[{"name": "A", "cost": "x"}, {"name": "B", "maxWorkerz": 1}, 7])
    document["kind"] = "Pod"
    document["spec"]["idleTimeout"] = "soon"
    found = problems(document)
    assert [each.split(":")[0] for each in found] == [
        "kind",
        "spec.nodeTypes[0].name",
        "spec.nodeTypes[0].cost",
        "spec.nodeTypes[1].maxWorkerz",
        "spec.nodeTypes[1].name",
        "spec.nodeTypes[2]",
        "spec.nodeTypes[2].name",
        "spec.idleTimeout",
    ]


def test_a_problem_stays_short_however_large_the_value():
    huge = [[["x" * 10_000] * 1000] * 1000] * 1000
    assert all(len(each) < 1000 for each in problems(changed("spec", "maxWorkers", to=huge)))
