"""Complaints F5 and F6: client sessions and tasks outlive scale-downs and the death of service and monitor; rayscaler is never the cause."""

import pytest

from tests.ray.clients import clients_stay

pytestmark = pytest.mark.tier("ray")


async def test_f5_f6_sessions_and_tasks_live_on_while_workers_go_and_rayscaler_dies_and_catches_up():
    await clients_stay(sessions=1, away_s=3.0)  # a process of 100 MB here and one of 200 MB at the head; the soak has 50, for 10 minutes
