"""The native dialect: a good document becomes a definition, a bad one the list of all its problems, each with path, value and rule."""

import copy
from pathlib import Path

import pytest
import yaml

from rayscaler.config import document, load, native
from rayscaler.errors import InvalidRequest
from rayscaler.model.nodetype import FLOOR_AFTER_DRIVER_S, IDLE_TIMEOUT_S, NEVER, UNLIMITED, ClusterConfig, Head, NodeType
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
  floorAfterDriver: 2m
  consolidation: true
  devices: [npu2, fpga]
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
    costFactor: 1.5
    priority: -2
    headroom: 2
    spot: true
    idleTimeout: 10s
    env: {A: "1"}
    startParams: {object-store-memory: 80000000, node-ip-address: 127.0.0.1}
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
                resources=Resources.of(CPU=2, memory=4 << 30, object_store_memory=80_000_000),
                labels=(("disk", "fast"), ("zone", "b")),
                min_workers=1,
                max_workers=4,
                cost=0.1,
                cost_factor=1.5,
                priority=-2,
                headroom=2,
                is_spot=True,
                idle_timeout_s=10.0,
                env=(("A", "1"),),
                start_params=(("node-ip-address", "127.0.0.1"),),
            ),
            NodeType(name="plain", resources=Resources()),
        ),
        max_workers=20,
        upscaling_speed=1.5,
        idle_timeout_s=90.0,
        floor_after_driver_s=120.0,
        consolidation=True,
        devices=("fpga", "npu2"),
        head=Head(start_params=(("port", "6390"),), env=(("EMPTY", ""), ("LEVEL", "debug"))),
    )


def test_what_is_left_out_takes_its_default():
    document = {"apiVersion": "rayscaler.io/v1", "kind": "Cluster", "metadata": {"name": "a"}}
    config = native.cluster(document)
    assert config == ClusterConfig("a", ())
    assert (config.max_workers, config.upscaling_speed, config.idle_timeout_s) == (UNLIMITED, None, 300.0)


SAMPLE = """
apiVersion: rayscaler.io/v1
kind: Cluster
metadata: {name: demo}
spec:
  maxWorkers: 200            # hard limit over all types
  upscalingSpeed: 1.0        # optional; at most max(5, speed x running of that type) in flight per type
  idleTimeout: 5m            # durations: 30s, 5m, 1h30m
  executor: local            # or k8s, unix:///…, dns:///…, {exec: [cmd, …]}
  head: {resources: {CPU: 0}, startParams: {}, env: {}, template: {}}
  nodeTypes:
  - name: cpu-large
    minWorkers: 0
    maxWorkers: 100
    resources: {CPU: 16, memory: 64Gi, fast_disk: 0.5}   # integers or decimals; memory takes Kubernetes quantities
    labels: {zone: a}
    cost: 0.8                # per node and hour, any unit; optional (without it: as Ray would choose)
    priority: 0              # higher first; optional
    spot: false
    hostsPerReplica: 1
    idleTimeout: 10m         # optional override
    startParams: {}
    env: {}
    template: {}             # pod template (k8s)
"""


def test_cd_8_the_sample_definition_is_good_with_its_decimal_amount():
    config = native.cluster(yaml.safe_load(SAMPLE))
    assert config.node_types == (
        NodeType(
            "cpu-large",
            Resources.of(CPU=16, memory=64 << 30, fast_disk=0.5),
            labels=(("zone", "a"),),
            max_workers=100,
            cost=0.8,
            idle_timeout_s=600.0,
        ),
    )


def test_the_document_handed_in_is_not_changed():
    document = yaml.safe_load(GOOD)
    before = copy.deepcopy(document)
    native.cluster(document)
    assert document == before


@pytest.mark.parametrize("name", ["demo.yaml"])
def test_the_examples_are_good(name):
    assert load.from_file(Path(__file__).parents[2] / "examples" / name).node_types


SMALL = ("spec", "nodeTypes", 0)


