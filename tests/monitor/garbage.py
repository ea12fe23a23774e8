"""Answers that no service would give, but that the wire can carry: made of a seeded Random."""

from random import Random

from rayscaler.api.head.v1 import head_pb2

AMOUNTS = (-(2**63), -1, 0, 1, 9_999, 10_000, 2**62, 2**63 - 1)
COUNTS = (-(2**31), -1, 0, 1, 2**31 - 1)
NAMES = ("", "CPU", "memory", f"CPU_group_{'ab' * 18}", f"CPU_group_0_{'ab' * 18}", "x_group_", "\N{SNOWMAN}")
NODE_IDS = ("", "zz", "ff", "a", "00" * 28)


def _amounts(random: Random) -> dict[str, int]:
    return {name: random.choice(AMOUNTS) for name in random.sample(NAMES, random.randrange(3))}


def _bundle(random: Random) -> head_pb2.Bundle:
    return head_pb2.Bundle(resources=_amounts(random), label_selectors=[head_pb2.LabelSelector()] * random.randrange(2))


def _demands(random: Random) -> list[head_pb2.Demand]:
    return [head_pb2.Demand(bundle=_bundle(random), count=random.choice((0, 1, -1, 7))) for _ in range(random.randrange(3))]


def command(random: Random, command_id: str, node: str) -> head_pb2.Command:
    """A drain of some node, of `node` at times, a replay of some constraint, or nothing."""
    made = head_pb2.Command(command_id=command_id)
    kind = random.randrange(5)
    if kind <= 2:
        made.drain_node.ray_node_id = random.choice((*NODE_IDS, node, node))
        made.drain_node.reason = random.choice((0, 1, 2, 3, -1))
        made.drain_node.detail = random.choice(NAMES)
        if random.randrange(2):
            made.drain_node.deadline.seconds = random.choice((-(10**9), -1, 0, 1, 4 * 10**9))
    elif kind == 3:
        made.replay_constraint.constraint.demands.extend(_demands(random))
    return made


def state(random: Random, version: int) -> head_pb2.AutoscalingState:
    """A state with odd shapes and texts, of a version that may lie below the one before."""
    return head_pb2.AutoscalingState(
        version=version - random.randrange(3),
        gcs_version=random.choice(AMOUNTS),
        requested=[head_pb2.PendingInstance(node_type=random.choice(NAMES)) for _ in range(random.randrange(3))],
        pending=[head_pb2.PendingInstance(instance_id=random.choice(NAMES)) for _ in range(random.randrange(3))],
        failed=[head_pb2.FailedLaunch(node_type=random.choice(NAMES)) for _ in range(random.randrange(3))],
        infeasible=[_bundle(random) for _ in range(random.randrange(3))],
        infeasible_gangs=[head_pb2.Gang(strategy=random.randrange(5), bundles=_demands(random)) for _ in range(random.randrange(2))],
    )


def config(random: Random, name: str) -> head_pb2.ClusterConfig:
    """A config of odd amounts and counts."""
    groups = [
        head_pb2.NodeGroupConfig(
            name=random.choice(NAMES), resources=_amounts(random), min_count=random.choice(COUNTS), max_count=random.choice(COUNTS)
        )
        for _ in range(random.randrange(3))
    ]
    return head_pb2.ClusterConfig(hash=name, min_resources=_amounts(random), max_resources=_amounts(random), node_groups=groups)
