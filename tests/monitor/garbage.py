"""Answers that no service would give, but that the wire can carry: made of a seeded Random."""

from random import Random

from rayscaler.api.gcs.v1 import gcs_pb2
from rayscaler.api.head.v1 import head_pb2

AMOUNTS = (float("nan"), float("inf"), -1.0, 0.0, 1e-9, 1.0, 1e300)
VERSIONS = (-(2**63), -1, 0, 1, 2**63 - 1)
COUNTS = (-(2**31), -1, 0, 1, 2**31 - 1)
NAMES = ("", "CPU", "memory", f"CPU_group_{'ab' * 18}", f"CPU_group_0_{'ab' * 18}", "x_group_", "\N{SNOWMAN}")
NODE_IDS = (b"", b"zz", b"\xff", bytes(28))


def _request(random: Random) -> gcs_pb2.ResourceRequest:
    amounts = {name: random.choice(AMOUNTS) for name in random.sample(NAMES, random.randrange(3))}
    return gcs_pb2.ResourceRequest(resources_bundle=amounts, label_selectors=[gcs_pb2.LabelSelector()] * random.randrange(2))


def command(random: Random, command_id: str, node: bytes) -> head_pb2.Command:
    """A drain of some node, of `node` at times, a replay of some constraint, or nothing."""
    made = head_pb2.Command(command_id=command_id)
    kind = random.randrange(5)
    if kind <= 2:
        made.drain_node.node_id = random.choice((*NODE_IDS, node, node))
        made.drain_node.reason = random.choice((0, 1, 2, 3, -1))
        made.drain_node.reason_message = random.choice(NAMES)
        made.drain_node.deadline_timestamp_ms = random.choice((*VERSIONS, 4 * 10**12))
    elif kind == 3:
        made.replay_constraint.SetInParent()
        if random.randrange(2):
            made.replay_constraint.replaces.resource_requests.add(request=_request(random), count=1)
        for _ in range(random.randrange(3)):
            made.replay_constraint.constraint.resource_requests.add(request=_request(random), count=random.choice((0, 1, -1, 7)))
    return made


def state(random: Random, version: int) -> gcs_pb2.AutoscalingState:
    """A state with odd shapes and texts, of a version that may lie below the one before."""
    return gcs_pb2.AutoscalingState(
        autoscaler_state_version=version - random.randrange(3),
        last_seen_cluster_resource_state_version=random.choice(VERSIONS),
        pending_instances=[gcs_pb2.PendingInstance(instance_id=random.choice(NAMES)) for _ in range(random.randrange(3))],
        infeasible_resource_requests=[_request(random) for _ in range(random.randrange(3))],
        infeasible_gang_resource_requests=[gcs_pb2.GangResourceRequest(requests=[_request(random)]) for _ in range(random.randrange(2))],
    )


def config(random: Random, name: str) -> head_pb2.ClusterConfig:
    """A config of odd amounts and counts."""
    groups = [
        gcs_pb2.NodeGroupConfig(name=random.choice(NAMES), resources={random.choice(NAMES): 2**64 - 1}, max_count=random.choice(COUNTS))
        for _ in range(random.randrange(3))
    ]
    return head_pb2.ClusterConfig(hash=name, config=gcs_pb2.ClusterConfig(node_group_configs=groups))
