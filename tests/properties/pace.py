"""The judge's part on how many launches may be on their way, and begun in a minute: of all types together, and of each."""

from collections.abc import Iterator
from typing import NamedTuple

from rayscaler.model.instance import InstanceStatus, Reason
from tests.properties.world import World

MINUTE_S = 60.0


class Limit(NamedTuple):
    reason: Reason
    most: int
    after: int
    """How many there are once the plan is carried out."""
    launched: int
    """How many of those are the plan's."""
    of: str


def limits(world: World) -> Iterator[Limit]:
    state, config = world.state, world.state.config
    flying = [each.node_type for each in world.instances.values() if _is_flying(each)]
    begun = [each.node_type for each in state.begun if state.now - each.at < MINUTE_S for _ in range(each.launches)]
    both = ((flying, "MAX_CONCURRENT_LAUNCHES", "max_concurrent_launches"), (begun, "MAX_LAUNCHES_PER_MINUTE", "max_launches_per_minute"))
    for there, name, field in both:
        launched = len(world.plan.launches)
        yield Limit(Reason(name), getattr(config, field), len(there) + launched, launched, "")
        for kind, node_type in world.types.items():
            own = world.launched[kind]
            yield Limit(Reason(f"{name}_OF_TYPE"), getattr(node_type, field), there.count(kind) + own, own, kind)


def _is_flying(instance) -> bool:
    """An executor that is asked to end what has not joined yet is still at it until it is gone."""
    is_launched = instance.status in (InstanceStatus.REQUESTED, InstanceStatus.ALLOCATED)
    return is_launched or (instance.status is InstanceStatus.TERMINATING and not instance.ray_node_id)


def too_fast(world: World) -> list[str]:
    """What of it is passed by a plan that launches."""
    return [f"{each} is passed" for each in limits(world) if each.launched and 0 <= each.most < each.after]


def binds(world: World, reason: Reason, name: str) -> bool:
    """Whether one more replica of a type would pass a limit; of those of all types the largest replica, since it has its turn first."""
    largest = max(each.hosts_per_replica for each in world.types.values())
    return any(
        0 <= each.most < each.after + (world.types[name].hosts_per_replica if each.of else largest)
        for each in limits(world)
        if each.reason is reason and each.of in ("", name)
    )


def is_set(world: World, reason: Reason, name: str) -> bool:
    """Whether a limit of another kind stands in the definition at all."""
    config = world.state.config
    limits_of = {
        Reason.MAX_WORKERS: config.max_workers >= 0,
        Reason.MAX_WORKERS_OF_TYPE: world.types[name].max_workers >= 0,
        Reason.SPEND_LIMIT: config.spend_limit is not None,
        Reason.UPSCALING_SPEED: config.upscaling_speed is not None,
    }
    return limits_of.get(reason, False)
