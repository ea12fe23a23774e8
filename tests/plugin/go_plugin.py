"""The plugin of tests/plugin/go as a program: the real go-plugin around a fake executor. As a program this prints its path."""

from pathlib import Path

from tests.cluster.binary import kept

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).parent / "go"
STUBS = ROOT / "proto/go"


def build() -> Path:
    """Return the program, built unless one of the same sources is there: a minute with Go's own cache cold."""
    return kept("plugin", SOURCE, ["."], beside=STUBS) / "plugin"


if __name__ == "__main__":
    print(build())
