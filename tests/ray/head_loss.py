"""Scenario 2 on one machine: the head dies half-way up, and comes back. Run by test_head_dies.py once, and by the soak often.

What stands for what: the target is 20 workers of one slot each, filled by 20 tasks. 8 are running (a task began there). `upscalingSpeed`
lets 6 more be asked for: they stand for "starting"; the executor starts one at a time, so one is on its way up and the others wait for
their turn with a record in the run directory. The 6 that the speed still holds back are the "not yet created".
"""

import random
import time
from dataclasses import dataclass

from rayscaler.processes import Identity
from tests.ray.stack import Stack
from tests.ray.wreck import Wreck, wreck

SPEED_FLOOR = 5
"""So many may be in flight at any speed."""
IDLE_TIMEOUT_S = 20.0
"""Longer than a user takes to submit again: until then only the hold keeps the nodes."""
FIRST_ACTION_S = 15.0
"""From the new GCS's first answer to the first right action (complaint F1)."""
PATIENCE_S = 300.0
LIFE = 1000
"""Task indices of each life of the job begin at a multiple of it."""

JOB = """
@ray.remote(num_cpus=0, resources={"slot": 1}, max_retries=0)
def hold(index):
    note("start", index)
    while not os.path.exists(f"{BASE}/release"):
        time.sleep(0.2)
    note("end", index)

ray.get([hold.remote(index) for index in range(FIRST, FIRST + COUNT)])
print("finished")
"""


@dataclass(frozen=True)
class Size:
    """How large a scenario is: workers that run, workers wanted, and the `upscalingSpeed` that decides how many are starting meanwhile."""

    running: int
    target: int
    speed: float

    @property
    def starting(self) -> int:
        return max(SPEED_FLOOR, int(self.speed * self.running))


FULL, SMALL = Size(8, 20, 0.75), Size(3, 10, 0.5)
"""8 running, 6 starting and 6 not yet created; 3, 5 and 2: each worker takes 3 CPU seconds to start, and as much to rejoin."""


@dataclass
class Loss:
    """What was seen of one restart of the head."""

    running: int
    asked: int
    away_s: float
    first_action_s: float
    first_action: str


@dataclass
class Before:
    """Before the first loss: the ids of the nodes that worked, and the supervisors of all that had joined, by instance."""

    nodes: set[str]
    supervisors: dict[str, Identity]


async def head_dies(seed: int, *, is_stored: bool, restarts: int, size: Size = FULL) -> list[Loss]:
    """Kill the head half-way up to the target, as often as said, each time after the first right action; then see that nothing was lost."""
    draw, target = random.Random(seed), size.target
    spec = {
        "idleTimeout": f"{IDLE_TIMEOUT_S:g}s",
        "maxWorkers": target + 10,
        "upscalingSpeed": size.speed,
        "nodeTypes": [{"name": "small", "resources": {"slot": 1}}],
    }
    losses = []
    async with wreck(spec, is_stored=is_stored) as stack:
        driver = await submit(stack, 0, target)
        await stack.until(lambda: len(stack.ledger.nodes("start")) >= size.running, "the first workers work", PATIENCE_S)
        await stack.until(lambda: len(stack.records()) >= size.running + size.starting, "the next ones are asked for")
        before = Before(stack.ledger.nodes("start"), {each.instance_id: stack.supervisors()[each.instance_id] for each in stack.alive()})
        for life in range(1, restarts + 1):
            losses.append(await lose_head(stack, draw))
            driver = await submit(stack, life * LIFE, target)
            losses[-1].first_action, losses[-1].first_action_s = await first_right_action(stack, life * LIFE, target)
            print(f"seed {seed}, stored state {is_stored}, restart {life}: {losses[-1]}", flush=True)
        tasks = set(range(restarts * LIFE, restarts * LIFE + target))
        await stack.until(lambda: tasks <= set(stack.ledger.counts("start")), "every task of the returned job runs", PATIENCE_S)
        await stack.until(lambda: not stack.zombies() and len(stack.alive()) == target, "every worker is a living node", PATIENCE_S)
        nothing_was_lost(stack, before, target)
        settled = {each.node_id for each in stack.alive()}  # earlier ones may have been half started when a head died
        assert all(each.first_action_s <= FIRST_ACTION_S for each in losses), losses

        (stack.base / "release").touch()
        assert await stack.line(driver) == "finished"
        await stack.until(stack.all_gone, "every node goes after the job")
        await stack.until(lambda: not (stack.records() or stack.raylets()), "no record and no raylet stays")
        assert all(stack.ledger.counts(kind)[index] == 1 for index in tasks for kind in ("start", "end")), "each ran once, to its end"
        assert len(stack.launched()) <= target + len(stack.losses()), "and nothing more was launched"
        stack.assert_started_once()
        deaths = {each.node_id: each.death for each in stack.nodes.values() if each.node_id in settled}
        assert set(deaths.values()) == {"AUTOSCALER_DRAIN_IDLE"}, f"{deaths}\n{stack.told()}"
    return losses


