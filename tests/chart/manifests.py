"""`make manifests`: deploy/rayscaler.yaml is the chart with its default values, for those who have no helm. Read without helm: `objects`."""

import subprocess

import yaml

import rayscaler
from tests.chart import tools

MANIFESTS = tools.ROOT / "deploy/rayscaler.yaml"
HEAD = f"""\
# rayscaler for one namespace, by an administrator of that namespace, once the image (`make image`) is where the nodes can pull it:
#   sed 's|rayscaler:{rayscaler.__version__}|REGISTRY/&|' deploy/rayscaler.yaml | kubectl apply -n NAMESPACE -f -
# Made by `make manifests` from charts/rayscaler with its default values: change it there, or use the chart.
"""


def rendered() -> str:
    """Return what the file has to say."""
    argv = [tools.build() / "helm", "template", "rayscaler", tools.CHART, "--skip-tests"]
    return HEAD + subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def objects(kind: str) -> list[dict]:
    """Return the objects of a kind in the file."""
    return [each for each in yaml.safe_load_all(MANIFESTS.read_text()) if each["kind"] == kind]


if __name__ == "__main__":
    MANIFESTS.write_text(rendered())
