"""What the one file must be to run in any Ray image."""

import ast
import sys
from pathlib import Path

import pytest

from rayscaler import rejoin

pytestmark = pytest.mark.tier("unit")

TREE = ast.parse(Path(rejoin.__file__).read_text(), feature_version=(3, 9))


def test_it_imports_the_standard_library_alone_and_nothing_heavy():
    imported = {alias.name for node in ast.walk(TREE) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module for node in ast.walk(TREE) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names
    assert not imported & {"asyncio", "typing", "subprocess", "pathlib", "logging", "argparse", "threading"}


def test_nothing_of_it_needs_more_than_python_3_9():
    assert not [node for node in ast.walk(TREE) if isinstance(node, ast.Match)]
    (future,) = [node for node in TREE.body if isinstance(node, ast.ImportFrom) and node.module == "__future__"]
    assert [alias.name for alias in future.names] == ["annotations"]  # X | None is text there


def test_its_own_exit_codes_are_none_of_rays():
    codes = [rejoin.ENDED, rejoin.DRAINED, rejoin.NOT_RUNNABLE, rejoin.PRELUDE_FAILED, rejoin.USAGE]
    assert len(set(codes)) == 5
    assert not set(codes[1:]) & ({1, 2} | set(range(126, 256)))
