"""The status for people: counts, head, conditions (CD-17); what the schema says of it is what the code makes, field for field."""

import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from rayscaler.k8s import statusdocument, statuses
from rayscaler.k8s.statusdocument import MOST_TYPES, DefinitionStanding, HeadStanding, status_document
from rayscaler.model.demand import Bundle
from rayscaler.model.instance import ENDED, Instance, InstanceStatus, Reason
from rayscaler.model.nodetype import NodeType
from rayscaler.model.plan import Infeasible
from rayscaler.model.resources import Resources
from rayscaler.model.state import Backoff
from rayscaler.model.status import ClusterStatus, DefinitionStatus

pytestmark = pytest.mark.tier("unit")
SCHEMA = json.loads((Path(__file__).parents[2] / "schema" / "kubernetes-status.schema.json").read_text())
AT = 1_800_000_000.0
READY = HeadStanding(is_ready=True, reason="Ready", pod="demo-head-1", endpoints={"client": "ray://demo-head.ns.svc.cluster.local:10001"})
VALID = DefinitionStanding(resource_version="17")
CPU = Resources.of(CPU=1)


def instances(node_type: str, *found: InstanceStatus) -> tuple[Instance, ...]:
    return tuple(Instance(f"demo-{node_type}-1-{index}", node_type, each, AT) for index, each in enumerate(found))


def status(**changes) -> ClusterStatus:
    default = {
        "session": None,
        "report_age_s": 0.1,
        "blind": None,
        "blind_since": None,
        "cycle": 3,
        "node_types": (NodeType("small", CPU, min_workers=1, max_workers=4), NodeType("plain", CPU)),
        "instances": instances("small", InstanceStatus.RUNNING),
        "backoffs": (),
        "pending": (),
        "actions": (),
        "ray_version": "2.60.0",
        "definition": DefinitionStatus("abc", AT),
    }
    return ClusterStatus("demo", **{**default, **changes})


def document(found: ClusterStatus | None, definition=VALID, head=READY, before=None, now=AT) -> dict:
    made = status_document("demo", found, definition=definition, head=head, now=now, before=before)
    made = json.loads(statuses.text_of(made))
    assert [each.message for each in Draft202012Validator(SCHEMA).iter_errors(made)] == []
    return made


def conditions(*args, **changes) -> dict[str, tuple[str, str, str]]:
    return {each["type"]: (each["status"], each["reason"], each["message"]) for each in document(*args, **changes)["conditions"]}


FULL = status(
    instances=(*instances("small", *InstanceStatus), *instances("old", InstanceStatus.DRAINING)),
    pending=(
        Infeasible(Bundle(CPU), 3, Reason.MAX_WORKERS, "the limit of 4"),
        Infeasible(Bundle(Resources.of(TPU=4)), 2, Reason.NO_TYPE_FITS, ""),
    ),
    backoffs=(Backoff("small", 2, AT + 60, "ImagePullBackOff"),),
    notices=("look at this",),
)


def test_cd17_counts_are_per_type_and_state_with_limits_head_and_version():
    made = document(FULL)
    live = {each.value: 1 for each in InstanceStatus if each not in ENDED}
    assert made["nodeTypes"] == [
        {"name": "small", "isRetiring": False, "min": 1, "max": 4, "desired": 4, "instances": live, "backedOff": "ImagePullBackOff"},
        {"name": "plain", "isRetiring": False, "min": 0, "max": None, "desired": 0, "instances": {}, "backedOff": ""},
        {"name": "old", "isRetiring": True, "min": 0, "max": 0, "desired": 0, "instances": {"DRAINING": 1}, "backedOff": ""},
    ]
    assert made["workers"] == {"desired": 4, "instances": {**live, "DRAINING": 2}}
    assert made["observedVersion"] == {"hash": "abc", "resourceVersion": "17"}
    assert made["head"] == {"pod": "demo-head-1", "endpoints": dict(READY.endpoints), "rayVersion": "2.60.0"}
    assert made["pending"] == {"shapes": 2, "count": 5, "never": 2}
    assert made["notices"] == ["look at this"]


def test_conditions_of_a_cluster_that_is_well():
    assert conditions(status()) == {
        "Ready": ("True", "Ready", ""),
        "DefinitionValid": ("True", "Taken", ""),
        "HeadReady": ("True", "Ready", ""),
        "MinimumsMet": ("True", "AllRun", ""),
        "DemandMet": ("True", "AllPlaced", ""),
        "Blind": ("False", "ReportsCome", ""),
        "LaunchesFailing": ("False", "NoneFails", ""),
    }


def test_conditions_say_what_is_wrong_the_worst_first():
    said = conditions(FULL, head=HeadStanding(is_ready=False, reason="HeadLost", message="its node is gone"))
    assert said["Ready"] == said["HeadReady"] == ("False", "HeadLost", "its node is gone")
    assert said["DemandMet"][:2] == ("False", "NoTypeFits")
    assert "3 x CPU: 1: the limit of 4" in said["DemandMet"][2] or "the limit of 4; 2 x" in said["DemandMet"][2]
    assert said["LaunchesFailing"] == ("True", "BackedOff", "small: ImagePullBackOff")
    short = conditions(status(instances=instances("small", InstanceStatus.ALLOCATED)))
    assert short["Ready"] == short["MinimumsMet"] == ("False", "Launching", "small has 0 of 1")
    assert short["DemandMet"][:2] == ("False", "Launching")


