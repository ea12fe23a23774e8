"""Definitions as documents: valid ones of every form, and small changes to them at any depth. And paths as problems spell them."""

import copy
from typing import Any

from hypothesis import strategies as st

from rayscaler.config import native, resize, shown
from rayscaler.config.reader import NOT_YET

FEW = st.integers(0, 5)
WHOLE = FEW | st.just(2.0)
WORDS = st.sampled_from(["a", "B2", "x_1.y-z", "", "7"])
AMOUNTS = st.integers(0, 64) | st.sampled_from(["4", "0.5e1", 3.0])
BYTES = st.sampled_from([0, 10**9, "64Gi", "1.5Ki", "1e6", "200M"])
DECIMALS = AMOUNTS | st.sampled_from([0.5, 0.0001, 2.75, "0.57", "1e-4"])
RESOURCES = st.fixed_dictionaries(
    {}, optional={"CPU": AMOUNTS, "GPU": AMOUNTS, "fpga": DECIMALS, "a b/ü": DECIMALS}
) | st.fixed_dictionaries({}, optional={"memory": BYTES, "object_store_memory": BYTES, "CPU": AMOUNTS})
LABELS = st.dictionaries(st.sampled_from(["zone", "disk", "ray.io/pool"]), WORDS | st.integers(0, 99) | st.none(), max_size=2)
ENV = st.dictionaries(st.sampled_from(["A", "b.c-d", "_X9"]), WORDS | st.integers(-9, 99) | st.none() | st.just("é\n="), max_size=2)
FLAGS = st.dictionaries(st.sampled_from(["temp-dir", "min-worker-port"]), WORDS | st.integers(0, 99) | st.none(), max_size=2)
TIMEOUTS = st.sampled_from(["30s", "5m", "1h30m", "0s", "1.5s", "never", "8784h"])
TEMPLATES = st.sampled_from([{}, {"spec": {"containers": [{"name": "ray", "ports": [1, None]}]}}]).map(copy.deepcopy)
"""Of two types each has its own: a change in one is none in the other."""

EXECUTORS = st.sampled_from(["local", "unix:///run/a.sock", "dns:///a.example:443", {"exec": ["./plugin", "-v"]}])


def or_null(strategy):
    return st.none() | strategy


def mapping(required: dict, **optional):
    return st.fixed_dictionaries(required, optional={key: or_null(each) for key, each in optional.items()})


COSTS = st.floats(0, 1e6) | FEW
HEADS = mapping({}, resources=RESOURCES, env=ENV, template=TEMPLATES).flatmap(
    lambda head: st.sampled_from([{}, {"port": 6390}, {"port": "6390", "ray-client-server-port": 65535}, {"block": None}]).map(
        lambda flags: {**head, "startParams": flags}
    )
)


@st.composite
def node_types(draw, name: str) -> dict[str, Any]:
    fields = mapping(
        {"name": st.just(name)}, resources=RESOURCES, labels=LABELS, cost=COSTS, costFactor=COSTS, priority=st.integers(-5, 5), spot=st.booleans(),
        headroom=FEW, idleTimeout=TIMEOUTS, startParams=FLAGS, env=ENV, template=TEMPLATES,
        updatePolicy=st.sampled_from(["OnDelete", "Rolling", "Recreate"]),
    )  # fmt: skip
    least = draw(mapping({}, minWorkers=FEW))
    most = draw(st.sampled_from([{}, {"maxWorkers": None}, {"maxWorkers": (least.get("minWorkers") or 0) + draw(FEW)}]))
    found = {**draw(fields), **least, **most}
    hosts = draw(st.sampled_from([None, None, 1, 2, 4]))
    whole = {key: found[key] * (hosts or 1) for key in ("minWorkers", "maxWorkers", "headroom") if found.get(key) is not None}
    if (hosts or 1) == 1 and draw(st.sampled_from([False, False, True])):
        found["resources"] = {"CPU": 2, "memory": "1Gi"}
        most = st.fixed_dictionaries({}, optional={"CPU": st.sampled_from([2, "4", 8.0]), "memory": st.sampled_from(["1Gi", 1 << 34])})
        found["resize"] = draw(mapping({"maxResources": most.filter(bool)}, timeout=st.sampled_from(["60s", "0.5s", "1h"])))
    return {**found, **({"hostsPerReplica": hosts} if hosts else {}), **whole, **draw(paces(hosts or 1))}