def nothing_was_lost(stack: Wreck, before: Before, target: int) -> None:
    """Everything that was begun is there, and nothing more but for what was surely lost; who ran before runs on, under the same names."""
    proven, supervisors = stack.losses(), stack.supervisors()
    print(f"started {len(stack.launched())} for {target}, lost {len(proven)}, kept {len(before.supervisors)}", flush=True)
    assert len(stack.launched()) <= target + len(proven), stack.told()
    changed = {each for each, identity in before.supervisors.items() if supervisors.get(each) != identity}
    assert changed <= proven, f"{changed}\n{stack.told()}"
    assert set(supervisors) == stack.launched() - proven, f"nothing that was started was ended\n{stack.told()}"
    if stack.is_stored:
        assert before.nodes <= {each.node_id for each in stack.alive()}, f"the nodes stayed, under their names\n{stack.told()}"
    else:
        assert not before.nodes & set(stack.nodes), "the nodes are new ones"
    stack.assert_started_once()


async def submit(stack: Stack, first: int, count: int):
    """Submit the job, as its user would again after the head was lost."""
    return await stack.start_driver(f"FIRST, COUNT, BASE = {first}, {count}, {str(stack.base)!r}\n{JOB}")


async def lose_head(stack: Wreck, draw: random.Random) -> Loss:
    """Kill the head, and bring it back after a drawn time."""
    away_s = draw.uniform(0.0, 3.0)
    loss = Loss(len(stack.alive()), len(stack.records()), away_s, 0.0, "")
    stack.known = stack.launched() | stack.records()
    await stack.kill_head()
    deadline = time.monotonic() + away_s
    await stack.until(lambda: time.monotonic() > deadline, "the head is away")
    await stack.relaunch_head()
    return loss


async def first_right_action(stack: Wreck, first: int, target: int) -> tuple[str, float]:
    """Wait for a node that joins, or a launch that was missing, after the new GCS answered; return it and how many seconds after.

    Where stored state kept all nodes there is nothing to do; then the job that was submitted again must begin on one of them.
    """
    is_whole = len(stack.alive()) == target

    def seen() -> list[tuple[float, str]]:
        joined = [(each.started_at, f"{each.instance_id} joined") for each in stack.alive() if each.started_at > stack.answered_at]
        fresh = [each for each in stack.workers.seen.values() if each.seen_at > stack.answered_at and each.instance_id not in stack.known]
        begun = [
            (at, f"task {index} began") for kind, index, _, at in stack.ledger.lines() if is_whole and kind == "start" and index >= first
        ]
        return sorted(joined + [(each.seen_at, f"{each.instance_id} was launched") for each in fresh] + begun)

    await stack.until(lambda: bool(seen()), "a first right action", PATIENCE_S)
    at, what = seen()[0]
    return what, round(at - stack.answered_at, 1)
