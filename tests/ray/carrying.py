"""Carries plans out on real Ray: nodes by the real executor, and what is held by one driver, each on the node that the plan has put it on.

A reconciler that gets it all as a report plans and launches; what it would not do in one step goes to the executor as it is planned.
Ray alone is asked what there is then: its node table, its groups, its actors, what is free of each node.
"""

import asyncio
import contextlib
import json
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from typing import Any

from rayscaler.clock import SystemClock
from rayscaler.errors import Unavailable
from rayscaler.executor.base import LaunchSpec
from rayscaler.local.executor import LocalExecutor, terminate_all
from rayscaler.local.head import HeadOptions
from rayscaler.model.demand import DemandReport, Session, Snapshot
from rayscaler.model.plan import Plan
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan
from rayscaler.reconciler.cluster import ClusterReconciler, Shared
from rayscaler.settings import Timings
from rayscaler.testing.memory_store import MemoryStore
from tests.ray.plans import Case, Held, actors_of, as_ray_reads, in_order, labels_of
from tests.ray_tier import QUICK_LOSS, Driver, RayHead, running_head

PATIENCE_S = 90.0
"""For each step of a case; on an idle machine the nodes take 2 s each, one after another, and what is held 4 s."""
REPORT_S = 0.5

DRIVER = """
import json, os, time
from ray._raylet import GcsClient
from ray.util.placement_group import placement_group, placement_group_table, remove_placement_group

gcs = GcsClient(address=ray.get_runtime_context().gcs_address)

@ray.remote
class Actor:
    def here(self):
        return True

class Alone:
    def __init__(self, bundle):
        wanted = dict(bundle["resources"])
        cpus, gpus, memory = wanted.pop("CPU"), wanted.pop("GPU", 0), wanted.pop("memory", None)
        options = {"num_cpus": cpus, "num_gpus": gpus, "memory": memory, "resources": wanted, "label_selector": bundle["labels"]}
        self.actor = Actor.options(**options).remote()
    def is_held(self, left_s):
        return bool(ray.wait([self.actor.here.remote()], timeout=left_s)[0])
    def end(self):
        ray.kill(self.actor)

class Group:
    def __init__(self, bundles, strategy):
        self.group = placement_group(
            [each["resources"] for each in bundles], strategy=strategy, bundle_label_selector=[each["labels"] for each in bundles]
        )
    def is_held(self, left_s):
        return self.group.wait(left_s) and placement_group_table(self.group)["state"] == "CREATED"
    def end(self):
        remove_placement_group(self.group)

def rows(types):
    nodes = gcs.get_all_node_info(timeout=10).values()
    return {row.instance_id: row for row in nodes if row.state == 0 and row.node_type_name in types}

def until(is_so):
    deadline = time.monotonic() + PATIENCE_S
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.05)

def node_id(row):
    return row.node_id.hex()

def begin(each, nodes):
    bundles = [{**bundle, "labels": {**bundle["labels"], "ray.io/node-id": node_id(nodes[bundle["on"]])}} for bundle in each["bundles"]]
    return Alone(bundles[0]) if each["is_actor"] else Group(bundles, each["strategy"])

def carry_out(asked):
    until(lambda: asked["rest"].keys() <= rows(asked["types"]).keys())
    nodes = rows(asked["types"])
    held, late = [], []
    if asked["rest"].keys() <= nodes.keys():
        deadline = time.monotonic() + asked["patience_s"]
        def is_held(each):
            return each.is_held(max(1.0, deadline - time.monotonic()))
        for each in asked["held"]:
            held.append(begin(each, nodes))
            if each["is_next_later"]:
                is_held(held[-1])
        for each in held:
            is_held(each)
        late = [i for i, each in enumerate(held) if not is_held(each)]  # once more: all at the same time
    def free():
        told = ray._private.state.available_resources_per_node()
        amounts = {key: told.get(node_id(nodes[key]), {}) for key in asked["rest"].keys() & nodes.keys()}
        return {key: {name: round(found.get(name, 0), 4) for name in asked["rest"][key]} for key, found in amounts.items()}
    if not late:
        until(lambda: free() == asked["rest"])  # Ray tells of it a little later
    nodes = rows(asked["types"])
    told = {"nodes": {key: [row.node_type_name, dict(row.resources_total)] for key, row in nodes.items()}, "late": late, "free": free()}
    for each in held:
        each.end()
    return told

while True:
    while not (names := sorted(each for each in os.listdir(BASE) if each.endswith(".json"))):
        time.sleep(0.05)
    path = os.path.join(BASE, names[0])
    with open(path) as file:
        asked = json.load(file)
    os.remove(path)
    print("told:", json.dumps(carry_out(asked)), flush=True)
"""
"""Waits for files that say what is to be held on which instance. What takes devices comes one after another: their order counts."""


class Improved:
    """Improves plans here, by a case's steps: how long that takes counts for nothing."""

    def __init__(self, steps: int) -> None:
        self._steps = steps

    async def improve(self, state: ClusterState, steps: int) -> Plan:
        """Return the improved plan."""
        return plan(state, self._steps)

    def prepare(self) -> None:
        """Be ready, as it always is."""


