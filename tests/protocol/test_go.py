"""The monitor in Go is Go as others write it."""

import pytest

from tests.protocol import go_monitor

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(600)]  # the first builds Go


def test_the_monitor_in_go_is_formatted_and_vetted():
    assert go_monitor.check() == ""
