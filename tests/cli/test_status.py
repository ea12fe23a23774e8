"""What `rayscaler status` shows of a cluster, from the service's values to text."""

import io
import json

import pytest
from rich.console import Console

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.cli import explain, status
from rayscaler.model.explanation import Explanation, MixExplanation
from rayscaler.model.plan import Mix
from rayscaler.model.status import ClusterStatus
from rayscaler.server import answers, explanations
from tests.cli.test_explain import shown
from tests.cli.test_schemas import validator

pytestmark = pytest.mark.tier("unit")

IMPROVED = MixExplanation(1_000_000.0, Mix(15.25, 15.0, 125, ("maxWorkers of a10",)), "improved")
FIRST = MixExplanation(1_000_000.0, Mix(2.0))


def answered(mix):
    bare = ClusterStatus("demo", None, None, None, None, cycle=1, node_types=(), instances=(), backoffs=(), pending=(), actions=(), mix=mix)
    return answers.cluster_status(bare)


def text(picture) -> str:
    console = Console(file=io.StringIO(), width=240)
    console.print(picture)
    return console.file.getvalue()


@pytest.mark.parametrize(
    ("mix", "told"),
    [
        (
            IMPROVED,
            "cost 15.25 after 125 steps, no mix can cost less than 15 (a gap of 1.7%); a cheaper mix: improved; what binds: maxWorkers of a10\n",
        ),
        (FIRST, "cost 2\n"),
    ],
)
def test_the_mix_is_one_line_and_the_same_that_explain_has(mix, told):
    (line,) = [each for each in text(status.render(answered(mix))).splitlines(keepends=True) if "cost" in each]
    assert line.startswith("launched on demand ")
    assert line.rstrip() + "\n" == line[: line.index("cost")] + told
    assert line in text(explain.render(explanations.cluster_explanation(Explanation("demo", 1_000_000.0, mix=mix))))


def test_where_nothing_has_a_cost_nothing_is_said_of_it():
    assert not answered(None).HasField("mix")
    assert "cost" not in text(status.render(answered(None)))


@pytest.mark.parametrize("mix", [IMPROVED, FIRST, None])
def test_json_is_as_the_schema_says(mix):
    found = json.loads(shown(pb.GetStatusResponse(clusters=[answered(mix)])))
    validator("status").validate(found)
    assert ("mix" in found["clusters"][0]) is (mix is not None)
