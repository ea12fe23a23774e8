"""What is posted is what schema/webhook.schema.json says, and a change is called the same by whoever tells it."""

from dataclasses import replace

import pytest

from rayscaler.model.reasons import Mover
from rayscaler.model.trouble import TroubleState
from rayscaler.webhook.message import message, whose_move
from tests.webhook.builders import BEGUN_AT, SCHEMA, announced, checked

pytestmark = pytest.mark.tier("unit")


def test_a_change_is_told_with_all_that_an_alert_needs():
    body = checked(message(announced(), "ml", BEGUN_AT + 1.5).body)
    assert len(body.pop("id")) == 32
    assert body == {
        "apiVersion": "rayscaler.io/v1",
        "kind": "NodeTypeTrouble",
        "state": "begun",
        "cluster": "demo",
        "namespace": "ml",
        "nodeType": "gpu",
        "cause": "UNSCHEDULABLE",
        "detail": "0/3 nodes are available",
        "launches": 2,
        "since": "2027-01-15T08:00:00Z",
        "at": "2027-01-15T08:00:01Z",
        "nextStep": "other node types are used meanwhile",
        "whoseMove": "world",
        "retryAt": "2027-01-15T08:05:00Z",
    }


def test_an_end_says_when_it_was_and_outside_of_kubernetes_there_is_no_namespace():
    ended = replace(announced(state=TroubleState.ENDED, ended_at=BEGUN_AT + 60), retry_at=None)
    body = checked(message(ended, "", BEGUN_AT + 900).body)
    assert (body["at"], body["whoseMove"], "retryAt" in body, "namespace" in body) == ("2027-01-15T08:01:00Z", "nobody", False, False)


def test_words_of_others_may_be_anything():
    odd = announced(detail="“§”\n\x00\ud800")
    assert checked(message(odd, "", 0.0).body)["detail"] == "“§”\n\x00?"


def test_the_id_is_that_of_the_change_and_of_nothing_that_may_differ_from_life_to_life():
    first = announced()
    again = replace(first, next_step="x", retry_at=None, trouble=replace(first.trouble, launches=9, detail="y", told="z"))
    assert message(first, "ml", 1.0).id == message(again, "ml", 2.0).id
    others = [
        message(announced("other"), "ml", 1.0),
        message(announced(node_type="cpu"), "ml", 1.0),
        message(first, "other", 1.0),
        message(announced(state=TroubleState.ENDED), "ml", 1.0),
        message(replace(first, trouble=replace(first.trouble, since=BEGUN_AT + 0.001)), "ml", 1.0),
        *(message(announced(state=TroubleState.CHANGED, changes=count), "ml", 1.0) for count in (1, 2, 3)),
    ]
    assert len({message(first, "ml", 1.0).id, *(each.id for each in others)}) == len(others) + 1


def test_whose_move_it_is_comes_from_the_reasons():
    assert (whose_move("GATED"), whose_move("NO_CAPACITY"), whose_move("CANNOT_START")) == ("world", "world", "operator")
    assert SCHEMA["properties"]["whoseMove"]["enum"] == [each.value for each in Mover]
    assert SCHEMA["properties"]["state"]["enum"] == [each.value for each in TroubleState]
