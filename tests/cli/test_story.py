"""The demo's judgement: it must fail when something was not seen, so each rule is broken once."""

import pytest

from rayscaler.cli.demo import story
from rayscaler.cli.demo.evidence import Evidence, Node, Process

pytestmark = pytest.mark.tier("unit")


def seen(*, death="DRAINED_IDLE", ended_at=20.0, gone_at=21.0, node_type="small"):
    evidence = Evidence("mark")
    evidence.nodes["n1"] = Node("n1", "i1", node_type, is_head=False, seen_at=5.0, is_alive=death is None, death=death, ended_at=ended_at)
    evidence.nodes["h"] = Node("h", "head", "head", is_head=True, seen_at=1.0)
    evidence.processes["i1"] = Process(100, "i1", 4.0, gone_at)
    evidence.answers.append({"kind": "task", "index": 0, "node": "n1"})
    return evidence


def test_a_worker_in_rays_table_with_a_process_is_seen():
    assert story.joined(seen()) == []


def test_an_answer_from_no_worker_is_told():
    evidence = seen()
    evidence.answers.append({"kind": "task", "index": 1, "node": "h"})
    assert "which is no worker" in story.joined(evidence)[0]


def test_a_worker_without_a_process_is_told():
    evidence = seen()
    evidence.processes.clear()
    assert "no process in /proc" in story.joined(evidence)[0]


def test_an_accelerated_actor_elsewhere_is_told():
    evidence = seen()
    evidence.answers.append({"kind": "actor", "index": 0, "node": "n1"})
    assert story.placed(evidence) == ["an accelerated actor ran on a small"]


def test_two_spread_bundles_on_one_node_are_told():
    evidence = seen()
    evidence.answers += [{"kind": "strict_spread", "index": i, "node": "n1"} for i in range(2)]
    assert "share a node" in story.placed(evidence)[0]


def test_a_drain_before_the_end_is_seen():
    assert story.drained(seen()) == []


@pytest.mark.parametrize(
    ("evidence", "told"),
    [
        (seen(death=None, ended_at=None), "still in Ray's table"),
        (seen(death="UNEXPECTED"), "not by an idle drain"),
        (seen(death="DRAINED_PREEMPTED"), "not by an idle drain"),
        (seen(gone_at=None), "still has a process"),
        (seen(gone_at=19.0), "before its node was drained"),
    ],
)
def test_an_end_without_a_drain_is_told(evidence, told):
    assert any(told in each for each in story.drained(evidence))


def test_a_launch_that_nothing_needed_may_be_ended_as_it_joins():
    evidence = seen(death="DRAINED_PREEMPTED")
    evidence.answers.clear()
    assert story.drained(evidence) == []


def test_missing_parts_and_lost_tasks_are_told():
    evidence = seen()
    for part in ("tasks", "actors", "strict_spread", "pack", "floor"):
        evidence.take_job({"step": f"{part}.done", "at": 1.0})
    evidence.job[0]["lost"] = 2
    assert story.complete(evidence) == ["the job's part 'job' did not end", "tasks.done: 2 lost"]
