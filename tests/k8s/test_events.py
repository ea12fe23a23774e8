"""What happens alike is one event with a count; a storm of happenings costs a handful of writes, and failures cost nothing else."""

import asyncio
import contextlib

import pytest
from structlog.testing import capture_logs

from rayscaler.errors import NotFound, Unavailable
from rayscaler.k8s import events
from rayscaler.k8s.events import DETAILS, LONGEST, MOST, EventReason, Events, message_of, of_action
from rayscaler.k8s.pods import Owner
from rayscaler.model.instance import InstanceStatus, Reason
from rayscaler.model.status import Action
from rayscaler.testing.loop_clock import LoopClock

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]
OWNER = Owner("v1", "ConfigMap", "demo", "uid-1")


class Api:
    """Takes creates and patches, fails as told, and says when each came."""

    def __init__(self) -> None:
        self.calls: list[tuple] = []
        self.fails: list[Exception] = []
        self.hang_s = 0.0

    async def create(self, _kind, _namespace, body):
        await self._called("create", body["reason"], body["message"], body["count"])
        return body

    async def patch(self, _kind, _namespace, name, body):
        await self._called("patch", name, body["count"])

    async def _called(self, *call):
        await asyncio.sleep(self.hang_s)
        if self.fails:
            raise self.fails.pop(0)
        self.calls.append((round(asyncio.get_running_loop().time()), *call))


@contextlib.asynccontextmanager
async def telling():
    api = Api()
    made = Events(api, "ns", clock=LoopClock())
    task = asyncio.create_task(made.run())
    try:
        yield api, made
    finally:
        assert not task.done() or task.result()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_burst_is_one_event_per_reason_and_type_with_its_count():
    async with telling() as (api, made):
        for index in range(12):
            made.tell(OWNER, EventReason.LAUNCHED, "tasks wait" if index else "minWorkers", of="cpu-large")
        made.tell(OWNER, EventReason.LAUNCHED, of="gpu")
        made.tell(OWNER, EventReason.TERMINATED, of="gpu", count=3)
        await asyncio.sleep(3.0)
    assert [each[1:] for each in api.calls] == [
        ("create", "Launched", "launched 12 cpu-large: minWorkers; tasks wait", 1),
        ("create", "Launched", "launched 1 gpu", 1),
        ("create", "Terminated", "ended 3 gpu", 1),
    ]


async def test_h4_pods_are_told_of_one_by_one_and_what_their_cluster_has_to_tell_does_not_wait_for_them():
    async with telling() as (api, made):
        for index in range(50):
            made.tell(Owner("v1", "Pod", f"demo-gpu-1-{index}", f"uid-pod-{index}"), EventReason.LAUNCH_STUCK, "no room")
        await asyncio.sleep(2.0)
        made.tell(OWNER, EventReason.HEAD_LOST, "lost")
        await asyncio.sleep(30.0)
    told = [each[1:] for each in api.calls]
    assert told.count(("create", "LaunchStuck", "no room", 1)) == 50  # the pod itself is no number of something
    assert told.index(("create", "HeadLost", "lost", 1)) < 20


async def test_what_goes_on_is_told_ever_more_seldom_and_counts_whole():
    async with telling() as (api, made):
        for _ in range(3600):
            made.tell(OWNER, EventReason.LAUNCHED, of="cpu")
            await asyncio.sleep(1.0)
        await asyncio.sleep(301.0)
    assert len(api.calls) < 30
    counts: list[int] = []
    for each in api.calls:  # one that raises the count of an event says its words again
        counts.append(int(each[3].split()[1]) if each[1] == "create" else counts[-1])
    assert sum(counts) == 3600
    gaps = [after[0] - before[0] for before, after in zip(api.calls, api.calls[1:], strict=False)]
    assert gaps[0] < 5
    assert max(gaps) <= 301
    assert sorted(gaps[:-1]) == gaps[:-1]


async def test_the_same_words_raise_the_count_until_the_api_server_has_forgotten_the_event():
    async with telling() as (api, made):
        for _ in range(3):
            made.tell(OWNER, EventReason.DEFINITION_REFUSED, "spec.maxWorkers: -3")
            await asyncio.sleep(60.0)
        name = api.calls[1][2]
        assert name.startswith("demo.")
        assert [each[1:] for each in api.calls[1:]] == [("patch", name, 2), ("patch", name, 3)]
        api.fails = [NotFound("it has expired")]
        made.tell(OWNER, EventReason.DEFINITION_REFUSED, "spec.maxWorkers: -3")
        await asyncio.sleep(4000.0)
        made.tell(OWNER, EventReason.DEFINITION_REFUSED, "spec.maxWorkers: -3")
        await asyncio.sleep(60.0)
    assert [each[1] for each in api.calls] == ["create", "patch", "patch", "create", "create"]


