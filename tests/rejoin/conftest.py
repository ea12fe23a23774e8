"""What the tests of the supervisor stand on: a GCS and a `ray start` that only look like them."""

import pytest

from tests.rejoin import standin


@pytest.fixture
def gcs():
    """A GCS that answers from the start."""
    made = standin.Gcs()
    made.open()
    yield made
    made.end()


@pytest.fixture
def ray(tmp_path):
    """What is started in place of Ray."""
    return standin.Ray(tmp_path)
