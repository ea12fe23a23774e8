"""What all tests of the monitor need."""

import asyncio

import pytest


@pytest.fixture(scope="session", autouse=True)
def _no_stray_event_loop() -> None:
    """Say that no loop is current, or looptime makes one for the first test without asyncio, which nobody closes."""
    asyncio.set_event_loop(None)
