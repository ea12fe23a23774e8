"""Nodes that are kept ready, in virtual time (K6)."""

import pytest

from rayscaler.model.instance import Reason
from tests.reconciler.builders import config, node_type, tasks
from tests.reconciler.world import world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]


async def test_k6_nodes_are_ready_before_anything_is_asked_for_are_filled_up_and_stay_and_say_why():
    async with world(config(node_type(headroom=2))) as w:
        await w.live(6)
        assert len(w.launched) == 2
        w.ray.demands = tasks(1)
        await w.live(0.5)
        assert len(w.launched) == 3  # in the plan that saw the demand
        w.ray.demands = ()
        w.ray.busy(w.launched[0])
        await w.live(200)
        assert (len(w.launched), w.commands) == (3, [])  # the idle timeout is 60 s
        because = {each.instance_id: each.because for each in w.reconciler.explanation().nodes}
        assert [because[name].reason for name in w.launched] == [Reason.BUSY, Reason.HEADROOM, Reason.HEADROOM]
        assert because[w.launched[1]].detail == "idle; small is to have 2 ready"


async def test_k6_what_is_ready_goes_once_the_definition_wants_none():
    async with world(config(node_type(headroom=2))) as w:
        await w.live(6)
        w.reconciler.redefine(config(), "none")
        await w.live(70)
        assert (w.instances, len(w.launched)) == ({}, 2)
