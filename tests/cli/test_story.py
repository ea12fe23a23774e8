"""The demo's judgement: it must fail when something was not seen, so each rule is broken once."""

import pytest

from rayscaler.cli.demo import story
from rayscaler.cli.demo.evidence import Evidence, Head, Node, Process
from rayscaler.cli.demo.loss import Loss, Moment

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


def row(node, instance, *, head=False, busy=False):
    return {"node": node, "instance": instance, "type": "small", "head": head, "alive": True, "busy": busy, "death": None, "ended_ms": 0}


def lost_half_way():
    """Two workers were launched; one had joined and was at work when the head was killed."""
    evidence = Evidence("mark")
    evidence.recorded |= {"i1": 1.0, "i2": 1.0}
    evidence.processes |= {name: Process(pid, name, 2.0, started=7) for name, pid in (("i1", 101), ("i2", 102))}
    evidence.heads[11] = Head(10, 11, 0.5)
    evidence.take_table({"at": 3.0, "cluster_id": "a", "nodes": [row("h", "head", head=True), row("n1", "i1", busy=True)]})
    return evidence, Loss.seen(evidence, 4.0)


def survived():
    """All is as it must be: another head and cluster, both workers on it, the same supervisors, nothing launched."""
    evidence, loss = lost_half_way()
    evidence.heads[11].gone_at = 4.1
    evidence.heads[21] = Head(20, 21, 5.0)
    evidence.take_table({"at": 9.0, "cluster_id": "b", "nodes": [row("h2", "head", head=True), row("m1", "i1"), row("m2", "i2")]})
    return evidence, loss


def test_a_head_loss_that_all_survived_is_seen():
    evidence, loss = survived()
    assert loss.wrong(evidence) == []
    assert {name: node.node for name, node in loss.back(evidence).items()} == {"i1": "m1", "i2": "m2"}


def same_cluster(evidence):
    evidence.cluster_id = "a"


def old_head_lives(evidence):
    evidence.heads[11].gone_at = None


def no_head_lives(evidence):
    evidence.heads[21].gone_at = 6.0


def gcs_came_back_under_the_old_start(evidence):
    evidence.heads[21].pid = 10


def supervisor_gone(evidence):
    evidence.processes["i1"].gone_at = 6.0


def never_had_a_supervisor(evidence):
    del evidence.processes["i2"]


def not_joined(evidence):
    evidence.nodes["m2"].is_alive = False


def old_node(evidence):
    evidence.nodes["n1"].cluster_id = "b"
    del evidence.nodes["m1"]


def another_recorded(evidence):
    evidence.recorded["i3"] = 8.0


def another_process(evidence):
    evidence.processes["i3"] = Process(103, "i3", 8.0)


@pytest.mark.parametrize(
    ("breach", "told"),
    [
        (same_cluster, "Ray's cluster id is still a"),
        (old_head_lives, "the GCSs in /proc are [11, 21]"),
        (no_head_lives, "the GCSs in /proc are []"),
        (gcs_came_back_under_the_old_start, "the GCSs in /proc are [21]"),
        (supervisor_gone, "i1: its supervisor, pid 101, is gone"),
        (not_joined, "i2 is not in the new head's table"),
        (old_node, "i1 has its old node id n1"),
        (another_recorded, "i3 was launched meanwhile"),
        (another_process, "i3 was launched meanwhile"),
        (never_had_a_supervisor, "i2 has no supervisor in /proc"),
    ],
    ids=lambda each: getattr(each, "__name__", ""),
)
def test_a_breach_over_head_loss_is_told(breach, told):
    evidence, loss = survived()
    breach(evidence)
    if breach is never_had_a_supervisor:  # it was recorded, and its turn to start had not come
        loss.supervisors.pop("i2")
    assert any(told in each for each in loss.wrong(evidence))


def test_a_kill_before_anybody_worked_is_told():
    evidence, _ = lost_half_way()
    evidence.nodes["n1"].is_busy = False
    loss = Loss.seen(evidence, 4.0)
    assert "no worker was at work when the head was killed" in loss.wrong(evidence)


def test_a_supervisor_that_took_anothers_place_does_not_count(monkeypatch):
    evidence, loss = survived()
    leaders = [(Process(101, "i1", 9.0, started=8), "python", 1), (Process(102, "i2", 9.0, started=7), "python", 1)]
    monkeypatch.setattr("rayscaler.cli.demo.evidence.marked_leaders", lambda *_: leaders)
    evidence.look_at_processes()
    assert "i1: its supervisor, pid 101, is gone" in loss.wrong(evidence)
    assert evidence.processes["i2"].gone_at is None


def test_a_worker_is_waited_for_until_it_is_back_or_cannot_come():
    evidence, loss = lost_half_way()
    assert not loss.is_settled(evidence)
    evidence.processes["i1"].gone_at = 6.0
    assert not loss.is_settled(evidence)
    evidence.take_table({"at": 9.0, "cluster_id": "b", "nodes": [row("m2", "i2")]})
    assert loss.is_settled(evidence)


def test_a_launch_that_nothing_needed_is_told():
    evidence, loss = survived()
    assert loss.superfluous(evidence, {"m1", "m2"}) == []
    assert loss.superfluous(evidence, {"m1"}) == ["i2 was launched before the head was killed, and nothing needed it"]


def test_the_new_heads_table_is_read_apart_from_the_old_ones():
    evidence, _ = survived()
    assert [each.node for each in evidence.workers()] == ["m1", "m2"]
    assert evidence.nodes["n1"].is_alive, "nobody saw it end: its table ended first"


def test_half_way_means_joined_and_at_work_with_all_launches_made():
    evidence, _ = lost_half_way()
    assert Moment(0.5, 0.0).has_come(evidence, now=10.0)
    assert not Moment(1.0, 0.0).has_come(evidence, now=10.0), "the second has not joined"
    assert not Moment(0.5, 0.0).has_come(evidence, now=2.5), "a launch was just made, others may follow"
    evidence.nodes["n1"].is_busy = False
    assert not Moment(0.5, 0.0).has_come(evidence, now=10.0), "nobody works yet"


def test_the_moment_is_the_seeds():
    moments = [Moment.drawn(seed) for seed in range(50)]
    assert moments[3] == Moment.drawn(3)
    assert len({each.share for each in moments}) > 10
    assert all(0.35 <= each.share <= 0.65 and 0.0 <= each.extra_s <= 1.0 for each in moments)
