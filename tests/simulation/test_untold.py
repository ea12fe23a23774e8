"""Complaint K2: what is told to people is told beside scaling. Where none of it ever arrives, every launch and end is the same."""

import asyncio

import pytest
from structlog.testing import capture_logs

from rayscaler.model.demand import Strategy
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources
from tests.simulation.whole import Event, running

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

CPU = Resources.of(CPU=1)
TYPES = (
    NodeType("small", Resources.of(CPU=2), max_workers=6),
    NodeType("accel", Resources.of(CPU=1, fpga=1), min_workers=1, max_workers=2),
)
TELLING = {"report_state", "report_config", "set_notice", "tell_drivers"}
"""The calls of the GCS that serve people only: `ray status`, what a driver prints, what Ray thinks the cluster can become."""
READING_S = 0.5
"""A result that goes out makes a report of its own, so what follows may be decided one reading earlier or later."""


async def story(failing: set[str]) -> tuple[list[Event], dict[str, int], list[dict]]:
    """Live through demand, what can never be met, a placement group, an edit and a scale-down; return what was done and told, and the log."""
    began = asyncio.get_running_loop().time()
    with capture_logs() as logs:
        async with running(ClusterConfig("demo", TYPES, max_workers=9, idle_timeout_s=10.0)) as whole:
            whole.gcs.failing |= failing
            await asyncio.sleep(5)
            whole.gcs.submit(CPU, 7, runtime_s=30.0)
            whole.gcs.submit(Resources.of(GPU=1), 2)  # no type has one: drivers are told
            await asyncio.sleep(20)
            gang = whole.gcs.create_gang(Strategy.STRICT_SPREAD, [CPU] * 3)
            await asyncio.sleep(20)
            whole.reconciler.redefine(ClusterConfig("demo", TYPES[:1], max_workers=9, idle_timeout_s=10.0), "edited")
            await asyncio.sleep(20)
            whole.gcs.remove_gang(gang)
            await asyncio.sleep(60)
            told = {
                "states": whole.gcs.states_told,
                "configs": whole.gcs.configs_told,
                "printed": len(whole.gcs.printed),
                "notice": len(whole.gcs.notice),
            }
            return sorted((at - began, what, name) for at, what, name in whole.events), told, logs


async def test_k2_where_nothing_told_to_people_ever_arrives_every_launch_and_end_is_the_same():
    events, told, _ = await story(set())
    assert min(told.values()) > 0, told
    assert {"launch", "drained", "terminate", "gone"} <= {what for _, what, _ in events}
    events_untold, untold, logs = await story(TELLING)
    assert untold == dict.fromkeys(told, 0)
    assert sorted((what, name) for _, what, name in events_untold) == sorted((what, name) for _, what, name in events)
    moments = [{(what, name): at for at, what, name in each} for each in (events, events_untold)]
    late = {key: at for key, at in moments[1].items() if abs(at - moments[0][key]) > READING_S}
    assert late == {}
    failed = {each["subject"] for each in logs if each["event"] == "monitor.not_told"}
    failed |= {each["kind"] for each in logs if each["event"] == "monitor.command" and each["outcome"] == "OUTCOME_FAILED"}
    assert failed == {"the autoscaling state", "the cluster's config", "the notice for drivers", "tell_drivers"}
