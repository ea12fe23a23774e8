"""schema/status.schema.json and schema/explain.schema.json say what the commands print: field for field as the protocol, and of real output."""

import json
from pathlib import Path

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from jsonschema import Draft202012Validator

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.model.instance import InstanceStatus, Reason

pytestmark = pytest.mark.tier("unit")

SCHEMAS = {name: json.loads((Path(__file__).parents[2] / "schema" / f"{name}.schema.json").read_text()) for name in ("status", "explain")}
MESSAGES = {"status": pb.GetStatusResponse.DESCRIPTOR, "explain": pb.ExplainResponse.DESCRIPTOR}
KNOWN = {"google.protobuf.Timestamp": "Timestamp", "google.protobuf.Duration": "Duration"}
ALWAYS = {"because", "since", "at", "definition"}
"""Messages that the service never leaves out, where they are called so."""


def validator(name):
    return Draft202012Validator(SCHEMAS[name])


def check_message(descriptor: Descriptor, schema, defs, seen: set[str]) -> None:
    """Every field of the message is in the schema, none is there besides, and what is always printed is required."""
    assert set(schema["properties"]) == {each.name for each in descriptor.fields}, descriptor.name
    assert schema["additionalProperties"] is False, descriptor.name
    printed = {each.name for each in descriptor.fields if not each.has_presence}
    assert printed <= set(schema["required"]) <= printed | ALWAYS | {"until"}, descriptor.name
    for each in descriptor.fields:
        check_field(each, schema["properties"][each.name], defs, seen)


def check_field(field: FieldDescriptor, schema, defs, seen: set[str]) -> None:
    assert schema["description"], f"{field.full_name} is described"
    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        check_value(field.message_type.fields_by_name["value"], schema["additionalProperties"], defs, seen)
    elif field.is_repeated:
        assert schema["type"] == "array"
        check_value(field, schema["items"], defs, seen)
    else:
        check_value(field, schema, defs, seen)


def check_value(field: FieldDescriptor, schema, defs, seen: set[str]) -> None:
    if field.message_type is not None:
        name = KNOWN.get(field.message_type.full_name, field.message_type.name)
        assert schema["$ref"] == f"#/$defs/{name}"
        if name == field.message_type.name and name not in {*KNOWN.values(), *seen}:
            seen.add(name)
            check_message(field.message_type, defs[name], defs, seen)
    elif field.enum_type is not None:
        assert schema["enum"] == [each.name for each in field.enum_type.values]
    elif field.type == FieldDescriptor.TYPE_INT64:
        assert schema["$ref"] == "#/$defs/Int64"
    elif field.type == FieldDescriptor.TYPE_INT32:
        assert schema["type"] == "integer"
    elif field.type == FieldDescriptor.TYPE_DOUBLE:
        assert schema["type"] == "number"
    else:
        assert field.type == FieldDescriptor.TYPE_STRING
        assert schema.get("type", "string") == "string"


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schema_has_each_field_of_the_message_and_no_other(name):
    schema = SCHEMAS[name]
    Draft202012Validator.check_schema(schema)
    seen: set[str] = set()
    check_message(MESSAGES[name], schema, schema["$defs"], seen)
    assert set(schema["$defs"]) - seen - {"Timestamp", "Duration", "Int64", "Reason"} == set(), "nothing is defined that no field uses"


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schema_knows_every_reason_and_no_other(name):
    assert SCHEMAS[name]["$defs"]["Reason"]["enum"] == [each.value for each in Reason]


def test_the_schema_knows_every_status_and_no_other():
    statuses = [each.value for each in InstanceStatus]
    assert SCHEMAS["status"]["$defs"]["InstanceStatus"]["properties"]["status"]["enum"] == statuses
    assert SCHEMAS["explain"]["$defs"]["NodeExplanation"]["properties"]["status"]["enum"] == ["", *statuses]


def test_each_schemas_id_is_made_of_its_files_name_and_says_which_draft():
    files = sorted((Path(__file__).parents[2] / "schema").iterdir())
    assert [each.name for each in files] == [
        f"{name}.schema.json" for name in ("cluster", "demand", "explain", "kubernetes-status", "plan", "simulate", "status", "webhook")
    ]
    for file in files:
        found = json.loads(file.read_text())
        assert found["$id"] == f"https://rayscaler.io/schema/v1/{file.name}"
        assert found["$schema"] == "https://json-schema.org/draft/2020-12/schema"
