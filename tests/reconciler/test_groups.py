"""Which launches are one group, how many it is to have, and that launches wait for it (complaint I2); pure, then in virtual time."""

import asyncio
import dataclasses

import pytest

from rayscaler.errors import Denied, Unavailable
from rayscaler.model.demand import Bundle, Demand, Gang, Strategy
from rayscaler.model.instance import InstanceStatus, Reason
from rayscaler.model.plan import Drain, Infeasible, Launch, Plan
from rayscaler.model.scheduling import GangScheduler, GangScheduling, Membership, WantedGroup
from rayscaler.reconciler import groups
from rayscaler.reconciler.groups import Joining
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines
from rayscaler.testing.loop_clock import LoopClock
from rayscaler.testing.memory_store import MemoryStore
from tests.reconciler.builders import CPU, config, instance, node_type, tasks
from tests.reconciler.world import Ray, World, world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

BY = GangScheduler.SCHEDULER_PLUGINS
GANGED = config(gang_scheduling=GangScheduling(BY))


def member(name: str, group: str, *gangs: str, by: GangScheduler = BY, **fields):
    return instance(name, **{"status": InstanceStatus.ALLOCATED, "membership": Membership(by, group, gangs), **fields})


def joined(*launches: tuple[str, str], there=(), definition=GANGED) -> list[str | None]:
    """Return the group of each launch: of gangs, one letter each, and a replica."""
    made = [Joining(tuple(gangs), replica) for gangs, replica in launches]
    found = groups.memberships(made, definition, 7, there)
    assert [each.gangs for each in found if each] == [each.gangs for each in made] * (definition is GANGED)
    return [each and each.group for each in found]


@pytest.mark.parametrize(
    ("launches", "there", "names"),
    [
        pytest.param([("a", ""), ("a", "")], [], ["g7-0", "g7-0"], id="launches for one gang are one group"),
        pytest.param([("a", ""), ("b", "")], [], ["g7-0", "g7-1"], id="those for two gangs are two"),
        pytest.param([("a", ""), ("b", ""), ("ab", "")], [], ["g7-0"] * 3, id="gangs that share a launch are one"),
        pytest.param([("", ""), ("a", ""), ("", "")], [], ["", "g7-0", ""], id="what is for no gang is alone"),
        pytest.param([("", "r0"), ("", "r0"), ("", "r1")], [], ["g7-0", "g7-0", "g7-1"], id="hosts of a replica are one group"),
        pytest.param([("a", "r0"), ("", "r0"), ("a", "r1"), ("", "r1")], [], ["g7-0"] * 4, id="replicas for one gang are one group"),
        pytest.param([("a", "")], [member("i", "demo-g3-0", "a")], ["g3-0"], id="what comes later for a gang joins its group"),
        pytest.param([("a", "")], [member("i", "demo-g3-0", "a", stuck_since=1.0)], ["g7-0"], id="but not one of which nothing gets on"),
        pytest.param([("a", "")], [member("i", "demo-g3-0", "a", status=InstanceStatus.TERMINATING)], ["g7-0"], id="nor one that ends"),
        pytest.param([("a", "")], [member("i", "demo-g3-0", "a", by=GangScheduler.VOLCANO)], ["g7-0"], id="nor one of another scheduler"),
        pytest.param([("a", "")], [member("i", "demo-g3-0", "b")], ["g7-0"], id="nor that of another gang"),
    ],
)
def test_i2_launches_that_hang_together_are_one_group(launches, there, names):
    assert joined(*launches, there=there) == [name and f"demo-{name}" for name in names]


def test_without_the_option_nothing_has_a_group():
    assert joined(("a", ""), ("", "r"), definition=config()) == [None, None]
    assert groups.wanted(config(), [instance()], ()) == {}


def test_i2_what_replaces_a_member_that_is_about_to_end_joins_its_group():
    ends, other = member("i", "demo-g3-0", "a", ends_at=9.0), instance("j")
    drains = tuple(Drain(each.instance_id, "n", Reason.PREEMPTED, "", is_preemption=True) for each in (other, ends))
    launches = tuple(Launch(each.node_type, Reason.REPLACES, "") for each in (other, ends))
    found = groups.joining(Plan((*launches, Launch("small", Reason.DEMAND, "")), drains=drains), ["", "", ""], {"i": ends, "j": other})
    assert found == [Joining((), ""), Joining(("a",), ""), Joining((), "")]
    assert joined(("a", ""), there=[ends]) == ["demo-g3-0"]


