"""The judge's part on money: what is launched is paid for, and what is too dear is."""

from fractions import Fraction

from tests.properties.world import World

DUST = Fraction(1, 10**5)
"""What rounding each cost to a millionth may come to."""


def overspent(world: World) -> list[str]:
    """A plan that launches keeps the cost of all that exists, whatever it is about to end, below the limit."""
    limit, spent = world.state.config.spend_limit, _spent(world)
    if limit is None or not any(world.types[each.node_type].cost for each in world.plan.launches) or spent <= Fraction(limit) + DUST:
        return []
    return [f"the workers cost {float(spent)} per hour, the limit is {limit}"]


def is_too_dear(world: World, name: str, count: int) -> bool:
    """Whether the limit does not pay for `count` more of a type."""
    limit = world.state.config.spend_limit
    return limit is not None and _spent(world) + count * Fraction(world.types[name].cost or 0) > Fraction(limit) - DUST


def _spent(world: World) -> Fraction:
    costs = {name: each.cost for name, each in world.types.items()}
    gone = [each.made_as.cost for each in world.instances.values() if each.node_type not in costs and each.made_as is not None]
    here = [costs[each.node_type] for each in world.instances.values() if each.node_type in costs]
    return sum((Fraction(each or 0) for each in (*here, *gone, *(costs[each.node_type] for each in world.plan.launches))), Fraction(0))