def paces(hosts: int):
    return mapping({}, maxConcurrentLaunches=st.integers(hosts, hosts + 5), maxLaunchesPerMinute=st.integers(hosts, hosts + 5))


@st.composite
def valid(draw) -> dict[str, Any]:
    """Return a document that is a definition."""
    names = draw(st.lists(st.sampled_from(["a", "cpu-large", "gpu4"]), max_size=3, unique=True))
    types = [draw(node_types(name)) for name in names]
    least = sum(each.get("minWorkers") or 0 for each in types)
    most = draw(st.sampled_from([{}, {"maxWorkers": None}, {"maxWorkers": least + draw(FEW)}, {"maxWorkers": 1_000_000}]))
    if all(each.get("cost") is not None for each in types):
        costs = sum((each.get("minWorkers") or 0) * each["cost"] for each in types)
        most = {
            **most,
            **draw(st.sampled_from([{}, {"spendLimit": None}, {"spendLimit": min(costs + draw(FEW), 1e6)} if costs <= 1e6 else {}])),
        }
    spec = draw(
        mapping(
            {},
            upscalingSpeed=COSTS,
            idleTimeout=TIMEOUTS,
            floorAfterDriver=TIMEOUTS,
            consolidation=st.booleans(),
            devices=st.lists(st.sampled_from(["fpga", "GPU", "a b"]), unique=True),
            executor=EXECUTORS,
            head=HEADS,
        )
    )
    spec = {**spec, **draw(paces(max([1, *(each.get("hostsPerReplica") or 1 for each in types)])))}
    root = {"apiVersion": native.API_VERSION, "kind": "Cluster", "metadata": {"name": draw(st.sampled_from(["demo", "a1"]))}}
    return draw(
        st.sampled_from([root, {**root, "spec": {**spec, **most, "nodeTypes": types}}, {**root, "spec": {**spec, "nodeTypes": types}}])
    )


KEYS = st.sampled_from(
    sorted({*native.ROOT, *native.SPEC, *native.HEAD, *native.TYPE, *resize.KEYS, *NOT_YET, *native.PORTS, "CPU", "memory"})
)
TEXTS = st.text(max_size=6) | st.sampled_from(
    ["never", "1h1h", "a\n", "-1", "1e3", "4Gb", "0.5", "Local", "\0", "9" * 60, "9999999h", "=,"]
)
NUMBERS = (
    st.integers(-3, 3)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([1e6, 1_000_001, 10**18 + 1, -0.0])
)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(KEYS | TEXTS, inner, max_size=3),
    max_leaves=5,
)
"""What JSON can say."""
YAML = JSON | st.dates() | st.binary(max_size=3) | st.sampled_from([float("nan"), float("-inf")]) | st.dictionaries(st.integers() | st.booleans() | st.none(), st.just(1), min_size=1, max_size=2)  # fmt: skip
"""What YAML can say besides."""


def places(path: str, value: Any):
    """Yield each place in a document: its container, its key there, and its path."""
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(pairs):
        where = shown.under(path, key) if isinstance(value, dict) else f"{path}[{key}]"
        yield value, key, where
        yield from places(where, inner)


@st.composite
def changes(draw, documents, values) -> tuple[dict[str, Any], str]:
    """Return a document with one place replaced, deleted, retyped, or given one key more, and the path of that."""
    document = copy.deepcopy(draw(documents))
    container, key, where = draw(st.sampled_from(list(places("", document))))
    match draw(st.sampled_from(["replace", "replace", "delete", "insert", "retype"])):
        case "delete":
            del container[key]
        case "retype":
            old = container[key]
            container[key] = draw(st.sampled_from([[old], {"x": old}, str(old), None, [], {}, 1.5, True]))
        case "insert" if isinstance(container[key], dict):
            new = draw(KEYS | TEXTS)
            container[key][new] = draw(values)
            where = shown.under(where, new)
        case _:
            container[key] = draw(values)
    return document, where
