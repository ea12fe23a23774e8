"""The plugins in Go are Go as others write it, around the real go-plugin."""

import pytest

from tests.cluster import binary
from tests.plugin import fleet, go_plugin

pytestmark = [pytest.mark.tier("protocol"), pytest.mark.timeout(600)]  # the first builds Go


@pytest.mark.parametrize("source", [go_plugin.SOURCE, go_plugin.STUBS, fleet.SOURCE], ids=["plugin", "stubs", "ssh example"])
def test_sources_in_go_are_formatted_and_vetted(source):
    assert binary.unformatted(source) == ""
    binary.run_go(source, "vet", "./...")


def test_it_is_the_real_go_plugin():
    assert "github.com/hashicorp/go-plugin" in binary.run_go(go_plugin.SOURCE, "list", "-deps", ".").split()
    assert "=>" not in binary.run_go(go_plugin.SOURCE, "list", "-m", "github.com/hashicorp/go-plugin")  # replaced by nothing
