"""Each scenario file is one story: given a definition, instances and a report, then this plan. The README beside them has the form."""

from collections import Counter
from pathlib import Path

import pytest
import yaml

from rayscaler.config import native
from rayscaler.model.demand import Bundle, Constraint, Demand, Gang, LabelCondition, LabelSelector, Locality, Operator, Strategy
from rayscaler.model.instance import IN_FLIGHT, Growing, Instance, InstanceStatus, Reason
from rayscaler.model.node import DeathReason, NodeStatus, RayNode
from rayscaler.model.nodetype import NodeType
from rayscaler.model.plan import Plan
from rayscaler.model.resources import UNIT, Resources
from rayscaler.model.state import Backoff, Begun, ClusterState
from rayscaler.planner.plan import plan
from tests.properties.checker import check

pytestmark = pytest.mark.tier("unit")

FILES = sorted(Path(__file__).parent.glob("*.yaml"))
NOW = 1000.0


def resources(given: dict[str, float]) -> Resources:
    return Resources.of(**given)


def amounts(found: Resources) -> dict[str, float]:
    return {name: amount / UNIT for name, amount in found.items()}


def condition(given: str) -> LabelCondition:
    operator = Operator.NOT_IN if "!=" in given else Operator.IN
    key, values = given.split("!=" if "!=" in given else "=")
    return LabelCondition(key.strip(), operator, tuple(sorted(value.strip() for value in values.split("|"))))


def demand(given: dict) -> Demand:
    kinds = {name: amount for name, amount in given.items() if name not in ("count", "labels")}
    selectors = tuple(LabelSelector((condition(each),) if each else ()) for each in given.get("labels", []))
    return Demand(Bundle(resources(kinds), selectors), given.get("count", 1))


def instance(given: dict) -> Instance:
    status = InstanceStatus(given.get("status", "RUNNING"))
    has_node = status not in IN_FLIGHT
    dead_for = given.get("deadFor")
    return Instance(
        given["name"],
        given["type"],
        status,
        NOW,
        requested_at=NOW - given.get("requestedAgo", 0),
        ray_node_id=f"node-{given['name']}" if has_node else "",
        node_dead_since=None if dead_for is None else NOW - dead_for,
        drain_not_before=NOW + given.get("noDrainFor", 0),
        ends_at=NOW + given["endsIn"] if "endsIn" in given else None,
        ends_why="spot notice" if "endsIn" in given else "",
        stuck_since=NOW - given["stuckFor"] if "stuckFor" in given else None,
        made_as=NodeType(given["type"], resources(given["launchedWith"])) if "launchedWith" in given else None,
        replica=given.get("replica", ""),
        host=given.get("host", 0),
        growing=Growing(resources(given["growsTo"]), NOW) if "growsTo" in given else None,
        ungrown_until=NOW + given.get("noGrowthFor", 0),
    )


def node(given: dict) -> RayNode:
    total = resources(given["total"])
    free = resources(given.get("free", given["total"]))
    status = NodeStatus(given["status"]) if "status" in given else NodeStatus.IDLE if "idle" in given else NodeStatus.RUNNING
    name = given["name"]
    return RayNode(
        f"node-{name}",
        given.get("instance", "" if given.get("head") else name),
        given.get("type", ""),
        status,
        total,
        free,
        tuple(sorted(given.get("labels", {}).items())),
        tuple(given.get("carries", [])),
        idle_s=float(given.get("idle", 0)),
        is_head=given.get("head", False),
        death=DeathReason(given["death"]) if "death" in given else None,
    )


def gang(given: dict) -> Gang:
    within = given.get("within")
    where = LabelSelector(tuple(map(condition, given.get("where", []))))
    locality = Locality(within, where) if within else None
    return Gang(given["id"], Strategy(given["strategy"]), tuple(map(demand, given["bundles"])), "carriers" in given, locality=locality)


def state(story: dict) -> ClusterState:
    spec = {"executor": "local", **story["given"]["config"]}
    config = native.cluster({"apiVersion": native.API_VERSION, "kind": "Cluster", "metadata": {"name": "c"}, "spec": spec})
    report = story["given"].get("report", {})
    asked = report.get("requestResources")
    return ClusterState(
        now=NOW,
        config=config,
        instances=tuple(map(instance, story["given"].get("instances", []))),
        nodes=tuple(map(node, report.get("nodes", []))),
        demands=tuple(map(demand, report.get("tasks", []))),
        gangs=tuple(map(gang, report.get("placementGroups", []))),
        constraint=None if asked is None else Constraint(tuple(map(demand, asked))),
        backoffs=tuple(
            Backoff(each["type"], each["failures"], NOW + each["retryIn"], each["detail"]) for each in story["given"].get("failed", [])
        ),
        begun=tuple(Begun(NOW - each["ago"], each["type"], each["launches"]) for each in story["given"].get("begun", [])),
        learned=tuple((name, resources(total)) for name, total in sorted(story["given"].get("learned", {}).items())),
        unneeded_since=tuple((name, NOW - ago) for name, ago in story["given"].get("unneededFor", {}).items()),
        busiest=tuple((f"node-{name}", resources(used)) for name, used in sorted(story["given"].get("busiest", {}).items())),
        held=tuple(sorted(story["given"].get("held", {}).items())),
        no_launch=Reason(story["given"]["blind"]) if "blind" in story["given"] else None,
        no_end=Reason(story["given"]["blind"]) if "blind" in story["given"] else None,
    )


def told(found: Plan) -> dict:
    """Return a plan in the words of a scenario's `then`; what is empty is left out."""
    waits = {f"{each.what} x {each.count}" if isinstance(each.what, Bundle) else each.what.gang_id: each for each in found.infeasible}
    told = {
        "launch": dict(Counter(each.node_type for each in found.launches)),
        "grow": {each.instance_id: amounts(each.resources) for each in found.growths},
        "drain": {each.instance_id: each.reason.value + (" when done" if each.is_preemption else "") for each in found.drains},
        "end": {each.instance_id: each.reason.value for each in found.terminations},
        "wait": {what: each.reason.value for what, each in waits.items() if not each.is_never},
        "never": {what: each.reason.value for what, each in waits.items() if each.is_never},
    }
    return {key: value for key, value in told.items() if value}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem.replace("-", " "))
def test_the_story_ends_as_written(file):
    story = yaml.safe_load(file.read_text())
    given = state(story)
    found = plan(given)
    says = story["then"].pop("says", [])
    details = [each.detail for each in (*found.launches, *found.growths, *found.drains, *found.terminations, *found.infeasible)]
    assert told(found) == story["then"]
    assert [text for text in says if not any(text in detail for detail in details)] == [], details
    assert check(given, found) == []


def test_there_are_stories_and_each_names_what_it_proves():
    assert len(FILES) >= 15
    assert [file.stem for file in FILES if not yaml.safe_load(file.read_text())["proves"]] == []
