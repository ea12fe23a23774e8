"""Fixtures of plugins."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.plugin.stage import Stage


@pytest.fixture
async def stage(tmp_path) -> AsyncIterator[Stage]:
    made = Stage(tmp_path / "plugins")
    yield made
    await made.end()
    left = [each.name for each in made.directory.iterdir()] if made.directory.exists() else []
    assert left == []


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory whose path leaves room for a socket's, as those that pytest makes do not."""
    made = Path(tempfile.mkdtemp(prefix="p-"))
    yield made
    shutil.rmtree(made, ignore_errors=True)
