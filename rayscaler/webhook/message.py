"""What is posted of a change: JSON as in schema/webhook.schema.json. Pure."""

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime

from rayscaler.model.instance import Reason
from rayscaler.model.reasons import mover
from rayscaler.model.trouble import Announcement, TroubleState


@dataclass(frozen=True)
class Message:
    """What is posted, the same with each try; `of` says to people what it is about."""

    id: str
    of: str
    body: bytes


def message(announced: Announcement, namespace: str, now: float) -> Message:
    """Return what is to be posted; `namespace` "" where there is none, `now` is wall seconds."""
    trouble, state, name = announced.trouble, announced.state, identity(announced, namespace)
    body = {
        "apiVersion": "rayscaler.io/v1",
        "kind": "NodeTypeTrouble",
        "id": name,
        "state": state.value,
        "cluster": announced.cluster,
        **({"namespace": namespace} if namespace else {}),
        "nodeType": trouble.node_type,
        "cause": trouble.cause,
        "detail": trouble.detail,
        "launches": trouble.launches,
        "since": moment(trouble.since),
        "at": moment(trouble.ended_at if state is TroubleState.ENDED and trouble.ended_at is not None else now),
        "nextStep": announced.next_step,
        "whoseMove": "nobody" if state is TroubleState.ENDED else whose_move(trouble.cause),
        **({"retryAt": moment(announced.retry_at)} if announced.retry_at is not None else {}),
    }
    text = json.dumps(body, ensure_ascii=False).encode(errors="replace")
    return Message(name, f"{trouble.node_type} of {announced.cluster}, {state.value}", text)


def identity(announced: Announcement, namespace: str) -> str:
    """Return what names the change, the same for whoever tells it: another try, another replica, another life of the service."""
    trouble = announced.trouble
    changes = trouble.changes if announced.state is TroubleState.CHANGED else 0
    parts = [namespace, announced.cluster, trouble.node_type, repr(trouble.since), announced.state.value, changes]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def whose_move(cause: str) -> str:
    """Return who must move for a cause to pass: a launch that does not get on is told by what holds it up, which is the world's."""
    return mover(Reason(cause) if cause in Reason.__members__ else Reason.STUCK).value


def moment(at: float) -> str:
    """Return wall seconds as RFC 3339 has it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
