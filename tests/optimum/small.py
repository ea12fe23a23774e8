"""Random clusters small enough to be solved exactly: up to 6 shapes, 4 types, 12 nodes, with limits, labels and devices."""

import random

from rayscaler.model.demand import Bundle, Demand, LabelCondition, LabelSelector, Operator
from rayscaler.model.node import NodeStatus, RayNode
from rayscaler.model.nodetype import UNLIMITED, ClusterConfig, NodeType
from rayscaler.model.resources import UNIT, Resources
from rayscaler.model.state import ClusterState

FRACTIONS = (2_500, 3_000, 5_000, 6_000)


def state_of(dice: random.Random) -> ClusterState:
    """Return up to 6 shapes, 4 types and 12 nodes, some of which are there."""
    has_devices, has_labels = dice.random() < 0.5, dice.random() < 0.3
    types = tuple(
        _type(dice, name, has_devices=has_devices, has_labels=has_labels) for name in ("ant", "bee", "cow", "dog")[: dice.randint(1, 4)]
    )
    shapes = dict.fromkeys(_bundle(dice, has_devices=has_devices, has_labels=has_labels) for _ in range(dice.randint(1, 6)))
    nodes = tuple(_row(dice, i, dice.choice(types)) for i in range(dice.choice([0, 0, 1, 2, 3])))
    return ClusterState(
        now=1000.0,
        config=ClusterConfig("c", types, max_workers=12 - len(nodes)),
        nodes=nodes,
        demands=tuple(Demand(bundle, dice.choice([1, 2, 3, 5, 8])) for bundle in shapes),
    )


def _type(dice: random.Random, name: str, *, has_devices: bool, has_labels: bool) -> NodeType:
    cores, devices = dice.choice([2, 4, 8, 16]), dice.choice([0, 1, 2, 4]) if has_devices else 0
    amounts = {"CPU": cores, "memory": cores * dice.choice([1, 2, 4]), "GPU": devices}
    return NodeType(
        name,
        Resources({kind: amount * UNIT for kind, amount in amounts.items()}),
        dice.choice([(("zone", "a"),), (("zone", "b"),), ()]) if has_labels else (),
        max_workers=dice.choice([UNLIMITED, UNLIMITED, UNLIMITED, 1, 2, 4]),
        cost=round((cores + 8 * devices) * dice.uniform(0.7, 1.4) / 4, 2),
    )


def _bundle(dice: random.Random, *, has_devices: bool, has_labels: bool) -> Bundle:
    wanted = {"CPU": dice.choice([5_000, UNIT, UNIT, 2 * UNIT, 3 * UNIT, 4 * UNIT, 6 * UNIT])}
    if dice.random() < 0.5:
        wanted["memory"] = dice.choice([1, 2, 3, 5, 8]) * UNIT
    if has_devices and dice.random() < 0.6:
        wanted["GPU"] = dice.choice([*FRACTIONS, UNIT, 2 * UNIT])
    zone = LabelCondition("zone", dice.choice([Operator.IN, Operator.NOT_IN]), (dice.choice("ab"),))
    return Bundle(Resources(wanted), (LabelSelector((zone,)),) if has_labels and dice.random() < 0.4 else ())


def _row(dice: random.Random, number: int, like: NodeType) -> RayNode:
    """Return a node of the user's own, partly used."""
    free = {name: amount - min(amount, dice.choice([0, 0, 6_000, UNIT, 3 * UNIT])) for name, amount in like.resources.items()}
    return RayNode(f"x{number}", "", "", NodeStatus.RUNNING, like.resources, Resources(free), like.labels)
