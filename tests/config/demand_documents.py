"""Random definitions and demand files as documents, small enough to be full of collisions."""

from hypothesis import strategies as st

TYPE_NAMES = ("ant", "bee", "cow")
STRATEGIES = ("PACK", "SPREAD", "STRICT_PACK", "STRICT_SPREAD")
WISHES = ("a", "!a", "b", "in(a, b)", "!in(b,c)")

asked = st.dictionaries(st.sampled_from(["CPU", "GPU", "memory", "blob"]), st.sampled_from([0, 1, 2, 4, 0.5, 0.25, "1.5", 3.0]), max_size=3)
selectors = st.lists(st.dictionaries(st.sampled_from(["zone", "ray.io/node-group"]), st.sampled_from(WISHES), max_size=2), max_size=2)


counts = st.integers(1, 6)
bundles = st.fixed_dictionaries({"resources": asked}, optional={"count": counts, "labelSelectors": selectors})
gangs = st.fixed_dictionaries(
    {"bundles": st.lists(bundles, min_size=1, max_size=3)},
    optional={"count": st.integers(1, 3), "strategy": st.sampled_from(STRATEGIES), "within": st.sampled_from(["zone", "rack"])},
)
whole = {"CPU": st.sampled_from([1, 2, 4, 8]), "GPU": st.sampled_from([1, 2]), "memory": st.just("16"), "blob": st.sampled_from([3, 0.5])}


@st.composite
def node_types(draw, name: str):
    most = draw(st.sampled_from([None, None, 0, 1, 3]))
    least = draw(st.sampled_from([0, 0, 0, 1])) if most is None else min(most, draw(st.sampled_from([0, 0, 1])))
    limits = {"minWorkers": least, **({} if most is None else {"maxWorkers": most})}
    cost = draw(st.sampled_from([None, 0.1, 0.8, 2]))
    return {
        "name": name,
        "resources": draw(st.fixed_dictionaries({}, optional=whole)),
        "labels": draw(st.fixed_dictionaries({}, optional={"zone": st.sampled_from(["a", "b", "c"])})),
        "spot": draw(st.booleans()),
        **limits,
        **({} if cost is None else {"cost": cost}),
    }


@st.composite
def clusters(draw):
    types = [draw(node_types(name)) for name in draw(st.lists(st.sampled_from(TYPE_NAMES), min_size=1, max_size=3, unique=True))]
    most = draw(st.sampled_from([None, None, 3, 6, 10]))
    spec = {"nodeTypes": types, "head": {"resources": draw(st.sampled_from([{}, {}, {"CPU": 2}]))}}
    if most is not None:
        spec["maxWorkers"] = max(most, sum(each["minWorkers"] for each in types))
    return {"apiVersion": "rayscaler.io/v1", "kind": "Cluster", "metadata": {"name": "c"}, "spec": spec}


@st.composite
def nodes(draw, cluster):
    node_type = draw(st.sampled_from(cluster["spec"]["nodeTypes"]))
    used = {name: draw(st.sampled_from([0, amount])) for name, amount in node_type["resources"].items() if draw(st.booleans())}
    return {"type": node_type["name"], "count": draw(st.integers(1, 3)), **({"used": used} if draw(st.booleans()) else {})}


@st.composite
def demand_files(draw, cluster):
    return draw(
        st.fixed_dictionaries(
            {},
            optional={
                "demands": st.lists(bundles, max_size=4),
                "gangs": st.lists(gangs, max_size=2),
                "constraints": st.lists(bundles, max_size=2),
                "nodes": st.lists(nodes(cluster), max_size=3),
            },
        )
    )


worlds = clusters().flatmap(lambda cluster: st.tuples(st.just(cluster), demand_files(cluster)))
"""A definition and a demand file for it."""
