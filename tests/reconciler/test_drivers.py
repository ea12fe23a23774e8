"""WC-11, OB-4: drivers are told once what can never be met, and those that connect later too; never what could run later (WC-12.4)."""

import asyncio

import pytest

from rayscaler.model.demand import Bundle, Demand, Gang, Strategy
from rayscaler.model.instance import NEVER, Reason
from rayscaler.model.plan import Infeasible
from rayscaler.model.resources import Resources
from rayscaler.reconciler import drivers
from tests.reconciler.builders import config, memory, node_type, tasks
from tests.reconciler.world import world

pytestmark = [pytest.mark.tier("unit"), pytest.mark.looptime]

HUGE = Resources.of(CPU=64)
SENTENCE = (
    "No available node types can fulfill resource requests: {CPU: 64}*2, since no node type is big enough, even when empty. "
    "Add suitable node types to this cluster to resolve this issue."
)


def printed(w):
    return [line for each in w.printed for line in each.lines]


def test_every_reason_that_is_for_ever_says_what_would_help():
    assert set(drivers.HELP) == NEVER


@pytest.mark.parametrize(
    ("what", "is_constraint", "begins"),
    [
        (Bundle(HUGE), False, "No available node types can fulfill resource requests: {CPU: 64}*3, since "),
        (Bundle(HUGE), True, "No available node types can fulfill cluster constraint: {CPU: 64}*3, since "),
        (
            Gang("g", Strategy.PACK, tasks(2)),
            False,
            "No available node types can fulfill placement group requests: PACK of {CPU: 1} x 2*3, since ",
        ),
        (Bundle(Resources({"a\nb": 10_000})), False, "No available node types can fulfill resource requests: {a b: 1}*3, since "),
    ],
)
@pytest.mark.parametrize("reason", sorted(NEVER))
def test_a_sentence_says_which_shape_why_and_what_would_help_in_one_line(what, is_constraint, begins, reason):
    told = drivers.sentence(Infeasible(what, 3, reason, "detail", is_constraint))
    assert told.startswith(begins)
    assert told.endswith(drivers.HELP[reason])
    assert "\n" not in told


def test_many_shapes_are_a_few_sentences_and_a_number():
    refused = tuple(Infeasible(Bundle(Resources.of(CPU=100 + k)), 1, Reason.NO_TYPE_FITS, "") for k in range(500))
    known = memory(pending=refused)
    drivers.tell(known, 5.0)
    assert known.telling is not None
    assert len(known.telling.lines) == drivers.SENTENCES + 1
    assert known.telling.lines[-1].startswith("490 shapes more")
    assert known.driver_notice == " ".join(known.telling.lines)


async def test_an_impossible_shape_is_told_once_and_to_those_who_come_later_until_it_is_gone():
    async with world() as w:
        w.is_printing = False
        w.ray.demands = (Demand(Bundle(HUGE), 2), *tasks(1))
        await w.live(5)
        assert printed(w) == [SENTENCE]
        assert w.report().driver_notice == SENTENCE
        assert [each.command_id for each in w.report().commands] == [w.printed[0].command_id], "until its result arrives"
        w.is_printing = True
        await w.live(1)
        assert w.report().commands == ()
        w.ray.demands = (Demand(Bundle(HUGE), 9),)
        await w.live(20)
        assert printed(w) == [SENTENCE], "not for another count"
        w.ray.demands = ()
        await w.live(1)
        assert w.report().driver_notice == ""
        w.ray.demands = (Demand(Bundle(HUGE), 2),)
        await w.live(1)
        assert printed(w) == [SENTENCE] * 2, "it has come back"


async def test_a_new_cluster_is_told_anew_and_a_silence_of_the_monitor_is_no_news():
    async with world() as w:
        w.ray.demands = (Demand(Bundle(HUGE), 2),)
        await w.live(2)
        await asyncio.sleep(30)  # blind
        assert w.reconciler.status().blind is Reason.REPORT_TOO_OLD
        assert w.report().driver_notice == SENTENCE
        await w.live(5)
        assert printed(w) == [SENTENCE]
        w.head_restarts()
        await w.live(2)
        assert printed(w) == [SENTENCE] * 2


async def test_wc_12_4_what_waits_for_a_limit_is_not_told():
    async with world(config(node_type(max_workers=1))) as w:
        w.ray.demands = tasks(5)
        await w.live(5)
        assert w.reconciler.status().pending[0].reason is Reason.MAX_WORKERS_OF_TYPE
        assert (printed(w), w.report().driver_notice) == ([], "")
