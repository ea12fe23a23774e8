"""Over a day of arrivals plans do not flap: what is on its way is used or comes, and is not called off to be launched again."""

import pytest

from tests.counts import counted
from tests.simulation.day import CONFIG, Day

pytestmark = pytest.mark.tier("unit")


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("seed", "steps"),
    [*((seed, 0) for seed in range(counted(gate=4, full=40))), *((seed, 100) for seed in range(counted(gate=2, full=40)))],
)
def test_no_launch_is_called_off_over_a_day_and_launched_again(seed, steps):
    print(f"seed {seed}, plans improved for {steps} steps")
    day = Day(seed, steps)
    day.run(2000)
    assert len(day.launched) > 100
    assert len({name for _, name in day.launched}) == len(CONFIG.node_types)
    again = [(at, name, later) for at, name in day.cancelled for later, other in day.launched if other == name and at <= later < at + 600]
    assert again == []


def test_launches_are_called_off_where_all_work_has_gone():
    day = Day(0)
    day.pending = [next(iter(CONFIG.node_types)).resources] * 40
    day.step()
    assert len(day.launched) > 5
    day.pending = []
    for _ in range(6):
        day.step()
    assert len(day.cancelled) == len(day.launched)
