"""The answer to a report, in Ray's own messages where the monitor only passes them on."""

import json

import pytest

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.model.command import Command, ReportAnswer, TellCommand
from rayscaler.server import answers

pytestmark = pytest.mark.tier("unit")


def commanded(command: Command, *, is_v1_mode: bool = False) -> pb.Command:
    answer = ReportAnswer((command,), (), None, 1.0, wants_snapshot=False)
    (made,) = answers.report_answer(answer, is_v1_mode=is_v1_mode).commands
    return made


@pytest.mark.parametrize("is_v1", [True, False])
def test_wc_11_drivers_are_told_in_the_form_that_their_mode_reads(is_v1):
    """In v2 mode an event is JSON, in v1 mode marked text; a line is one line, whatever a resource is called."""
    lines = list(commanded(TellCommand("t1", ("cannot\nbe", 'so "it" is')), is_v1_mode=is_v1).tell_drivers.lines)
    if is_v1:
        assert lines == [":event_summary:cannot be", ':event_summary:so "it" is']
    else:
        assert [json.loads(each)["message"] for each in lines] == ["cannot be", 'so "it" is']