def test_a_blind_cluster_says_so_and_does_not_claim_to_know_the_demand():
    said = conditions(status(blind=Reason.NO_REPORT, blind_since=AT))
    assert said["Blind"][:2] == ("True", "NoReport")
    assert said["DemandMet"][:2] == ("Unknown", "NoReport")


def test_a_definition_is_taken_refused_or_held_with_or_without_one_in_force():
    refused = DefinitionStanding(problems=("spec.a: bad", "spec.b: bad"))
    assert conditions(status(), refused)["DefinitionValid"] == ("False", "Refused", "version abc stays in force: spec.a: bad; spec.b: bad")
    assert conditions(status(definition=DefinitionStatus("abc", AT, ("c: bad",))))["DefinitionValid"][:2] == ("False", "Refused")
    assert conditions(status(), DefinitionStanding(held="its label"))["DefinitionValid"] == ("Unknown", "Held", "its label")
    assert conditions(None)["DefinitionValid"] == ("Unknown", "NotReadYet", "")
    none = conditions(None, refused, HeadStanding())
    assert none["DefinitionValid"] == ("False", "Refused", "nothing is in force: spec.a: bad; spec.b: bad")
    assert none["Ready"] == ("False", "NoDefinition", "")
    assert none["HeadReady"] == ("Unknown", "NotMadeYet", "")
    assert "Blind" not in none


def test_a_condition_keeps_the_time_of_its_last_change_of_status():
    first = document(status())
    again = document(status(blind=Reason.NO_REPORT), before=first, now=AT + 60)
    times = {each["type"]: each["lastTransitionTime"] for each in again["conditions"]}
    assert times["Ready"] == "2027-01-15T08:00:00Z"
    assert times["Blind"] == times["DemandMet"] == "2027-01-15T08:01:00Z"
    assert (
        document(status(blind=Reason.REPORT_TOO_OLD), before=again, now=AT + 120)["conditions"][5]["lastTransitionTime"] == times["Blind"]
    )


def test_an_unchanged_cluster_has_the_same_text_whatever_the_time():
    first = document(status())
    later = document(status(report_age_s=99.0, cycle=99), before=first, now=AT + 999)
    assert later == first


def test_a_huge_cluster_fits_into_a_config_map():
    detail = "x" * 10_000
    kinds = tuple(NodeType(f"{index:050d}", CPU) for index in range(25_000))
    many = status(
        node_types=kinds,
        instances=(),
        pending=tuple(Infeasible(Bundle(CPU), 1, Reason.NO_ROOM, detail) for _ in range(1000)),
        backoffs=tuple(Backoff(each.name, 1, AT, "y" * 100) for each in kinds),
        notices=(detail,) * 1000,
    )
    made = document(many, DefinitionStanding(problems=(detail,) * 1000))
    assert len(made["nodeTypes"]) == MOST_TYPES
    assert made["nodeTypesLeftOut"] == 24_000
    assert len(statuses.text_of(made)) < statuses.MOST_BYTES


def leaves(schema: dict, path: str = ""):
    """Yield the path of each property, with whether it is described and required."""
    schema = {**SCHEMA["$defs"][schema["$ref"].rpartition("/")[2]], **schema} if "$ref" in schema else schema
    for name, each in schema.get("properties", {}).items():
        assert schema["additionalProperties"] is False, path
        named = {**SCHEMA["$defs"][each["$ref"].rpartition("/")[2]], **each} if "$ref" in each else each
        assert len(named.get("description", "")) > 5, f"{path}.{name}"
        yield f"{path}.{name}", name in schema.get("required", ())
        yield from leaves(each, f"{path}.{name}")
    if "items" in schema:
        yield from leaves(schema["items"], f"{path}[]")


def paths(found, path: str = "") -> set[str]:
    """Return the path of each property of a document."""
    if isinstance(found, list):
        return set().union(*(paths(each, f"{path}[]") for each in found))
    if isinstance(found, dict):
        return set().union(*({f"{path}.{key}", *paths(each, f"{path}.{key}")} for key, each in found.items()))
    return set()


def test_the_schema_has_each_field_that_is_made_and_no_other():
    Draft202012Validator.check_schema(SCHEMA)
    told = dict(leaves(SCHEMA))
    made = document(FULL)
    optional = {".leftOut", ".nodeTypesLeftOut", *(each for each in told if ".instances." in each)}
    assert {each for each, is_required in told.items() if not is_required} == optional
    assert paths(made) - {".head.endpoints.client"} == set(told) - {".leftOut", ".nodeTypesLeftOut"}
    cut = statuses.fitted({statuses.STATUS: json.dumps(made), "full.json": "x" * 9999}, 9000)
    assert list(Draft202012Validator(SCHEMA).iter_errors(json.loads(cut[statuses.STATUS]))) == []
    assert "leftOut" in json.loads(cut[statuses.STATUS])


def test_the_schema_knows_each_condition_and_each_status():
    assert list(conditions(status())) == SCHEMA["$defs"]["Condition"]["properties"]["type"]["enum"]
    assert list(SCHEMA["$defs"]["Instances"]["properties"]) == [each.value for each in InstanceStatus if each not in ENDED]
    known = {statusdocument.TRUE, statusdocument.FALSE, statusdocument.UNKNOWN}
    assert set(SCHEMA["$defs"]["Condition"]["properties"]["status"]["enum"]) == known
