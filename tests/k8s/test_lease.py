"""Leadership on a small API server, where the answers that a real one gives rarely can be had; times are short, and real."""

import asyncio
import contextlib
from collections import Counter

import pytest

from rayscaler.clock import SystemClock
from rayscaler.errors import Fenced
from rayscaler.k8s.lease import LEADER, NAME, Leadership
from rayscaler.k8s.objects import CONFIG_MAPS
from rayscaler.settings import Timings
from tests.k8s.fake_objects import serving

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(60)]

TIMINGS = Timings(lease_s=1.5, lease_deadline_s=1.2, lease_renew_s=0.2, lease_retry_s=0.05)
"""A machine may stop us for a second between two renewals."""


class Sleeper(SystemClock):
    """A clock that can be put forward, as that of a process which was asleep."""

    slept_s = 0.0

    def mono(self) -> float:
        return super().mono() + self.slept_s


@contextlib.asynccontextmanager
async def replica(api, holder, *, timings=TIMINGS, clock=None, call_s=0.5):
    client = api.client(call_s=call_s)
    made = Leadership(client, "ns", holder=holder, pod=holder, clock=clock or SystemClock(), timings=timings)
    try:
        yield made
    finally:
        await client.close()


async def pod(api, name, **labels):
    return await api.put("pods", {"metadata": {"name": name, "labels": labels}})


def labelled(api) -> list[str]:
    return sorted(name for (kind, name), each in api.objects.items() if kind == "pods" and LEADER in each["metadata"].get("labels", {}))


async def until(claim) -> None:
    async with asyncio.timeout(20.0):
        while not claim():  # noqa: ASYNC110  # what changes is behind a socket
            await asyncio.sleep(0.01)


async def test_the_first_leads_and_the_second_waits_until_it_lets_go():
    async with serving() as api, replica(api, "a") as a, replica(api, "b") as b:
        for name in "ab":
            await pod(api, name)
        await a.acquire()
        assert (a.leads, a.transitions, b.leads) == (True, 1, False)
        keeping, waiting = asyncio.create_task(a.keep()), asyncio.create_task(b.acquire())
        await until(lambda: labelled(api) == ["a"])
        await asyncio.sleep(1.5 * TIMINGS.lease_s)  # longer than an unrenewed one would last
        assert not waiting.done()
        keeping.cancel()
        await a.release()
        assert (a.leads, labelled(api)) == (False, [])
        await waiting
        assert (b.leads, b.transitions) == (True, 2)
        await asyncio.gather(keeping, return_exceptions=True)


async def test_one_that_is_gone_is_followed_after_its_duration_as_the_waiting_ones_clock_has_it_and_its_label_taken_off():
    async with serving() as api, replica(api, "a") as a, replica(api, "b") as b:
        await pod(api, "a", **{LEADER: "true"})
        await pod(api, "b")
        await pod(api, "worker")
        await a.acquire()  # and never renews
        lease = api.objects["leases", NAME]
        lease["spec"]["renewTime"] = "2099-01-01T00:00:00.000000Z"  # a clock that is far ahead
        began = asyncio.get_running_loop().time()
        await b.acquire()
        assert asyncio.get_running_loop().time() - began >= TIMINGS.lease_s
        assert not a.leads
        keeping = asyncio.create_task(b.keep())
        await until(lambda: labelled(api) == ["b"])
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)


async def test_a_standby_takes_the_label_off_that_a_former_life_of_its_pod_left():
    async with serving() as api, replica(api, "a") as a, replica(api, "b") as b:
        await pod(api, "b", **{LEADER: "true"})
        await a.acquire()
        waiting = asyncio.create_task(b.acquire())
        await until(lambda: labelled(api) == [])
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)


async def test_a_former_life_of_the_same_pod_need_not_be_waited_for():
    async with serving() as api, replica(api, "a") as before, replica(api, "a") as after:
        await before.acquire()
        async with asyncio.timeout(TIMINGS.lease_s / 2):
            await after.acquire()
        assert after.transitions == 2
        with pytest.raises(Fenced):  # were it alive all the same
            await before.keep()


async def test_one_that_was_asleep_past_the_deadline_sends_not_one_renewal_more():
    clock = Sleeper()
    async with serving() as api, replica(api, "a", clock=clock) as a:
        await a.acquire()
        clock.slept_s = TIMINGS.lease_deadline_s
        sent = len(api.sent)
        assert not a.leads
        with pytest.raises(Fenced, match="not renewed in time"):
            a.check()
        with pytest.raises(Fenced):
            await a.keep()
        assert [each for each in api.sent[sent:] if each[1] == NAME] == []


