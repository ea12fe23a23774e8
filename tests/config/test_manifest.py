"""`validate` looks into the manifest of a ConfigMap: what is in it is judged as the service in its namespace will judge it."""

from pathlib import Path

import pytest
import yaml

from rayscaler.config import load
from rayscaler.k8s import labels

pytestmark = pytest.mark.tier("unit")

EXAMPLE = Path(__file__).parents[2] / "examples/kubernetes/cluster.yaml"
TEXT = EXAMPLE.read_text()


def checked(path: Path, text: str) -> load.Checked:
    path.write_text(text)
    return load.check_all([path])[path]


def test_the_example_is_good_and_what_its_types_offer_is_read_from_their_templates():
    found = load.check_all([EXAMPLE])[EXAMPLE]
    assert found.problems == found.warnings == ()
    assert found.config.executor == "k8s"
    offered = {each.name: each.resources.get("CPU") // 10_000 for each in found.config.node_types}
    assert offered == {"small": 1, "large": 3}


def test_the_example_carries_the_label_that_the_service_selects():
    assert labels.CLUSTER in yaml.safe_load(TEXT)["metadata"]["labels"]


def test_the_one_key_may_have_any_name_and_others_may_stand_beside_cluster_yaml(tmp_path):
    for text in (TEXT.replace("  cluster.yaml: |", "  mine: |"), TEXT + "  notes: mine\n"):
        assert checked(tmp_path / "c.yaml", text).config.name == "demo"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("labels: {rayscaler.io/cluster: demo}", "labels: {app: demo}", "metadata.labels: {'app': 'demo'}: must have rayscaler.io/cluster"),
        ("  name: demo\n", "  name: other\n", "data['cluster.yaml']: metadata.name: 'demo': must be other, as the ConfigMap is called"),
        ("  name: demo\n", "  name: Demo\n", "metadata.name: 'Demo': must be "),
        ("  cluster.yaml: |", "  cluster.yaml:", "data['cluster.yaml']: {'apiVersion': 'rayscaler.io/v1', "),
        ("  cluster.yaml: |", "  a: b\n  mine: |", "data['cluster.yaml']: None: must be the definition as text"),
        ("maxWorkers: 2", "maxWorker: 2", "data['cluster.yaml']: spec.nodeTypes[1].maxWorker: 'maxWorker': unknown key"),
        ("maxWorkers: 2", "maxWorkers: [", "data['cluster.yaml']: line "),
        ("kind: ConfigMap", "kind: ConfigMap\nkind: ConfigMap", "kind: 'kind': stands in line "),
    ],
)
def test_what_is_wrong_is_told_with_its_place(tmp_path, before, after, said):
    assert before in TEXT
    found = checked(tmp_path / "c.yaml", TEXT.replace(before, after, 1))
    assert found.config is None
    assert str(found.problems[0]).startswith(said)


def test_every_problem_of_the_text_is_told_and_warnings_too(tmp_path):
    found = checked(tmp_path / "c.yaml", TEXT.replace("idleTimeout: 1m", "idleTimeout: 1m\n      maxWorker: 1").replace("large", "small"))
    assert [each.path for each in found.problems] == [
        "data['cluster.yaml']: spec.maxWorker",
        "data['cluster.yaml']: spec.nodeTypes[1].name",
    ]
    warned = checked(tmp_path / "c.yaml", TEXT.replace("idleTimeout: 1m", "idleTimeout: 1s"))
    assert [each.path for each in warned.warnings] == ["data['cluster.yaml']: spec.idleTimeout"]


def test_a_manifest_is_for_kubernetes_and_no_definition_of_a_file(tmp_path):
    assert str(load.check(EXAMPLE).problems[0]).startswith("data: ")
