"""Fixtures for all tests, and the tier of each printed with its result."""

import asyncio
import signal
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import HealthCheck, settings

from tests import counts

# A busy machine is no bug; every test has a limit of its own.
settings.register_profile(
    "rayscaler",
    deadline=None,
    derandomize=not counts.is_drawn_anew(),
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("rayscaler")

pytest_plugins = ["tests.cluster_tier", "tests.e2e_tier", "tests.ray_tier"]

PROPERTY_S = 3600 if counts.is_drawn_anew() else 300
"""Limit of a property: a long run, or one in full, has twenty or thirty times the examples (tests/properties/conftest.py)."""
TIERS = ("unit", "property", "protocol", "ray", "cluster", "e2e")


def pytest_configure() -> None:
    """Begin alike wherever it is run.

    There is no event loop yet: looptime asks for one around every test, and asyncio would make one that nobody closes. And Ctrl-C counts:
    a shell starts what it runs in the background with SIGINT ignored, which the processes of a test would inherit.
    """
    asyncio.set_event_loop(None)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Every test names its tier and has its limit; those of the cluster come last: it slows others while it runs."""
    for item in items:
        marker = item.get_closest_marker("tier")
        if marker is None or marker.args[0] not in TIERS:
            raise pytest.UsageError(f"{item.nodeid}: no tier; set pytestmark = pytest.mark.tier(one of {', '.join(TIERS)})")
        if item.get_closest_marker("timeout") is None:
            seconds = {"unit": 30, "property": PROPERTY_S, "protocol": 60}.get(marker.args[0], 600)
            item.add_marker(pytest.mark.timeout(seconds))
    items.sort(key=lambda item: tier_of(item) in {"cluster", "e2e"})


def tier_of(item: pytest.Item) -> str:
    """Return the tier that a test names."""
    return item.get_closest_marker("tier").args[0]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many tests of each tier ran, and every skip with its reason."""
    counts: dict[str, int] = {}
    for report in terminalreporter.stats.get("passed", []):
        if report.when == "call":
            tier = dict(report.user_properties).get("tier", "unknown")
            counts[tier] = counts.get(tier, 0) + 1
    terminalreporter.write_line("tiers: " + ", ".join(f"{tier} {counts[tier]}" for tier in TIERS if tier in counts))
    reasons = [report.longrepr[2].removeprefix("Skipped: ") for report in terminalreporter.stats.get("skipped", [])]
    for reason in dict.fromkeys(reasons):
        terminalreporter.write_line(f"NOT RUN: {reasons.count(reason)} tests: {reason}", yellow=True, bold=True)


@pytest.fixture(autouse=True)
def _tier(request: pytest.FixtureRequest, record_property) -> None:
    record_property("tier", tier_of(request.node))


@pytest.fixture(autouse=True)
def _log() -> Iterator[None]:
    """A command line run within a test sets the log up for its whole process; the next test gets it as it was."""
    yield
    structlog.reset_defaults()
