"""The demo's job: a plain Ray program. It knows nothing of rayscaler; nodes appear because it asks for work.

Prints one JSON line per answer, each with the id of the Ray node that gave it. Usage: demo_job.py ADDRESS SEED
"""

import json
import os
import random
import sys
import time

import ray
from ray.autoscaler.sdk import request_resources
from ray.util.placement_group import placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

HOLD_S = 2.0


def say(step, **facts):
    print(json.dumps({"step": step, "at": time.time(), **facts}), flush=True)


def here(kind, index):
    return {"kind": kind, "index": index, "node": ray.get_runtime_context().get_node_id(), "pid": os.getpid()}


@ray.remote(num_cpus=1, max_retries=0)
def task(index):
    started = time.time()
    time.sleep(HOLD_S)
    return {**here("task", index), "started": started}


@ray.remote(num_cpus=1, max_retries=0)
def in_bundle(kind, index):
    return here(kind, index)


@ray.remote(resources={"fpga": 1}, num_cpus=0)
class Accelerated:
    def work(self, index):
        return here("actor", index)


def run_tasks(rng):
    count = rng.randint(10, 14)
    say("tasks.submitted", count=count)
    answers = ray.get([task.remote(index) for index in range(count)])
    say("tasks.done", count=count, lost=count - len(answers), answers=answers)


def run_actors(rng):
    count = rng.randint(1, 2)
    say("actors.submitted", count=count)
    actors = [Accelerated.remote() for _ in range(count)]
    answers = ray.get([actor.work.remote(index) for index, actor in enumerate(actors)])
    say("actors.done", count=count, lost=count - len(answers), answers=answers)


def run_group(strategy, bundles):
    name = strategy.lower()
    say(f"{name}.submitted", bundles=bundles)
    group = placement_group(bundles, strategy=strategy)
    ray.get(group.ready())
    wanted = [
        in_bundle.options(scheduling_strategy=PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=index)).remote(
            name, index
        )
        for index in range(len(bundles))
    ]
    answers = ray.get(wanted)
    remove_placement_group(group)
    say(f"{name}.done", count=len(bundles), lost=len(bundles) - len(answers), answers=answers)


def run_floor(rng):
    cpus = rng.randint(10, 12)
    request_resources(num_cpus=cpus)
    say("floor.asked", cpus=cpus)
    while ray.cluster_resources().get("CPU", 0) < cpus:
        time.sleep(0.2)
    say("floor.done", cpus=cpus, total=ray.cluster_resources().get("CPU", 0))
    request_resources(bundles=[])


def main(address, seed):
    rng = random.Random(seed)
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    parts = [
        lambda: run_tasks(rng),
        lambda: run_actors(rng),
        lambda: run_group("STRICT_SPREAD", [{"CPU": 1}] * rng.randint(2, 4)),
        lambda: run_group("PACK", [{"CPU": 2}] * rng.randint(2, 3)),
        lambda: run_floor(rng),
    ]
    rng.shuffle(parts)
    for part in parts:
        part()
    say("job.done")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
