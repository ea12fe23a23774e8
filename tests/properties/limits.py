"""How many nodes of a type may be launched, as the judge of plans sees it: maxima, back-offs, the upscaling speed. Model only."""

from collections.abc import Collection

from rayscaler.model.instance import LAUNCHING, STANDING, Reason
from tests.properties import wholes
from tests.properties.world import World, most_workers


def speed_limit(world: World, name: str) -> int:
    standing = sum(1 for each in world.instances.values() if each.node_type == name and each.status in STANDING)
    return max(5, int(world.state.config.upscaling_speed * max(standing, 1)))


def launches(world: World, name: str, but: Collection[str] = ()) -> int:
    """Return how many launches of a type are on their way after the plan.

    Who rejoins was launched long ago; who is to be ended by others never comes, nor is a host of a broken replica of use to anybody.
    """
    off = {each.instance_id for each in world.plan.terminations} | wholes.broken(world.state) | set(but)
    own = [each for each in world.instances.values() if each.node_type == name and each.status in LAUNCHING and each.ends_at is None]
    return sum(each.instance_id not in off for each in own) + world.launched[name]


def _tries(world: World, name: str) -> int:
    """Return the same, but all that is launched for gangs as one, with what was on its way for them: fewer nodes are no use to them."""
    gangs = [each.gangs for each in world.plan.launches if each.node_type == name and each.gangs]
    served = {gang for each in gangs for gang in each}
    own = [each.instance_id for each in world.state.expectations if served.intersection(each.gangs)]
    return launches(world, name, own) - len(gangs) + bool(gangs)


def wrongly_launched(world: World) -> list[str]:
    """Return which maxima, back-offs and speeds are passed, and what is launched though nothing may be."""
    wrong, state = [], world.state
    total = len(world.instances) + len(world.plan.launches)
    if world.plan.launches and most_workers(state.config) < total:
        wrong.append(f"{total} workers, the cluster may have {most_workers(state.config)}")
    for name, count in world.launched.items():
        limit = world.types[name].max_workers
        if 0 <= limit < world.live[name] + count:
            wrong.append(f"{world.live[name] + count} of {name}, there may be {limit}")
        own = [each for each in state.backoffs if each.node_type == name]
        more = world.types[name].hosts_per_replica - 1  # where one may be launched, a replica may
        if any(each.until > state.now or _tries(world, name) > each.probe + more for each in own):
            wrong.append(f"{name} is launched though backed off")
        of_demand = [each for each in world.plan.launches if each.node_type == name and each.reason is Reason.DEMAND]
        if state.config.upscaling_speed is not None and of_demand and launches(world, name) > speed_limit(world, name) + more:
            wrong.append(f"{name} is launched faster than the upscaling speed")
    reasons = {each.reason for each in world.plan.launches}
    allowed = {None: reasons, Reason.NO_REPORT: {Reason.MIN_WORKERS, Reason.REPLICA}}.get(state.no_launch, set())
    return wrong if reasons <= allowed else [*wrong, f"launches for {reasons} though {state.no_launch}"]
