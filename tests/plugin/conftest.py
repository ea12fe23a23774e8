"""Fixtures of plugins."""

from collections.abc import AsyncIterator

import pytest

from tests.plugin.stage import Stage


@pytest.fixture
async def stage(tmp_path) -> AsyncIterator[Stage]:
    made = Stage(tmp_path / "plugins")
    yield made
    await made.end()
    left = [each.name for each in made.directory.iterdir()] if made.directory.exists() else []
    assert left == []
