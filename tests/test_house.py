"""The habits of the code base that no linter checks: file and function lengths, one version, no stray registry hosts."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import rayscaler

pytestmark = pytest.mark.tier("unit")

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for path in (ROOT / "rayscaler").rglob("*.py") if "api" not in path.relative_to(ROOT).parts)
MAX_FILE = 400
MAX_FUNCTION = 40


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_passes_400_lines_and_no_function_40(path):
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno + 1 <= MAX_FUNCTION, f"{node.name} has {node.end_lineno - node.lineno + 1} lines"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_module_says_what_it_owns(path):
    assert ast.get_docstring(ast.parse(path.read_text()))


def test_the_version_stands_once_in_package_project_and_changelog():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert project == rayscaler.__version__
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert newest.group(1) == project


def test_every_product_package_says_its_laws():
    for init in (ROOT / "rayscaler").rglob("__init__.py"):
        if "api" not in init.relative_to(ROOT).parts:
            assert ast.get_docstring(ast.parse(init.read_text())), init


def test_neither_a_monitor_nor_local_mode_loads_what_only_kubernetes_needs():
    """Half a second and 60 MiB."""
    loads = "import sys, rayscaler.__main__, rayscaler.app.local, rayscaler.monitor.main; print({each.partition('.')[0] for each in sys.modules})"
    done = subprocess.run([sys.executable, "-c", loads], cwd=ROOT, check=True, capture_output=True, text=True)
    assert not {"kubernetes", "cryptography", "jwt"} & ast.literal_eval(done.stdout)