A = Gang("a", Strategy.STRICT_SPREAD, (Demand(Bundle(CPU), 8),))
WAITS = (Infeasible(A, 1, Reason.BACKED_OFF, ""),)


@pytest.mark.parametrize(
    ("members", "pending", "size", "may_shrink"),
    [
        pytest.param([{}] * 8, (), 8, True, id="as many as are being made"),
        pytest.param([{"status": InstanceStatus.RUNNING}] * 3 + [{"status": InstanceStatus.DRAINING}], (), 4, True, id="or are there"),
        pytest.param([{}] * 3 + [{"status": InstanceStatus.TERMINATING}], (), 3, True, id="and are not being ended"),
        pytest.param([{}] * 3 + [{"status": InstanceStatus.LAUNCH_FAILED}], (), 3, True, id="nor have failed"),
        pytest.param([{}] * 7, WAITS, 7, False, id="no less than before while the gang has no place"),
        pytest.param([{}] * 7, None, 7, False, id="nor while nobody knows whether it has"),
        pytest.param([{}] * 8 + [{"stuck_since": 1.0}] * 3, (), 8, True, id="what gets on no more does not count beside others"),
        pytest.param([{}] * 8 + [{"ends_at": 9.0}], (), 8, True, id="nor what others are about to end"),
        pytest.param([{"stuck_since": 1.0}] * 8, WAITS, 8, False, id="but counts where nothing does"),
    ],
)
def test_i2_a_group_is_to_have_as_many_as_are_wanted(members, pending, size, may_shrink):
    there = [member(f"i{number}", "demo-g3-0", "a", **each) for number, each in enumerate(members)]
    assert groups.wanted(GANGED, there, pending) == {BY: [WantedGroup("demo-g3-0", size, may_shrink)]}


def test_a_group_goes_with_its_last_member_also_once_the_option_is_gone():
    last = member("i", "demo-g3-0", "a")
    assert groups.wanted(config(), [last], ()) == {BY: [WantedGroup("demo-g3-0", 1)]}
    assert groups.wanted(GANGED, [dataclasses.replace(last, status=InstanceStatus.TERMINATING)], ()) == {BY: []}


def test_a_group_of_volcano_has_its_queue():
    definition = config(gang_scheduling=GangScheduling(GangScheduler.VOLCANO, "research"))
    found = groups.wanted(definition, [member("i", "demo-g3-0", "a", by=GangScheduler.VOLCANO)], ())
    assert found == {GangScheduler.VOLCANO: [WantedGroup("demo-g3-0", 1, queue="research")]}


def gang(count: int, gang_id: str = "a") -> Gang:
    return Gang(gang_id, Strategy.STRICT_SPREAD, (Demand(Bundle(CPU), count),))


def sizes(w: World) -> dict[str, int]:
    return w.machines.groups.get(("demo", BY), {})


def of_group(w: World) -> dict[str, int]:
    """Return how many machines out there say that they are of each group."""
    found: dict[str, int] = {}
    for each in w.machines.machines.values():
        found[each.spec.membership.group] = found.get(each.spec.membership.group, 0) + 1
    return found


async def test_i2_a_group_is_there_before_its_members_and_goes_with_the_last():
    async with world(config(node_type(), gang_scheduling=GangScheduling(BY), idle_timeout_s=20.0)) as w:
        before: list[int] = []
        begin = w.machines.begin
        w.machines.begin = lambda spec: (before.append(sizes(w).get(spec.membership.group, 0)), begin(spec))[1]
        w.ray.gangs = (gang(8),)
        await w.live(2)
        assert before == [8] * 8
        assert sizes(w) == of_group(w) == {"demo-g1-0": 8}
        await w.live(5)
        w.ray.gangs = ()
        await w.live(90)
        assert (sizes(w), w.machines.machines) == ({}, {})