async def test_renewals_that_fail_are_tried_again_until_the_deadline_and_then_it_is_lost():
    async with serving() as api, replica(api, "a") as a:
        await a.acquire()
        failing = 2
        tried = Counter()

        def before(verb, name):
            if name == NAME and verb == "patch":
                tried["patch"] += 1
                if tried["patch"] <= failing:
                    return 500, "InternalError"
            return None

        api.before = before
        keeping = asyncio.create_task(a.keep())
        await until(lambda: tried["patch"] >= 4)
        assert a.leads
        failing = 10_000
        with pytest.raises(Fenced):
            await keeping
        assert not a.leads


async def test_an_api_server_that_says_nothing_does_not_hold_the_loss_up():
    async with serving() as api, replica(api, "a", call_s=30.0) as a:
        await a.acquire()
        await api.stop()
        heard: list[bytes] = []

        async def silent(reader, writer):
            while data := await reader.read(1 << 16):
                heard.append(data)
            writer.close()

        server = await asyncio.start_server(silent, "127.0.0.1", api.port)
        with pytest.raises(Fenced):
            async with asyncio.timeout(TIMINGS.lease_deadline_s * 8):
                await a.keep()
        assert heard
        server.close()
        await server.wait_closed()
        await api.start()


async def test_a_lease_that_another_one_took_is_lost_at_the_next_renewal_and_a_harmless_change_is_not():
    async with serving() as api, replica(api, "a") as a:
        await a.acquire()
        keeping = asyncio.create_task(a.keep())
        lease = api.objects["leases", NAME]
        await api.put("leases", {**lease, "metadata": {"name": NAME, "labels": {"team": "ml"}}})
        renewed = api.objects["leases", NAME]["metadata"]["resourceVersion"]
        await until(lambda: api.objects["leases", NAME]["metadata"]["resourceVersion"] != renewed)
        assert not keeping.done()
        lease = api.objects["leases", NAME]
        await api.put("leases", {**lease, "spec": {**lease["spec"], "holderIdentity": "b"}})
        with pytest.raises(Fenced):
            await keeping


async def test_a_lease_that_was_deleted_is_lost_and_a_waiting_one_still_waits_its_time():
    async with serving() as api, replica(api, "a") as a, replica(api, "b") as b:
        await a.acquire()
        waiting = asyncio.create_task(b.acquire())
        await until(lambda: api.calls["watch"])
        began = asyncio.get_running_loop().time()
        await api.drop("leases", NAME)
        with pytest.raises(Fenced):
            await a.keep()
        await waiting
        assert asyncio.get_running_loop().time() - began >= TIMINGS.lease_s / 2
        assert b.transitions == 2


async def test_of_five_that_race_one_leads_at_a_time_and_all_do_in_turn():
    async with serving() as api, contextlib.AsyncExitStack() as stack:
        racers = [await stack.enter_async_context(replica(api, f"r{n}")) for n in range(5)]
        led: list[int] = []

        async def race(number):
            await racers[number].acquire()
            assert [each.leads for each in racers].count(True) == 1
            led.append(number)
            await racers[number].release()

        async with asyncio.TaskGroup() as tasks:
            for number in range(5):
                tasks.create_task(race(number))
        assert sorted(led) == [0, 1, 2, 3, 4]
        assert racers[led[-1]].transitions == 5


async def test_a_steady_pair_asks_for_renewals_and_nothing_else():
    async with serving() as api, replica(api, "a") as a, replica(api, "b") as b:
        for name in "ab":
            await pod(api, name)
        await a.acquire()
        keeping, waiting = asyncio.create_task(a.keep()), asyncio.create_task(b.acquire())
        await until(lambda: api.calls["watch"] == 1 and api.calls["list"] == 1 and labelled(api) == ["a"])
        await asyncio.sleep(TIMINGS.lease_renew_s)  # the answer to the list is there
        api.calls.clear()
        began = asyncio.get_running_loop().time()
        await asyncio.sleep(2.0)
        assert set(api.calls) == {"patch"}
        assert api.calls["patch"] <= (asyncio.get_running_loop().time() - began) / (TIMINGS.lease_renew_s * 0.9) + 1
        for task in (keeping, waiting):
            task.cancel()
        await asyncio.gather(keeping, waiting, return_exceptions=True)


async def test_what_may_not_be_written_is_not_sent_and_reading_goes_on():
    async with serving() as api, replica(api, "a") as a:
        client = api.client(may_write=a.check)
        await api.put("configmaps", {"metadata": {"name": "x"}})
        for work in (
            client.create(CONFIG_MAPS, "ns", {"metadata": {"name": "y"}}),
            client.patch(CONFIG_MAPS, "ns", "x", {"metadata": {}}),
            client.replace(CONFIG_MAPS, "ns", "x", {"metadata": {}}),
            client.delete(CONFIG_MAPS, "ns", "x"),
        ):
            with pytest.raises(Fenced):
                await work
        assert not api.calls
        assert (await client.get(CONFIG_MAPS, "ns", "x")).metadata.name == "x"
        await a.acquire()
        await client.create(CONFIG_MAPS, "ns", {"metadata": {"name": "y"}})
        await client.close()
