"""`helm`, and a `kubectl` of the same Kubernetes, as programs: of the Go module in tools/, built and kept as tests/cluster/binary.py does.

As a program it builds them and prints where they are.
"""

from pathlib import Path

from tests.cluster import binary

ROOT = Path(__file__).parents[2]
SOURCE = Path(__file__).parent / "tools"
CHART = ROOT / "charts/rayscaler"
HELM = "v4.0.5"
"""What go.mod pins: the newest of those made for the Kubernetes of tests/cluster."""


def build() -> Path:
    """Return the folder with both, building them unless they are there: some minutes with Go's own cache cold."""
    packages = ["helm.sh/helm/v4/cmd/helm", "./kubectl"]
    return binary.kept("tools", SOURCE, packages, " ".join(f"-X {name}={value}" for name, value in _stamps().items()))


def _stamps() -> dict[str, str]:
    """Return what both say they are; helm takes a Kubernetes that it was not told of for 1.20."""
    major, minor, _ = binary.KUBERNETES.removeprefix("v").split(".")
    helm = "helm.sh/helm/v4"
    stamps = {"k8s.io/component-base/version.gitVersion": binary.KUBERNETES, f"{helm}/internal/version.version": HELM}
    for place in (
        f"{helm}/pkg/chart/common.k8sVersion",
        f"{helm}/pkg/chart/v2/lint/rules.k8sVersion",
        f"{helm}/internal/version.kubeClientVersion",
    ):
        stamps |= {f"{place}Major": major, f"{place}Minor": minor}
    return stamps


if __name__ == "__main__":
    print(build())
