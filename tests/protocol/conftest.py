"""Which monitors are judged: those of this repository, or the one that `--monitor` names."""

import shlex
import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.protocol import go_monitor
from tests.protocol.stage import Stage, staged

OURS = ("python", "go")
SECURE = "--ca {ca} --token {token}"
ARGUMENTS = "--cluster {cluster} --gcs {gcs} --service {service} --incarnation {incarnation}"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--monitor", help="command of a monitor to judge, with {cluster}, {gcs}, {service} and perhaps {incarnation}")
    parser.addoption("--secure", help="what that monitor is told besides where credentials are needed, with {ca} and {token}")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "monitor" in metafunc.fixturenames:
        given = metafunc.config.getoption("--monitor")
        metafunc.parametrize("monitor", [given] if given else OURS, ids=["given"] if given else OURS, indirect=True, scope="module")


@pytest.fixture(scope="module")
def monitor(request: pytest.FixtureRequest) -> str:
    """Command line of the monitor that is judged."""
    if request.param == "python":
        return f"{shlex.quote(sys.executable)} -m rayscaler monitor {ARGUMENTS}"
    if request.param == "go":
        return f"{shlex.quote(str(go_monitor.build()))} {ARGUMENTS}"
    return request.param


@pytest.fixture(scope="module")
def secure_monitor(monitor: str, request: pytest.FixtureRequest) -> str:
    """Command line of the monitor where credentials are needed."""
    is_ours = request.config.getoption("--monitor") is None
    secure = SECURE if is_ours else request.config.getoption("--secure")
    if not secure:
        pytest.skip("credentials are optional for a monitor; --secure says how this one is told them")
    return f"{monitor} {secure}"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(monitor: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    """One run of the monitor for all tests of a module."""
    async with staged(monitor, tmp_path_factory.mktemp("monitor")) as stage:
        await stage.report()
        yield stage


@pytest_asyncio.fixture(loop_scope="module")
async def stage(shared: Stage) -> AsyncIterator[Stage]:
    """The running monitor, as a test may expect it; whatever the test did, nothing may have hurt the cluster."""
    await shared.reset()
    yield shared
    assert shared.gcs.crimes == []
