"""Two replicas as processes on a real API server, with the Role's rights alone: one is stopped, killed, or lets go, and the other goes on."""

import asyncio
import contextlib
import itertools
import signal
import sys
import time
from collections.abc import AsyncIterator

import pytest

from rayscaler.clock import SystemClock
from rayscaler.k8s.client import connect
from rayscaler.k8s.lease import LEADER, Leadership
from tests.cluster.namespaces import Account, Namespace, pod
from tests.cluster.product import quiet, until
from tests.k8s import bed

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(300)]

WITHIN_S = 90.0
"""Anything here has happened by then, on a busy machine too."""
RECORD = "demo.rayscaler-record"


class Replica:
    """A process of leader_main with an account of its own, so that the audit tells its deeds."""

    def __init__(self, namespace: Namespace, account: Account, process: asyncio.subprocess.Process) -> None:
        self.namespace, self.account, self.process = namespace, account, process

    async def said(self, word: str) -> str:
        """Wait for a line that begins with the word."""
        async with asyncio.timeout(WITHIN_S):
            while line := (await self.process.stdout.readline()).decode():
                if line.startswith(word):
                    return line
        raise AssertionError(f"never said: {word}")

    async def ended(self) -> int:
        async with asyncio.timeout(WITHIN_S):
            return await self.process.wait()

    async def waits(self) -> None:
        """Wait until it follows the Lease."""
        await until(lambda: bool(self.deeds({"watch"}, "leases")), WITHIN_S)

    def asked(self) -> int:
        """Return for how much it has asked besides the Lease."""
        return sum(each["objectRef"]["resource"] != "leases" for each in self.namespace.audit(self.account.user))

    def deeds(self, verbs: set[str], resource: str) -> list[tuple[str, str]]:
        """Return when and to what it did these, as the API server has it on record."""
        events = self.namespace.audit(self.account.user, resource)
        return [(each["requestReceivedTimestamp"], each["objectRef"].get("name", "")) for each in events if each["verb"] in verbs]


class Pair:
    """A namespace with replicas and a file that says how many tasks wait."""

    def __init__(self, namespace: Namespace, directory) -> None:
        self.namespace = namespace
        self.demand = directory / "demand"
        self.replicas: list[Replica] = []
        self.wants(0)

    def wants(self, count: int) -> None:
        self.demand.write_text(str(count))

    async def start(self, name: str, *, factor: float = 2.0, fence_alone: bool = False) -> Replica:
        account = await self.namespace.account(f"rayscaler-{name}", bed.ROLE["rules"])
        argv = [account.kubeconfig, self.namespace.name, name, factor, self.demand, *(["fence"] if fence_alone else [])]
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.k8s.leader_main",
            *map(str, argv),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        self.replicas.append(Replica(self.namespace, account, process))
        return self.replicas[-1]

    async def pods(self) -> list[str]:
        found = await self.namespace.api.get(self.namespace.path("pods"))
        return sorted(each["metadata"]["name"] for each in found["items"])

    async def has(self, count: int) -> list[str]:
        """Wait until so many pods are there."""
        async with asyncio.timeout(WITHIN_S):
            while len(found := await self.pods()) < count:  # noqa: ASYNC110  # to list is what is asked for
                await asyncio.sleep(0.05)
        return found


@pytest.fixture
async def pair(namespace, tmp_path) -> AsyncIterator[Pair]:
    made = Pair(namespace, tmp_path)
    yield made
    for each in made.replicas:
        with contextlib.suppress(ProcessLookupError):
            each.process.kill()
        await each.process.wait()
        each.process._transport.close()


@pytest.mark.parametrize("fence_alone", [True, False], ids=["by the record alone", "by lease and record"])
async def test_2b_1_a_leader_that_was_asleep_is_fenced_and_sends_nothing_after_the_take_over(pair, fence_alone):
    pair.wants(2)
    old = await pair.start("a", fence_alone=fence_alone)
    await old.said("leads")
    assert await pair.has(2) == ["demo-small-1-0", "demo-small-1-1"]
    new = await pair.start("b")
    old.process.send_signal(signal.SIGSTOP)
    pair.wants(5)
    await new.said("leads 2")
    await pair.has(5)
    pair.wants(9)  # both see it
    old.process.send_signal(signal.SIGCONT)
    assert (await old.said("fenced")).startswith("fenced ")
    assert await old.ended() == 3
    assert len(await pair.has(9)) == 9
    await asyncio.sleep(1.0)  # what was under way would have arrived
    assert len(await pair.pods()) == 9
    await until(lambda: len(new.deeds({"create"}, "pods")) >= 7)
    taken_over_at, _ = new.deeds({"patch"}, "configmaps")[0]
    assert new.deeds({"patch"}, "configmaps")[0][1] == RECORD
    assert len(old.deeds({"create"}, "pods")) == 2
    assert [each for each in old.deeds({"create", "delete"}, "pods") if each[0] > taken_over_at] == []
    assert len(new.deeds({"create"}, "pods")) == 7


