"""What the tests of the whole product share."""

import pytest

from tests.cluster.product import site


@pytest.fixture
async def ours(namespace, tmp_path):
    """A namespace in which the product can be run."""
    async with site(namespace, tmp_path) as made:
        yield made
