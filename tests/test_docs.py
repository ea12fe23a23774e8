"""The reference is made of schema and code, and no older than they are."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

pytestmark = pytest.mark.tier("unit")


def test_the_reference_is_what_schema_and_code_say():
    done = subprocess.run([sys.executable, "docs/generate.py", "--check"], cwd=ROOT, check=False)
    assert done.returncode == 0, "docs/reference.md is stale: run `make docs` and commit"


def test_every_page_is_linked_and_every_link_leads_somewhere():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "proto/SPEC.md"]
    links = {(page, target) for page in pages for target in _links(page.read_text())}
    missing = [(page.name, target) for page, target in links if not (page.parent / target).exists()]
    assert not missing
    linked = {(page.parent / target).resolve() for page, target in links}
    assert not [page.name for page in pages[1:] if page.resolve() not in linked]


def test_what_the_planner_is_said_to_do_is_tested():
    rows = [line for line in (ROOT / "docs/planning.md").read_text().splitlines() if line.startswith("| ") and "shown by" not in line]
    shown = {row: re.findall(r"`([a-z]+/[^` ]+)`", row.split(" | ")[-1]) for row in rows}
    assert len(shown) > 40
    assert [row for row, tests in shown.items() if not tests] == []
    assert [each for tests in shown.values() for each in tests if not _is_there(each)] == []


def _is_there(said: str) -> bool:
    """Whether a scenario (`scenarios/its-name`) or a test (`planner/test_file::test_name`) of that name exists."""
    file, _, name = said.partition("::")
    path = ROOT / "tests" / (f"{file}.py" if name else f"{file}.yaml")
    return path.exists() and (not name or f"def {name}(" in path.read_text())


def _links(text: str) -> list[str]:
    """Return the files that a page links to, without the place in them."""
    found = [part.partition(")")[0] for part in text.split("](")[1:]]
    return [each.partition("#")[0] for each in found if not each.startswith(("http", "#"))]
