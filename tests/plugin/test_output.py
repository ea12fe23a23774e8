"""What a plugin prints: whole lines, bounded, nothing that could forge another."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from rayscaler.plugin import output
from rayscaler.plugin.output import Intake, Lines, readable

pytestmark = pytest.mark.tier("unit")


class Clock:
    def __init__(self) -> None:
        self.at = 100.0

    def now(self) -> float:
        return self.at

    def mono(self) -> float:
        return self.at


@given(st.lists(st.binary(max_size=30)))
def test_lines_are_the_same_however_they_were_cut(pieces):
    lines = Lines()
    whole = b"".join(pieces)
    got = [line for piece in pieces for line in lines.feed(piece)] + lines.rest()
    want = [each.rstrip(b"\r") for each in whole.split(b"\n")[:-1] if each.strip()] + [
        each for each in whole.split(b"\n")[-1:] if each.strip()
    ]
    assert got == want


def test_a_line_without_an_end_keeps_no_more_than_its_beginning():
    lines = Lines(most=10)
    for _ in range(1000):
        assert lines.feed(b"0123456789abcdef") == []
    assert lines.feed(b"\nnext\n") == [b"0123456789", b"next"]


@given(st.binary(max_size=200))
def test_nothing_that_is_shown_steers_a_terminal_or_begins_a_line(raw):
    assert readable(raw).isprintable()


@pytest.mark.parametrize(
    ("raw", "level", "line"),
    [
        (b"plain\twords", "info", "plain words"),
        (b"\x1b[31mred\xe2\x80\xaegnol", "info", "�[31mred�gnol"),
        (b'{"@level":"warn","@message":"low","@module":"fake","@timestamp":"x","disk":7}', "warning", "fake: low disk=7"),
        (b'{"@level":"trace","@message":"low\\nforged"}', "debug", "low�forged"),
        (b'{"@level":["odd"],"@message":"odd"}', "info", "odd"),
        (b'{"message":"not hclog"}', "info", '{"message":"not hclog"}'),
        (b'{"@message": broken', "info", '{"@message": broken'),
        (b"[" * 20000, "info", "[" * 20000),
    ],
)
def test_a_line_is_logged_as_its_author_meant_it(raw, level, line):
    with capture_logs() as logs:
        Intake("fake", Clock()).take("stderr", [raw])
    assert logs == [{"event": "plugin.output", "plugin": "fake", "stream": "stderr", "line": line, "log_level": level}]


def test_hclog_that_is_nested_too_deep_is_a_line_like_any_other():
    raw = b'{"@message":' + b"[" * 100000 + b"]" * 100000 + b"}"
    with capture_logs() as logs:
        Intake("fake", Clock()).take("stderr", [raw])
    assert len(logs) == 1


def test_beyond_a_limit_lines_are_counted_and_the_next_second_says_how_many():
    clock = Clock()
    intake = Intake("fake", clock)
    with capture_logs() as logs:
        intake.take("stdout", [b"line %d" % number for number in range(output.LINES_PER_S + 30)])
        clock.at += 1.0
        intake.take("stdout", [b"calm again"])
    assert logs[output.LINES_PER_S :] == [
        {"event": "plugin.output_left_out", "plugin": "fake", "lines": 30, "log_level": "warning"},
        {"event": "plugin.output", "plugin": "fake", "stream": "stdout", "line": "calm again", "log_level": "info"},
    ]
    assert intake.tail().splitlines()[-2:] == [f"line {output.LINES_PER_S + 29}", "calm again"]  # the end is never left out


def test_the_tail_is_the_end_and_no_longer_than_people_read():
    intake = Intake("fake", Clock())
    intake.take("stderr", [b"%d " % number + b"x" * 5000 for number in range(100)])
    kept = intake.tail().splitlines()
    assert [each.split()[0] for each in kept] == [str(number) for number in range(100 - output.TAIL_LINES, 100)]
    assert {len(each) for each in kept} == {output.TAIL_CHARS}


@pytest.mark.looptime
async def test_who_reads_more_than_a_second_bears_waits_it_out():
    clock = Clock()
    intake = Intake("fake", clock)
    loop = asyncio.get_running_loop()
    began = loop.time()
    await intake.bear(output.BYTES_PER_S)
    assert loop.time() == began
    clock.at += 0.25
    await intake.bear(1)
    assert loop.time() - began == pytest.approx(0.75)


def test_a_status_of_hclog_is_found_whatever_else_its_fields_hold():
    raw = json.dumps({"@message": "m", "error": {"deep": ["x" * 10]}}).encode()
    with capture_logs() as logs:
        Intake("fake", Clock()).take("stderr", [raw])
    assert logs[0]["line"].startswith("m error={'deep'")
