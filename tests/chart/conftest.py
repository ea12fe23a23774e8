"""What the tests of the chart on a cluster share."""

from pathlib import Path

import pytest

from tests.chart.deployer import Deployer, administrator
from tests.cluster.namespaces import Namespace


@pytest.fixture
async def deployer(namespace: Namespace, tmp_path: Path) -> Deployer:
    """Who administers the test's namespace, which takes restricted pods only."""
    return await administrator(namespace, tmp_path)
