"""What is promised of the protocols stays: `make lint` compares them with proto/baseline.binpb, and finds what would break others."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.tier("unit"), pytest.mark.timeout(60)]

ROOT = Path(__file__).parents[1]
BUF = Path(sys.executable).parent / "buf"
BASELINE = ROOT / "proto/baseline.binpb"
EXECUTOR, HEAD, GCS = (f"proto/rayscaler/api/{name}.proto" for name in ("executor/v1/executor", "head/v1/head", "gcs/v1/gcs"))


def compared(directory: Path) -> str:
    """Compare what stands in a directory with what is promised; return what breaks it."""
    done = subprocess.run([BUF, "breaking", "--against", BASELINE], cwd=directory, check=False, capture_output=True, text=True)
    assert (done.returncode != 0) == bool(done.stdout), done.stderr
    return done.stdout


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of the protocols, to be changed."""
    shutil.copytree(ROOT / "proto", tmp_path / "proto", ignore=shutil.ignore_patterns("go", "*.binpb"))
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    return tmp_path


def test_the_protocols_keep_what_was_promised():
    assert compared(ROOT) == ""


def test_the_lint_compares_with_the_same():
    (line,) = [each for each in (ROOT / "Makefile").read_text().splitlines() if "buf breaking" in each]
    assert line.strip() == f"$(VENV)/bin/buf breaking --against {BASELINE.relative_to(ROOT)}"


@pytest.mark.parametrize(
    ("file", "old", "new", "told"),
    [
        (EXECUTOR, "  PHASE_GONE = 6;\n", "", 'Previously present enum value "6" on enum "Phase" was deleted'),
        (EXECUTOR, "PHASE_GONE = 6;", "PHASE_ENDED = 6;", 'Enum value "6" on enum "Phase" changed name'),
        (EXECUTOR, "rpc Resume(", "rpc WakeUp(", 'Previously present RPC "Resume" on service "ExecutorService" was deleted'),
        (
            HEAD,
            "string blind = 4;",
            "string blind = 40;",
            'Previously present field "4" with name "blind" on message "ClusterStatus" was deleted',
        ),
        (HEAD, "string blind = 4;", "bytes blind = 4;", 'Field "4" with name "blind" on message "ClusterStatus" changed type'),
        (EXECUTOR, "package rayscaler.api.executor.v1;", "package rayscaler.api.executor.v2;", "executor.v2"),
    ],
)
def test_what_breaks_others_is_found(copy, file, old, new, told):
    text = (copy / file).read_text()
    assert text.count(old) == 1
    (copy / file).write_text(text.replace(old, new))
    assert told in compared(copy)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        (HEAD, "string blind = 4;", "string blind = 4;\n  // New.\n  string newer = 400;"),
        (EXECUTOR, "PHASE_GONE = 6;", "PHASE_GONE = 6;\n  // New.\n  PHASE_NEWER = 7;"),
        (GCS, "package rayscaler.api.gcs.v1;", "package rayscaler.api.gcs.v1;\n// New.\nmessage Newer {}"),
    ],
)
def test_what_is_added_breaks_nobody(copy, file, old, new):
    text = (copy / file).read_text()
    assert text.count(old) == 1
    (copy / file).write_text(text.replace(old, new))
    assert compared(copy) == ""
