"""The demo's steps and what must have been seen for each. Pure over Evidence."""

from rayscaler.cli.demo.evidence import Evidence

SPREAD = "strict_spread"


def joined(evidence: Evidence) -> list[str]:
    """Return what is wrong with the nodes that answered: each must be a worker in Ray's own table, with a live process in `/proc`."""
    workers = {each.node: each for each in evidence.workers()}
    wrong = [
        f"{each['kind']} {each['index']} ran on {each['node'][:8]}, which is no worker"
        for each in evidence.answers
        if each["node"] not in workers
    ]
    wrong += [f"no process in /proc for {each.instance}" for each in workers.values() if each.instance not in evidence.processes]
    return wrong


def placed(evidence: Evidence) -> list[str]:
    """Return what is wrong with where things ran."""
    workers = {each.node: each for each in evidence.workers()}
    types = [workers[node].node_type for node in evidence.nodes_of("actor") if node in workers]
    wrong = [f"an accelerated actor ran on a {each}" for each in types if each != "accel"]
    spread = evidence.nodes_of(SPREAD)
    if len(set(spread)) != len(spread):
        wrong.append("two bundles of the STRICT_SPREAD group share a node")
    return wrong


def complete(evidence: Evidence) -> list[str]:
    """Return which parts of the job have not answered in full."""
    done = {each["step"]: each for each in evidence.job}
    parts = ["tasks", "actors", SPREAD, "pack", "floor", "job"]
    wrong = [f"the job's part '{part}' did not end" for part in parts if f"{part}.done" not in done]
    return wrong + [f"{step}: {line['lost']} lost" for step, line in done.items() if line.get("lost")]


def drained(evidence: Evidence) -> list[str]:
    """Return what is wrong with the end: each worker's node must have ended by an idle drain, before its process did.

    A launch that nothing needs any more is ended without waiting for its node; if that joins just then, Ray drains it by itself when
    its process is told to end, and calls that a preemption. So of nodes that nobody used this drain is right too.
    """
    wrong = []
    needed = used(evidence)
    for node in evidence.workers():
        process = evidence.processes.get(node.instance)
        if node.is_alive:
            wrong.append(f"{node.instance} is still in Ray's table")
        elif node.death != "DRAINED_IDLE" and (node.death != "DRAINED_PREEMPTED" or node.node in needed):
            wrong.append(f"{node.instance} ended by {node.death}, not by an idle drain")
        if process is None or process.gone_at is None:
            wrong.append(f"{node.instance} still has a process")
        elif node.ended_at is not None and process.gone_at < node.ended_at:
            wrong.append(f"{node.instance}: the process ended before its node was drained")
    return wrong


def used(evidence: Evidence) -> set[str]:
    """Return the nodes that somebody needed: they ran something, or they were there for the floor."""
    floor_at = next((each["at"] for each in evidence.job if each["step"] == "floor.done"), 0.0)
    under_floor = {each.node for each in evidence.workers() if each.seen_at <= floor_at and (each.ended_at or floor_at) >= floor_at}
    return under_floor | {each["node"] for each in evidence.answers}
