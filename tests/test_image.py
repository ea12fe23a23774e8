"""What goes into the images is locked, the same on every day, and the same by both ways of building."""

import hashlib
import json
import os
import re
import tarfile
import tomllib
from pathlib import Path

import pytest

from deploy import image, layers
from deploy.layers import Recipe

pytestmark = pytest.mark.tier("unit")

ROOT = Path(__file__).parents[1]
LOCKS = [ROOT / "deploy/requirements.lock", ROOT / "tests/e2e/ray.lock"]


@pytest.mark.parametrize("part", LOCKS, ids=lambda path: path.name)
def test_an_image_takes_the_versions_and_hashes_that_the_tests_ran_with(part):
    whole, taken = _locked(ROOT / "requirements.lock"), _locked(part)
    assert taken
    assert {name: whole.get(name) for name in taken} == taken


def test_the_service_s_image_takes_what_rayscaler_needs_and_no_ray():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = {re.split(r"[<>=]", each)[0].lower() for each in project["dependencies"]}
    taken = {name.partition("==")[0] for name in _locked(image.LOCK)}
    assert needed <= taken
    assert "ray" not in taken


def test_the_dockerfile_makes_the_same_image():
    text = (ROOT / "deploy/Dockerfile").read_text()
    assert f"USER {image.USER}:{image.USER}\n" in text
    assert f"ENV PYTHONPATH=/{image.PLACE} HOME=/tmp\n" in text
    assert f"COPY rayscaler /{image.PLACE}/rayscaler\n" in text


def test_a_layer_has_the_same_bytes_whenever_and_by_whomever_it_is_made(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def make(root: Path) -> None:
        layers.write(root / "b/file", "x", mode=0o755)
        layers.write(root / "a", b"")
        (root / "link").symlink_to("a")

    def make_later(root: Path) -> None:
        make(root)
        for path in root.rglob("*"):
            os.utime(path, (1, 1), follow_symlinks=False)

    first, second = Recipe("first", layers.key(b"1"), make), Recipe("second", layers.key(b"2"), make_later)
    assert first.tar.read_bytes() == second.tar.read_bytes()
    assert first.tar.stem == second.tar.stem


def test_a_layer_is_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = []
    recipe = Recipe("one", layers.key(b""), made.append)
    assert recipe.tar == recipe.tar
    assert len(made) == 1


def test_images_of_one_archive_share_their_layers_and_tell_how_each_was_made(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    below = Recipe("below", layers.key(b"1"), lambda root: layers.write(root / "a", "a"))
    above = Recipe("above", layers.key(b"2"), lambda root: layers.write(root / "b", "b"))
    one, two = layers.Image(["one:1", "uno:1"], [below], {}), layers.Image(["two:1"], [below, above], {}, {"PATH": "/b"})
    layers.archive(tmp_path / "it.tar", one, two)
    with tarfile.open(tmp_path / "it.tar") as archive:
        members = {each.name: archive.extractfile(each).read() for each in archive}
    told = json.loads(members["manifest.json"])
    assert [each["RepoTags"] for each in told] == [["one:1", "uno:1"], ["two:1"]]
    assert len(members) == 1 + 2 + 2, "a layer is there once"
    for each in told:
        config = json.loads(members[each["Config"]])
        digests = [f"sha256:{hashlib.sha256(members[name]).hexdigest()}" for name in each["Layers"]]
        assert config["rootfs"]["diff_ids"] == digests
        assert len(config["history"]) == len(digests)
    assert json.loads(members[told[1]["Config"]])["config"]["Env"] == ["PATH=/b"]


def _locked(path: Path) -> dict[str, frozenset[str]]:
    """Return the hashes of each `name==version` in a lock file."""
    found: dict[str, set[str]] = {}
    name = ""
    for line in path.read_text().splitlines():
        if match := re.match(r"([a-z0-9._-]+==\S+)", line):
            name = match.group(1)
        elif match := re.search(r"--hash=(\S+)", line):
            found.setdefault(name, set()).add(match.group(1))
    return {name: frozenset(hashes) for name, hashes in found.items()}
