"""The first line of a plugin: whatever else it is, it is refused by name and with an advice."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayscaler.plugin import greeting
from rayscaler.plugin.faults import Failure, Fault

pytestmark = pytest.mark.tier("unit")

SOCKETS = Path("/run/p/s")
GOOD = "1|1|unix|/run/p/s/plugin12|grpc|"


@pytest.mark.parametrize(
    ("line", "target"),
    [
        (GOOD, "unix:/run/p/s/plugin12"),
        (f"{GOOD}\r", "unix:/run/p/s/plugin12"),
        (f"{GOOD}|true", "unix:/run/p/s/plugin12"),
        (f"{GOOD}short", "unix:/run/p/s/plugin12"),
        ("1|1|unix|/run/p/s/x-1/executor.sock|grpc", "unix:/run/p/s/x-1/executor.sock"),
        ("1|1|tcp|127.0.0.1:1234|grpc", "127.0.0.1:1234"),
        ("1|1|tcp|[::1]:1234|grpc", "[::1]:1234"),
    ],
    ids=[
        "go-plugin's",
        "with a carriage return",
        "with a seventh part",
        "with what old ones wrote for a certificate",
        "ours",
        "tcp",
        "tcp over IPv6",
    ],
)
def test_a_good_line_says_where_to_call(line, target):
    assert greeting.read(line.encode(), SOCKETS).target == target


@pytest.mark.parametrize(
    ("line", "fault", "text"),
    [
        (b"", Fault.GARBAGE, "its first line of output is ''"),
        (b"hello world", Fault.GARBAGE, "print nothing before"),
        (b"\x1b[2J\x00\xff|1", Fault.GARBAGE, "its first line of output is '�[2J��|1'"),
        (b"x" * 5000, Fault.LONG_LINE, "more than 4096 bytes: 'xxx"),
        (
            b"one|1|unix|/run/p/s/a|grpc",
            Fault.GARBAGE,
            "'one' stands in its first line where the version of go-plugin's core protocol belongs",
        ),
        (b"2|1|unix|/run/p/s/a|grpc", Fault.WRONG_CORE_VERSION, "it speaks version 2, rayscaler 1, of go-plugin's core protocol; build it"),
        (
            b"1|2|unix|/run/p/s/a|grpc",
            Fault.WRONG_APP_VERSION,
            "it speaks version 2, rayscaler 1, of the executor protocol; set ProtocolVersion",
        ),
        (b"1|1111111111111111|unix|/run/p/s/a|grpc", Fault.WRONG_APP_VERSION, "it speaks version 111111111,"),
        (b"1|-1|unix|/run/p/s/a|grpc", Fault.GARBAGE, "'-1' stands"),
        ("1|\u0661|unix|/run/p/s/a|grpc".encode(), Fault.GARBAGE, "'\u0661' stands"),  # a digit, of another alphabet
        (b"1|1|unix|/run/p/s/a|netrpc", Fault.WRONG_PROTOCOL, "it speaks 'netrpc', rayscaler only grpc; set GRPCServer"),
        (b"1|1|unix|/run/p/s/a", Fault.WRONG_PROTOCOL, "it speaks 'netrpc'"),
        (b"1|1|unix|/run/p/s/a|grpc|" + b"M" * 600, Fault.AUTO_MTLS, "AutoMTLS is not spoken here"),
        (
            b"1|1|unix|/tmp/plugin12|grpc",
            Fault.WRONG_ADDRESS,
            "its socket '/tmp/plugin12' is not below /run/p/s; build it with go-plugin 1.5",
        ),
        (b"1|1|unix|/run/p/s/../../q|grpc", Fault.WRONG_ADDRESS, "is not below"),
        (b"1|1|unix|s/a|grpc", Fault.WRONG_ADDRESS, "is not below"),
        (b"1|1|unix|/run/p/s|grpc", Fault.WRONG_ADDRESS, "is not below"),
        (b"1|1|tcp|0.0.0.0:1234|grpc", Fault.WRONG_ADDRESS, "it listens at 'tcp 0.0.0.0:1234'"),
        (b"1|1|tcp|10.0.0.7:1234|grpc", Fault.WRONG_ADDRESS, "give executor an address instead of a command"),
        (b"1|1|tcp|localhost:1234|grpc", Fault.WRONG_ADDRESS, "it listens at"),  # a name may mean anything
        (b"1|1|tcp|127.0.0.1:0|grpc", Fault.WRONG_ADDRESS, "it listens at"),
        (b"1|1|tcp|127.0.0.1|grpc", Fault.WRONG_ADDRESS, "it listens at"),
        (b"1|1|vsock|3:1234|grpc", Fault.WRONG_ADDRESS, "it listens at 'vsock 3:1234'"),
    ],
)
def test_any_other_line_has_its_name_and_says_what_to_do(line, fault, text):
    with pytest.raises(Failure) as caught:
        greeting.read(line, SOCKETS)
    assert caught.value.fault is fault
    assert text in caught.value.detail
    assert len(caught.value.detail) < 600


@given(
    st.binary(max_size=200)
    | st.lists(st.text(max_size=20) | st.integers(-2, 3).map(str), max_size=8).map(lambda parts: "|".join(parts).encode())
)
def test_nothing_but_a_good_line_is_taken_and_nothing_else_is_raised(line):
    said = ""
    try:
        said = greeting.read(line, SOCKETS).network
    except Failure as failure:
        said = failure.detail
    assert said.isprintable()
