"""A definition's file as editors, GitOps tools and kubelets change it: what is taken, what is refused, and when."""

import os
import time

import pytest
import yaml

from rayscaler.config.file import MOST_BYTES, DefinitionFile, content_hash
from rayscaler.errors import InvalidRequest

pytestmark = pytest.mark.tier("unit")

STEADY_S = 0.5


def text(*types: str, name: str = "demo", **spec: object) -> str:
    kinds = [{"name": each, "resources": {"CPU": 1}} for each in types]
    return yaml.safe_dump(
        {"apiVersion": "rayscaler.io/v1", "kind": "Cluster", "metadata": {"name": name}, "spec": {**spec, "nodeTypes": kinds}},
        sort_keys=False,
    )


class Eyes:
    """Looks at a file four times a second, in no time."""

    def __init__(self, path) -> None:
        self.file = DefinitionFile.read(path)
        self.now = 100.0

    def look(self, seconds: float = 2.0) -> list[tuple[str, ...]]:
        """What was told in so many seconds: the types of a definition, or the problems."""
        told = []
        for _ in range(round(seconds * 4)):
            self.now += 0.25
            try:
                found = self.file.look(self.now, STEADY_S)
                if found is not None:
                    assert found.content_hash == content_hash(self.file.path.read_bytes())
                    told.append(tuple(each.name for each in found.config.node_types))
            except InvalidRequest as error:
                told.append(tuple(map(str, error.problems)))
        return told


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "cluster.yaml"
    path.write_text(text("a"))
    return path


def in_place(path, content):
    path.write_text(content)


def by_rename(path, content):
    draft = path.with_name("draft")
    draft.write_text(content)
    draft.replace(path)


def with_the_same_size_and_time(path, content):
    before = path.stat()
    path.write_text(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.parametrize("write", [in_place, by_rename, with_the_same_size_and_time])
def test_an_edit_is_taken_once_within_a_second_however_it_was_written(path, write):
    eyes = Eyes(path)
    assert eyes.look() == []
    write(path, text("b"))
    assert eyes.look(1.0) == [("b",)]
    assert eyes.look(5.0) == []


def test_a_config_map_that_kubelet_swaps_is_followed(tmp_path):
    """The file is a link into ..data, which is a link to a directory with a time in its name."""
    for number, kind in enumerate("ab"):
        (tmp_path / f"..{number}").mkdir()
        (tmp_path / f"..{number}" / "cluster.yaml").write_text(text(kind))
    (tmp_path / "..data").symlink_to("..0")
    path = tmp_path / "cluster.yaml"
    path.symlink_to("..data/cluster.yaml")
    eyes = Eyes(path)
    (tmp_path / "..data_tmp").symlink_to("..1")
    (tmp_path / "..data_tmp").replace(tmp_path / "..data")
    assert eyes.look(1.0) == [("b",)]


def test_a_file_that_is_being_written_is_not_taken_half_though_the_half_is_valid(path):
    eyes = Eyes(path)
    whole = text("a", "b", "c", maxWorkers=9)
    half = whole[: whole.index("- name: b")]
    with path.open("w") as file:
        for part in ("", half, whole[len(half) :]):
            file.write(part)
            file.flush()
            assert eyes.look(0.5) == []
    assert eyes.look(1.0) == [("a", "b", "c")]


def test_a_bad_edit_is_told_once_with_every_problem_and_mended_by_the_old_text(path):
    eyes = Eyes(path)
    path.write_text(text("b", maxWorkers=-1, idleTimeout="soon").replace("CPU: 1", "CPU: x"))
    (problems,) = eyes.look()
    assert len(problems) == 3
    for rule in ("spec.maxWorkers", "spec.idleTimeout", "spec.nodeTypes[0].resources.CPU"):
        assert any(f"{path}: {rule}" in each for each in problems), problems
    path.write_text(text("a"))
    assert eyes.look() == [("a",)]


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda path: path.unlink(), "cannot be read: No such file or directory"),
        (lambda path: path.write_text(""), "is empty"),
        (lambda path: path.write_text("{" * 50), "YAML"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "cannot be read"),
        (lambda path: path.write_bytes(b"#" * (MOST_BYTES + 1)), "is larger than 1024 KiB"),
        (lambda path: (path.unlink(), path.mkdir()), "is not a file any more"),
        (lambda path: (path.unlink(), os.mkfifo(path)), "is not a file any more"),
        (lambda path: path.write_text(text("a", name="other")), "metadata.name: 'other': must stay 'demo'"),
        (lambda path: path.write_text(text("a", executor="k8s")), "spec.executor: 'k8s'"),
        (lambda path: path.write_text(text("a", executor="unix:///a")), "spec.executor: 'unix:///a': must stay 'local'"),
    ],
    ids=[
        "missing",
        "empty",
        "no YAML",
        "no text",
        "huge",
        "directory",
        "pipe",
        "another name",
        "no executor of this service",
        "another executor",
    ],
)
def test_what_is_no_definition_of_this_cluster_is_told_once(path, spoil, says):
    eyes = Eyes(path)
    spoil(path)
    (problems,) = eyes.look()
    assert any(says in each for each in problems), problems
    assert all(str(path) in each for each in problems)


def test_a_pipe_is_read_once_and_not_followed(path):
    eyes = Eyes(path)
    assert eyes.file.can_change
    path.unlink()
    os.mkfifo(path)
    assert not eyes.file.can_change


def test_a_look_is_cheap(path):
    """A hundred clusters are looked at four times a second each: 400 looks must take a small part of a second."""
    file = DefinitionFile.read(path)
    began = time.process_time()
    for number in range(400):
        file.look(number * 0.25, STEADY_S)
    assert time.process_time() - began < 0.5
