"""The demo's job: a plain Ray program. It knows nothing of rayscaler; nodes appear because it asks for work.

Prints JSON lines, each answer with the id of the Ray node that gave it. When the head is lost it ends, as any Ray program does, and is
submitted again by whoever ran it. Usage: demo_job.py ADDRESS SEED
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

HOLD_S = 5.0


def say(step, **facts):
    print(json.dumps({"step": step, "at": time.time(), **facts}), flush=True)


def here(kind, index):
    return {"kind": kind, "index": index, "node": ray.get_runtime_context().get_node_id(), "pid": os.getpid()}


@ray.remote(num_cpus=1, max_retries=0)
def task(index):
    started = time.time()
    time.sleep(HOLD_S)  # the task's work: it holds its CPU for so long
    return {**here("task", index), "started": started}


@ray.remote(num_cpus=1, max_retries=0)
def in_bundle(kind, index):
    return here(kind, index)


@ray.remote(resources={"fpga": 1}, num_cpus=0)
class Accelerated:
    def work(self, index):
        return here("actor", index)


def submit(name, wanted):
    say(f"{name}.submitted", count=len(wanted))
    return name, wanted


def collect(name, wanted):
    answers = ray.get(wanted)
    say(f"{name}.done", count=len(wanted), lost=len(wanted) - len(answers), answers=answers)


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


def ask_floor(cpus):
    """Ask for room for all tasks at once, and keep it, whatever runs, until it is given back."""
    request_resources(num_cpus=cpus)
    say("floor.asked", cpus=cpus)


def give_floor_back(cpus):
    while ray.cluster_resources().get("CPU", 0) < cpus:
        time.sleep(0.2)  # Ray has no call that waits for resources
    say("floor.done", cpus=cpus, total=ray.cluster_resources().get("CPU", 0))
    request_resources(bundles=[])


def main(address, seed):
    rng = random.Random(seed)
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    count = rng.randint(10, 12)
    ask_floor(count)
    actors = [Accelerated.remote() for _ in range(rng.randint(1, 2))]
    submitted = [
        submit("actors", [actor.work.remote(index) for index, actor in enumerate(actors)]),
        submit("tasks", [task.remote(index) for index in range(count)]),
    ]
    for name, wanted in submitted:
        collect(name, wanted)
    groups = [("STRICT_SPREAD", [{"CPU": 1}] * rng.randint(2, 3)), ("PACK", [{"CPU": 2}] * rng.randint(2, 3))]
    rng.shuffle(groups)
    for strategy, bundles in groups:
        run_group(strategy, bundles)
    give_floor_back(count)
    say("job.done")


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