async def test_k2_a_sink_that_fails_or_hangs_costs_that_event_and_no_other():
    async with telling() as (api, made):
        api.fails = [Unavailable("away")]
        made.tell(OWNER, EventReason.HEAD_LOST, "lost")
        made.tell(OWNER, EventReason.HEAD_MADE, "made")
        await asyncio.sleep(3.0)
        api.hang_s = 1000.0
        made.tell(OWNER, EventReason.HEAD_LOST, "again")
        await asyncio.sleep(30.0)
        api.hang_s = 0.0
        made.tell(OWNER, EventReason.LAUNCHED, of="cpu")
        await asyncio.sleep(30.0)
    assert [each[2] for each in api.calls] == ["HeadMade", "Launched"]


async def test_what_waits_is_bounded_the_oldest_goes_and_is_counted():
    async with telling() as (api, made):
        with capture_logs() as logs:
            for index in range(MOST + 50):
                made.tell(Owner("v1", "ConfigMap", f"c{index}", f"uid-{index}"), EventReason.LAUNCHED, of="cpu", count=2)
            await asyncio.sleep(1000.0)
    assert len(api.calls) == MOST
    assert [each["count"] for each in logs if each["event"] == "events.lost"] == [100]
    assert api.calls[-1][0] - api.calls[0][0] >= 0.2 * (MOST - 1) - 1, "five a second"


def test_an_event_regards_the_definition():
    made = events.manifest("ns", OWNER, EventReason.LAUNCH_FAILED, "quota", at=(0.0, 61.0))
    assert made["involvedObject"] == {"apiVersion": "v1", "kind": "ConfigMap", "namespace": "ns", "name": "demo", "uid": "uid-1"}
    assert (made["type"], made["firstTimestamp"], made["lastTimestamp"]) == ("Warning", "1970-01-01T00:00:00Z", "1970-01-01T00:01:01Z")
    assert events.manifest("ns", OWNER, EventReason.LAUNCHED, "", at=(0.0, 0.0))["type"] == "Normal"


def test_a_message_has_few_details_and_an_end():
    details = tuple(f"detail {index}" for index in range(DETAILS + 2))
    assert message_of(EventReason.LAUNCH_FAILED, "gpu", 5, details) == "could not launch 5 gpu: detail 0; detail 1; detail 2; and 2 more"
    assert message_of(EventReason.DEFINITION_TAKEN, "", 1, ("version a",)) == "version a"
    assert len(message_of(EventReason.HEAD_LOST, "", 1, ("x" * 5000,))) == LONGEST


def test_actions_of_a_cluster_are_told_where_people_would_ask_for_them():
    told = {each: of_action(Action(0.0, each.value, "i", "t", Reason.DEMAND, "", 1)) for each in InstanceStatus}
    assert {each.value: reason.value for each, reason in told.items() if reason is not None} == {
        "REQUESTED": "Launched",
        "LAUNCH_FAILED": "LaunchFailed",
        "DRAINING": "Draining",
        "TERMINATED": "Terminated",
    }
    stuck = of_action(Action(0.0, "STUCK", "i", "t", Reason.STUCK, "", 1))
    assert stuck is EventReason.LAUNCH_STUCK  # H4: a machine that never comes is told, with why and until when
    assert message_of(stuck, "gpu", 2, ("Unschedulable",)) == "2 gpu on the way and not getting on: Unschedulable"
    assert events.manifest("ns", OWNER, stuck, "", at=(0.0, 0.0))["type"] == "Warning"
    refused = of_action(Action(0.0, "NOT_GROWN", "i", "t", Reason.NOT_GROWN, "", 1))
    assert message_of(refused, "small", 1, ("Infeasible: no",)) == "1 small could not grow in place: Infeasible: no"
    assert events.manifest("ns", OWNER, refused, "", at=(0.0, 0.0))["type"] == "Warning"
    assert of_action(Action(0.0, "GROWN", "i", "t", Reason.GROWN, "", 1)) is EventReason.GROWN
    assert of_action(Action(0.0, "FLOOR_ENDED", "", "", Reason.NOBODY_WAITS, "", 1)) is None