async def test_2b_1_a_leader_killed_in_the_middle_of_its_creates_loses_and_doubles_nothing(pair, capsys):
    count = 200
    leader = await pair.start("a", factor=1.0)  # a busy machine may hold the next leader up for longer than a third of the terms
    await leader.said("leads")
    following = await pair.start("b", factor=1.0)
    await following.waits()
    pair.wants(count)
    await pair.has(5)
    leader.process.kill()
    await leader.ended()
    left = len(await pair.pods())
    await following.said("leads 2")
    found = await pair.has(count)
    await asyncio.sleep(2.0)
    assert await pair.pods() == found == sorted(f"demo-small-1-{index}" for index in range(count))
    sent = len(following.deeds({"create"}, "pods"))
    with capsys.disabled():
        print(f"\n{left} of {count} pods were there at the kill; the next leader sent {sent} creates")
    assert left < count <= left + sent, "the kill came in the middle"


async def test_2b_2_how_long_a_hand_over_takes_with_the_terms_of_the_design(pair, capsys):
    taken = {}
    names = itertools.count()
    leader = await pair.start(f"r{next(names)}", factor=1.0)
    await leader.said("leads")
    for how, number in (("released", signal.SIGTERM), ("killed", signal.SIGKILL)):
        following = await pair.start(f"r{next(names)}", factor=1.0)
        await following.waits()
        leader.process.send_signal(number)
        began_at = time.monotonic()
        await following.said("leads")
        taken[how] = time.monotonic() - began_at
        leader = following
    with capsys.disabled():
        print(f"\nhand-over: {taken['released']:.2f} s after an orderly end, {taken['killed']:.2f} s after kill -9")


async def test_2b_2_a_steady_pair_renews_and_asks_for_nothing_else(pair, capsys):
    leader = await pair.start("a", factor=1.0)
    await leader.said("leads")
    standby = await pair.start("b", factor=1.0)
    await standby.waits()
    await quiet(lambda: [each.asked() for each in (leader, standby)], 2.0)  # what they asked to begin with is on record
    before = {each: len(pair.namespace.audit(each.account.user)) for each in (leader, standby)}
    await asyncio.sleep(8.0)
    asked = {each: pair.namespace.audit(each.account.user)[before[each] :] for each in (leader, standby)}
    assert {(each["verb"], each["objectRef"]["resource"]) for each in asked[leader]} == {("patch", "leases")}
    assert asked[standby] == []
    with capsys.disabled():
        print(f"\nin 8 s: {len(asked[leader])} renewals, and 0 requests of the standby")


async def test_2b_2_the_leaders_pod_has_the_label_and_one_that_led_before_has_not(namespace):
    rules = bed.ROLE["rules"]
    for name in ("a", "b"):
        body = pod(name)
        body["metadata"]["labels"] = {LEADER: "true"} if name == "a" else {}
        await namespace.api.create(namespace.path("pods"), body)
    account = await namespace.account("rayscaler", rules)
    client = await connect(account.kubeconfig)
    leadership = Leadership(client, namespace.name, holder="b", pod="b", clock=SystemClock())
    await leadership.acquire()
    keeping = asyncio.create_task(leadership.keep())

    async def labelled() -> list[str]:
        found = await namespace.api.get(namespace.path("pods"), labelSelector=f"{LEADER}=true")
        return [each["metadata"]["name"] for each in found["items"]]

    async with asyncio.timeout(WITHIN_S):
        while await labelled() != ["b"]:  # noqa: ASYNC110  # to list is what is asked for
            await asyncio.sleep(0.05)
    keeping.cancel()
    await asyncio.gather(keeping, return_exceptions=True)
    await leadership.release()
    assert await labelled() == []
    lease = await namespace.api.get(namespace.path("leases", "coordination.k8s.io/v1") + "/rayscaler")
    assert "holderIdentity" not in lease["spec"]
    await client.close()