class Bench:
    """A head of no CPUs and a driver; one plan after another is carried out on it."""

    def __init__(self, head: RayHead, driver: Driver) -> None:
        self._head, self._driver = head, driver

    async def wrong_with(self, case: Case, patience_s: float = PATIENCE_S) -> list[str]:
        """Carry a case out and return what is not as its plan says."""
        order = in_order(case)
        root = self._head.temp_dir / f"c{case.number}"
        root.mkdir()
        executor = LocalExecutor(self._head.processes, root)
        try:
            async with self._launched(case, executor) as instances:
                told = await self._held(case, order, instances, patience_s)
                listed = {each.instance_id for each in await executor.list(case.name)}
        finally:
            await executor.close()
            await terminate_all(self._head.processes, root, grace_s=0.0)
        wanted = {key: [each.name, as_ray_reads(each.resources)] for key, each in zip(instances, case.nodes, strict=True)}
        found = {
            key: [name, {each: total.get(each, 0) for each in wanted.get(key, ["", total])[1]}]
            for key, (name, total) in told["nodes"].items()
        }
        wrong = [] if found == wanted else [f"Ray has the nodes {found}, planned are {wanted}"]
        wrong += [] if listed == set(instances) else [f"the executor has {listed}, planned are {instances}"]
        wrong += [f"does not start: {order[i]}" for i in told["late"]]
        rest = self._rest(case, instances)
        return wrong if wrong or told["free"] == rest else [f"free is {told['free']}, to be left is {rest}"]

    @contextlib.asynccontextmanager
    async def _launched(self, case: Case, executor: LocalExecutor) -> AsyncIterator[list[str]]:
        """Have the planned nodes launched; yield the instances in the order of the plan's launches."""
        if not case.is_for_service:
            specs = [LaunchSpec(case.name, f"{each.name}-{i}", each, self._head.address) for i, each in enumerate(case.nodes)]
            yield [await executor.launch(each) for each in specs]
            return
        address, watch = self._head.address, executor.watch(case.name)
        reconciler = ClusterReconciler(
            case.state.config,
            executor=executor,
            store=MemoryStore(),
            clock=SystemClock(),
            timings=Timings(plan_budget_s=PATIENCE_S),
            head_address=lambda: address,
            shared=Shared(improver=Improved(case.steps) if case.steps else None),
        )
        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(reconciler.run()), tasks.create_task(_report(reconciler, case))]
            async with asyncio.timeout(PATIENCE_S):
                async for _ in watch:
                    if len(await executor.list(case.name)) >= len(case.nodes):
                        break
            of_type = defaultdict(list)
            for each in await executor.list(case.name):
                of_type[each.node_type].append(each.instance_id)
            counts = {name: len(instances) for name, instances in of_type.items()}
            assert counts == Counter(each.name for each in case.nodes), f"{case}\n  the service launched {counts}"
            yield [of_type[each.name].pop() for each in case.nodes]
            for each in running:
                each.cancel()

    async def _held(self, case: Case, order: list[Held], instances: list[str], patience_s: float) -> dict[str, Any]:
        """Have everything held; return what the driver says."""
        actors = actors_of(order)
        held = [
            {
                "is_actor": i in actors,
                "strategy": each.strategy or "PACK",
                "is_next_later": bool(each.devices),
                "bundles": [
                    {"resources": as_ray_reads(bundle.resources), "labels": labels_of(bundle, case.nodes[node]), "on": instances[node]}
                    for bundle, node in each.bundles
                ],
            }
            for i, each in enumerate(order)
        ]
        types = [each.name for each in case.state.config.node_types]
        asked = {"types": types, "rest": self._rest(case, instances), "held": held, "patience_s": patience_s}
        path = self._head.temp_dir / "asked" / f"{case.number}.json"
        path.with_suffix(".new").write_text(json.dumps(asked))
        path.with_suffix(".new").rename(path)
        while True:
            line = await self._driver.line(5 * PATIENCE_S)
            if line.startswith("told: "):
                return json.loads(line.removeprefix("told: "))
            # An empty line may be Ray's own.
            assert line or not self._driver.process.stdout.at_eof(), f"the driver ended: {self._driver.log_path.read_text()[-2000:]}"

    def _rest(self, case: Case, instances: list[str]) -> dict[str, dict[str, float]]:
        """Return what each node is to have left, of all that it brings."""
        return {
            key: {name: left.get(name, 0) for name in each.resources}
            for key, each, left in zip(instances, case.nodes, map(as_ray_reads, case.rest()), strict=True)
        }


@contextlib.asynccontextmanager
async def bench() -> AsyncIterator[Bench]:
    """Run a head and its driver."""
    async with running_head(HeadOptions(env=QUICK_LOSS)) as head:
        asked = head.temp_dir / "asked"
        asked.mkdir()
        driver = await head.start_driver(f"BASE, PATIENCE_S = {str(asked)!r}, {PATIENCE_S}\n{DRIVER}")
        yield Bench(head, driver)


async def _report(reconciler: ClusterReconciler, case: Case) -> None:
    """Report what is asked for again and again, with no node in sight yet: nothing of it may be launched twice."""
    state, sequence = case.state, 0
    while True:
        sequence += 1
        snapshot = Snapshot(demands=state.demands, gangs=state.gangs, gcs_version=sequence)
        with contextlib.suppress(Unavailable):  # its record is not read yet
            reconciler.submit(DemandReport(case.name, Session("s", "session"), 1, sequence, 0.0, snapshot))
        await asyncio.sleep(REPORT_S)
