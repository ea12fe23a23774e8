"""What the tests of the webhook share: a change with what a test does not care about filled in, and what the schema says of a body."""

import json
from pathlib import Path

from jsonschema import Draft202012Validator

from rayscaler.model.trouble import Announcement, NodeTypeTrouble, TroubleState

BEGUN_AT = 1_800_000_000.0
SCHEMA = json.loads((Path(__file__).parents[2] / "schema/webhook.schema.json").read_text())


def announced(cluster: str = "demo", node_type: str = "gpu", state: TroubleState = TroubleState.BEGUN, **fields) -> Announcement:
    trouble = NodeTypeTrouble(node_type, "UNSCHEDULABLE", BEGUN_AT, **{"detail": "0/3 nodes are available", "launches": 2, **fields})
    return Announcement(cluster, state, trouble, "other node types are used meanwhile", BEGUN_AT + 300)


def checked(body: bytes | str) -> dict:
    """Return what was posted, once the schema has taken it."""
    found = json.loads(body)
    Draft202012Validator(SCHEMA, format_checker=Draft202012Validator.FORMAT_CHECKER).validate(found)
    return found