WRONG = [
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
    (("spec", "executor"), "k8s", "spec.executor: 'k8s': is for the service of a namespace"),
    (("spec", "executor"), "unix://relative", "spec.executor: 'unix://relative': must be local, a plugin's address"),
    (("spec", "executor"), "dns:///host", "spec.executor: 'dns:///host': must be local, a plugin's address"),
    (("spec", "executor"), "dns:///host:70000", "spec.executor: 'dns:///host:70000': must be local"),
    (("spec", "executor"), 7, "spec.executor: 7: must be local"),
    (("spec", "executor"), {}, "spec.executor.exec: None: must be a list of 1 to 100 texts"),
    (("spec", "executor"), {"exec": "./my-plugin"}, "spec.executor.exec: './my-plugin': must be a list of 1 to 100 texts"),
    (("spec", "executor"), {"exec": ["x", 7]}, "spec.executor.exec[1]: 7: must be text"),
    (("spec", "executor"), {"exe": ["x"]}, "spec.executor.exe: 'exe': unknown key"),
    (("spec", "nodeTypes"), {}, "spec.nodeTypes: {}: must be a list"),
    (SMALL, "small", "spec.nodeTypes[0]: 'small': must be a mapping"),
    ((*SMALL, "name"), None, "spec.nodeTypes[0].name: None: must be lower-case"),
    ((*SMALL, "name"), "plain", "spec.nodeTypes[1].name: 'plain': stands there twice"),
    ((*SMALL, "minWorkers"), 5, "spec.nodeTypes[0].minWorkers: 5: is above maxWorkers, 4"),
    ((*SMALL, "cost"), float("nan"), "spec.nodeTypes[0].cost: nan: must be a number"),
    (("spec", "devices"), "fpga", "spec.devices: 'fpga': must be a list of resources' names"),
    (("spec", "devices"), ["CPU"], "spec.devices[0]: 'CPU': must be the name of a resource that comes as devices"),
    (("spec", "devices"), ["a", "a"], "spec.devices: 'a': stands there twice"),
    ((*SMALL, "spot"), "no", "spec.nodeTypes[0].spot: 'no': must be true or false"),
    ((*SMALL, "updatePolicy"), "OnDelet", "spec.nodeTypes[0].updatePolicy: 'OnDelet': did you mean OnDelete?"),
    ((*SMALL, "updatePolicy"), 7, "spec.nodeTypes[0].updatePolicy: 7: one of: OnDelete, Recreate, Rolling"),
    ((*SMALL, "hostsPerReplica"), 0, "spec.nodeTypes[0].hostsPerReplica: 0: must be a whole number from 1"),
    ((*SMALL, "hostsPerReplica"), 3, "spec.nodeTypes[0].maxWorkers: 4: must be a multiple of hostsPerReplica, 3, since it counts workers and they come 3 at a time: 3 or 6"),
    ((*SMALL, "labels"), {"on": True}, "spec.nodeTypes[0].labels.on: True: must be text; put it in quotes"),
    ((*SMALL, "env"), {"A": [1]}, "spec.nodeTypes[0].env.A: [1]: must be text"),
    ((*SMALL, "env"), {"A": 1 << 99999}, "spec.nodeTypes[0].env.A: a huge number: must be text"),
    ((*SMALL, "resources"), {"CPU": 0.5}, "spec.nodeTypes[0].resources.CPU: 0.5: a node has whole amounts of CPU; tasks may"),
    ((*SMALL, "resources"), {"GPU": "1.5"}, "spec.nodeTypes[0].resources.GPU: '1.5': a node has whole amounts of GPU"),
    ((*SMALL, "resources"), {"memory": 0.5}, "spec.nodeTypes[0].resources.memory: 0.5: a node has whole amounts of memory"),
    ((*SMALL, "resources"), {"neuron_cores": 0.5}, "spec.nodeTypes[0].resources.neuron_cores: 0.5: a node has whole amounts"),
    ((*SMALL, "resources"), {"disk": 0.50005}, "spec.nodeTypes[0].resources.disk: 0.50005: Ray counts in steps of 0.0001"),
    ((*SMALL, "resources"), {"CPU": -1}, "spec.nodeTypes[0].resources.CPU: -1: an amount is 0 or more"),
    ((*SMALL, "resources"), {"memory": "4Gb"}, "spec.nodeTypes[0].resources.memory: '4Gb': bytes are written like 64Gi"),
    (("spec", "head", "resources"), {"CPU": "x"}, "spec.head.resources.CPU: 'x': an amount is a number"),
    (("metadata", "name"), None, "metadata.name: None: must be lower-case"),
    (("spec", "maxWorkers"), "20", "spec.maxWorkers: '20': must be a whole number"),
    (("spec", "upscalingSpeed"), -0.1, "spec.upscalingSpeed: -0.1: must be a number from 0"),
    (("spec", "upscalingSpeed"), "fast", "spec.upscalingSpeed: 'fast': must be a number"),
    (("spec", "idleTimeout"), "Never", "spec.idleTimeout: 'Never': a duration is written like 30s, 5m or 1h30m; never means no timeout"),
    (("spec", "floorAfterDriver"), 30, "spec.floorAfterDriver: 30: a duration is written like 30s, 5m or 1h30m; never means no timeout"),
    (("spec", "idleTimeout"), "9999h", "spec.idleTimeout: '9999h': a duration is 8784h at most"),
    (("spec", "head"), "big", "spec.head: 'big': must be a mapping"),
    (("spec", "head", "resources"), ["CPU"], "spec.head.resources: ['CPU']: must be a mapping"),
    (("spec", "head", "resources"), {"CPU": 0.5}, "spec.head.resources.CPU: 0.5: a node has whole amounts of CPU"),
    (("spec", "head", "startParams"), {"port": 0}, "spec.head.startParams.port: 0: must be a port from 1 to 65535"),
    (("spec", "head", "startParams"), {"port": 65536}, "spec.head.startParams.port: 65536: must be a port"),
    (("spec", "head", "startParams"), {"ray-client-server-port": "x"}, "startParams.ray-client-server-port: 'x': must be a port"),
    (("spec", "head", "env"), ["A=1"], "spec.head.env: ['A=1']: must be a mapping"),
    (("spec", "head", "template"), "pod.yaml", "spec.head.template: 'pod.yaml': must be a mapping"),
    ((*SMALL, "name"), "small_one", "spec.nodeTypes[0].name: 'small_one': must be lower-case"),
    ((*SMALL, "maxWorkers"), "many", "spec.nodeTypes[0].maxWorkers: 'many': must be a whole number"),
    ((*SMALL, "minWorkers"), -1, "spec.nodeTypes[0].minWorkers: -1: must be a whole number"),
    ((*SMALL, "cost"), "0.1", "spec.nodeTypes[0].cost: '0.1': must be a number from 0"),
    ((*SMALL, "priority"), 0.5, "spec.nodeTypes[0].priority: 0.5: must be a whole number from -1000000"),
    ((*SMALL, "spot"), 1, "spec.nodeTypes[0].spot: 1: must be true or false"),
    ((*SMALL, "hostsPerReplica"), True, "spec.nodeTypes[0].hostsPerReplica: True: must be a whole number from 1"),
    ((*SMALL, "idleTimeout"), "10", "spec.nodeTypes[0].idleTimeout: '10': a duration is written like"),
    ((*SMALL, "template"), [1], "spec.nodeTypes[0].template: [1]: must be a mapping"),
    ((*SMALL, "labels"), {"zone": "a b"}, "spec.nodeTypes[0].labels.zone: 'a b': Ray takes letters, digits"),
    ((*SMALL, "labels"), {"a,b": "x"}, "spec.nodeTypes[0].labels['a,b']: 'a,b': Ray takes letters, digits"),
    ((*SMALL, "labels"), {True: "x"}, "spec.nodeTypes[0].labels[True]: True: a key must be text; put it in quotes"),
    ((*SMALL, "labels"), {"v": 1.1}, "spec.nodeTypes[0].labels.v: 1.1: must be text; put it in quotes"),
    ((*SMALL, "env"), {"A=B": "x"}, "spec.nodeTypes[0].env['A=B']: 'A=B': a variable's name has"),
    ((*SMALL, "env"), {"A": "x\0"}, "spec.nodeTypes[0].env.A: 'x\\x00': must not contain the character NUL"),
    ((*SMALL, "startParams"), {"--port": 1}, "spec.nodeTypes[0].startParams.--port: '--port': a flag of `ray start` is written"),
    ((*SMALL, "resources"), {"": 1}, "spec.nodeTypes[0].resources['']: '': a resource's name has 1 to 200"),
    ((*SMALL, "resources"), {"a\nb": 1}, "spec.nodeTypes[0].resources['a\\nb']: 'a\\nb': a resource's name has"),
    ((*SMALL, "resources"), {"CPU": None}, "spec.nodeTypes[0].resources.CPU: None: an amount is a number"),
    ((*SMALL, "resources"), {"CPU": "2Gi"}, "spec.nodeTypes[0].resources.CPU: '2Gi': an amount is a number"),
    ((*SMALL, "resources"), {"GPU": 10**30}, "spec.nodeTypes[0].resources.GPU: 1000000000000000000000000000000: an amount is 46"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value", "said"), WRONG)
def test_a_problem_names_path_value_and_rule(path, value, said):
    found = problems(changed(*path, to=value))
    assert len([each for each in found if said in each]) == 1, found


UNKNOWN = [
    (("sepc",), "sepc: 'sepc': unknown key; did you mean spec?"),
    (("spec", "maxworkers"), "spec.maxworkers: 'maxworkers': unknown key; did you mean maxWorkers?"),
    (("spec", "head", "resource"), "spec.head.resource: 'resource': unknown key; did you mean resources?"),
    ((*SMALL, "minWorker"), "spec.nodeTypes[0].minWorker: 'minWorker': unknown key; did you mean minWorkers?"),
    ((*SMALL, "zzz"), "unknown key; one of: cost, costFactor, env, headroom"),
    (("spec", "suspend"), "spec.suspend: 'suspend': not yet"),
    (("spec", "headroom"), "spec.headroom: 'headroom': unknown key; it belongs in a node type"),
    (("spec", "schedules"), "spec.schedules: 'schedules': not yet"),
    (("metadata", "label"), "metadata.label: 'label': unknown key; one of: name"),
    (("spec", "head", "env_"), "spec.head.env_: 'env_': unknown key; did you mean env?"),
    (("maxWorkers",), "maxWorkers: 'maxWorkers': unknown key; it belongs in spec or in a node type"),
    (("spec", "minWorkers"), "spec.minWorkers: 'minWorkers': unknown key; it belongs in a node type"),
    (("spec", "workerGroupSpecs"), "spec.workerGroupSpecs: 'workerGroupSpecs': unknown key; did you mean nodeTypes?"),
    (("spec", "upscalingMode"), "spec.upscalingMode: 'upscalingMode': unknown key; did you mean upscalingSpeed?"),
    ((*SMALL, "rayStartParams"), "spec.nodeTypes[0].rayStartParams: 'rayStartParams': unknown key; did you mean startParams?"),
    (("spec", "a\nb"), "spec['a\\nb']: 'a\\nb': unknown key; one of: consolidation, devices, executor"),
]


@pytest.mark.parametrize(("path", "said"), UNKNOWN)
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
        "spec.idleTimeout",
        "spec.nodeTypes[0].name",
        "spec.nodeTypes[0].cost",
        "spec.nodeTypes[1].maxWorkerz",
        "spec.nodeTypes[1].name",
        "spec.nodeTypes[2]",
        "spec.nodeTypes[2].name",
    ]


def test_a_problem_stays_short_however_large_the_value():
    huge = [[["x" * 10_000] * 1000] * 1000] * 1000
    assert all(len(each) < 1000 for each in problems(changed("spec", "maxWorkers", to=huge)))


def test_at_least_forty_pairs_of_path_and_rule_stand_in_the_tables():
    told = [said for *_, said in (*WRONG, *UNKNOWN)]
    pairs = {(said.split(": ")[0], said.split(": ")[-1].split(" from ")[0]) for said in told if said.count(": ") >= 2}
    assert len(pairs) >= 40


def test_a_count_may_be_written_with_a_decimal_point():
    assert native.cluster(changed("spec", "maxWorkers", to=20.0)) == native.cluster(yaml.safe_load(GOOD))


@pytest.mark.parametrize(
    "path", [("spec", "executor"), ("spec", "head"), ("spec", "nodeTypes"), (*SMALL, "hostsPerReplica"), (*SMALL, "template")]
)
def test_null_means_what_leaving_out_means(path):
    without = yaml.safe_load(GOOD)
    where = without
    for key in path[:-1]:
        where = where[key]
    where.pop(path[-1], None)
    assert native.cluster(changed(*path, to=None)) == native.cluster(without)


def test_k4_never_is_an_idle_timeout_of_a_cluster_and_of_a_type():
    document = changed(*SMALL, "idleTimeout", to="never")
    document["spec"]["nodeTypes"].append({"name": "short", "idleTimeout": "30s"})
    config = native.cluster(document)
    assert [config.idle_timeout_of(name) for name in ("small", "plain", "short")] == [NEVER, 90.0, 30.0]
    document["spec"]["idleTimeout"] = "never"
    assert native.cluster(document).idle_timeout_of("plain") == NEVER


def test_k4_what_never_idles_out_is_held_after_a_lost_head_for_the_usual_time_and_not_for_ever():
    config = native.cluster(changed("spec", "idleTimeout", to="never"))
    assert (config.hold_of("small"), config.hold_of("plain"), config.floor_hold_s) == (10.0, IDLE_TIMEOUT_S, IDLE_TIMEOUT_S)


@pytest.mark.parametrize(
    ("limit", "cost", "told"),
    [
        (None, None, []),
        (2, 1, []),
        (2.5, 1.25, []),
        (0, 0, []),
        (-1, 1, ["spec.spendLimit: -1: must be a number from 0 to 1000000"]),
        ("2", 1, ["spec.spendLimit: '2': must be a number from 0 to 1000000"]),
        (1.9, 1, ["spec.spendLimit: 1.9: is below what all minWorkers cost, 2"]),
        (2, None, ["spec.nodeTypes[0].cost: None: is needed, since there is a spendLimit"]),
    ],
)
def test_h3_a_spend_limit_needs_costs_and_pays_for_the_minimums(limit, cost, told):
    document = changed("spec", "nodeTypes", to=[{"name": "a", "cost": cost, "minWorkers": 2}])
    document["spec"]["spendLimit"] = limit
    if told:
        assert problems(document) == told
    else:
        assert native.cluster(document).spend_limit == limit


def test_d4_launches_may_be_limited_at_once_and_in_a_minute_of_all_types_and_of_one():
    spec = {"maxConcurrentLaunches": 10, "nodeTypes": [{"name": "a", "maxLaunchesPerMinute": 4, "hostsPerReplica": 4}, {"name": "b"}]}
    config = native.cluster({**changed("spec", to=spec)})
    first, second = config.node_types
    assert (config.max_concurrent_launches, config.max_launches_per_minute, config.is_paced) == (10, UNLIMITED, True)
    assert (first.max_concurrent_launches, first.max_launches_per_minute, second.max_launches_per_minute) == (UNLIMITED, 4, UNLIMITED)
    assert not native.cluster(changed("spec", "nodeTypes", to=[{"name": "a"}])).is_paced


def test_e2_a_floor_outlives_its_drivers_for_half_a_minute_or_as_said_or_for_ever():
    texts = [None, "0s", "never"]
    found = [native.cluster(changed("spec", "floorAfterDriver", to=each)).floor_after_driver_s for each in texts]
    assert found == [FLOOR_AFTER_DRIVER_S, 0.0, NEVER]


def test_cd_9_a_head_only_cluster_a_type_without_cpu_and_one_without_a_maximum_are_definitions():
    config = native.cluster(changed("spec", "nodeTypes", to=[{"name": "gpu-only", "resources": {"GPU": 1}}]))
    assert config.node_types[0].max_workers == UNLIMITED
    assert native.cluster(changed("spec", "nodeTypes", to=[])).node_types == ()


def test_half_a_character_is_refused_wherever_it_stands():
    found = document.read('a: ["x", "\\ud800"]\nb: {"\\udfff": 1}\nc: "\U0001f600"')
    assert [each.path for each in found.problems] == ["a[1]", "b['\\udfff']"]
    assert all("half a character" in each.rule for each in found.problems)
