"""What is installed where there is no compiler plans the same."""

import os
import shutil
import subprocess
import sys
import zipfile

import pytest

from rayscaler.planner.mix.library import library
from rayscaler.planner.plan import plan
from tests.planner.test_mix import PAIRS, STEPS, asked, kind

ROOT = library().parents[3]
ASKED = """
import sys
from rayscaler.planner.mix.library import library
from tests.planner.test_without_compiler import answer
assert str(library()).startswith(sys.argv[1]), library()
assert not library().exists()
print(answer())
"""

pytestmark = [pytest.mark.tier("unit"), pytest.mark.timeout(120)]


def answer():
    """Return a plan, as text, that differs from the first one."""
    return repr(plan(asked(kind("ten", 1.0, CPU=10), demands=PAIRS), STEPS))


def test_a_wheel_made_without_a_compiler_plans_the_same(tmp_path):
    wheel = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(tmp_path)]
    source = tmp_path / "source"
    for folder in ("rayscaler", "deploy", "examples"):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    for each in (each for each in ROOT.iterdir() if each.is_file()):
        shutil.copy(each, source)
    subprocess.run([*wheel, str(source)], check=True, env={**os.environ, "CC": "no-such-compiler"})
    (made,) = tmp_path.glob("*.whl")
    assert made.name.endswith("-py3-none-any.whl")
    with zipfile.ZipFile(made) as archive:
        assert not [each for each in archive.namelist() if each.endswith(".so")]
        archive.extractall(tmp_path / "installed")
    told = subprocess.run(
        [sys.executable, "-c", ASKED, str(tmp_path)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path / "installed"), str(ROOT)])},
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    assert told.stdout.strip() == answer()