GANGS = {"definition": config(node_type(), gang_scheduling=GangScheduling(BY))}


async def test_i2_a_lost_member_is_replaced_within_its_group_also_in_another_life_of_the_service():
    ray, machines, store = Ray(), FakeMachines(LoopClock()), MemoryStore()
    machines.on_ready = ray.join
    left = {"machines": machines, "store": store, "ray": ray, **GANGS}
    async with world(**left) as w:
        ray.gangs = (gang(8),)
        await w.live(5)
        ray.gangs = ()
        for name in w.launched:
            ray.busy(name)
        await w.live(5)
        first = w.launched
        await w.kill()
    async with world(**left) as w:
        await w.live(10)
        w.executor.lose(first[0])
        ray.die(first[0])
        ray.gangs = (gang(1),)
        await w.live(3)
        assert len(w.launched) == 1
        assert sizes(w) == of_group(w) == {"demo-g1-0": 8}
    await machines.close()


class Short(FakeExecutor):
    """Carries out a few launches; of the rest nobody learns what became of them."""

    async def launch(self, spec):
        if len(self.launched) == 3:
            await asyncio.get_running_loop().create_future()
        return await super().launch(spec)


async def test_i2_killed_in_the_middle_of_a_group_the_next_life_makes_it_whole_and_never_smaller_on_the_way():
    ray, machines, store = Ray(), FakeMachines(LoopClock()), MemoryStore()
    machines.on_ready = ray.join
    left = {"machines": machines, "store": store, "ray": ray, **GANGS}
    ray.gangs = (gang(8),)
    async with world(**left, executor=Short(machines)) as w:
        await w.live(1)
        assert (len(machines.machines), sizes(w)) == (3, {"demo-g1-0": 8})
        await w.kill()
    seen: set[int] = set()
    async with world(**left) as w:
        for _ in range(20):
            await w.live(0.5)
            seen.add(sizes(w)["demo-g1-0"])
        assert (seen, of_group(w)) == ({8}, {"demo-g1-0": 8})
    await machines.close()


async def test_i2_what_is_launched_into_a_group_waits_until_it_can_be_had():
    async with world(config(node_type(), gang_scheduling=GangScheduling(BY))) as w:
        await w.live(1)
        w.executor.fail_next("group", Unavailable("no answer"))
        w.executor.hang_next("group")
        w.ray.gangs = (gang(8),)
        await w.live(4)
        assert w.launched == []
        await w.live(60)
        assert sizes(w) == of_group(w) == {"demo-g1-0": 8}


async def test_i2_a_group_that_cannot_be_had_is_told_and_what_is_of_it_waits_while_all_else_is_launched():
    async with world(config(node_type(), gang_scheduling=GangScheduling(BY))) as w:
        await w.live(1)
        for _ in range(200):
            w.executor.fail_next("group", Denied("may not create podgroups"))
        w.ray.gangs, w.ray.demands = (gang(8),), tasks(1)
        await w.live(60)
        status = w.reconciler.status()
        assert [each.membership.group for each in w.executor.launched] == [""]
        assert status.backoffs == ()
        assert "launches for placement groups wait: gangScheduling: DENIED: may not create podgroups" in status.notices
        assert {each.detail for each in status.instances if each.membership.group} == {
            "waits for its group: DENIED: may not create podgroups"
        }
        w.executor._failures["group"].clear()
        await w.live(60)
        assert sizes(w) == {"demo-g1-0": 8}
        assert of_group(w) == {"demo-g1-0": 8, "": 1}
        assert not any("gangScheduling" in each for each in w.reconciler.status().notices)


async def test_i2_what_waits_for_a_group_and_is_called_off_is_never_launched():
    async with world(config(node_type(), gang_scheduling=GangScheduling(BY))) as w:
        await w.live(1)
        for _ in range(200):
            w.executor.fail_next("group", Denied("may not create podgroups"))
        w.ray.gangs = (gang(8),)
        await w.live(10)
        w.ray.gangs = ()
        await w.live(60)
        w.executor._failures["group"].clear()
        await w.live(60)
        assert (w.launched, w.instances, sizes(w)) == ([], {}, {})
