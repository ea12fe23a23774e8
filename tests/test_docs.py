"""The reference is made of schema and code, and no older than they are."""

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


def _links(text: str) -> list[str]:
    """Return the files that a page links to, without the place in them."""
    found = [part.partition(")")[0] for part in text.split("](")[1:]]
    return [each.partition("#")[0] for each in found if not each.startswith(("http", "#"))]
