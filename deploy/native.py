"""Compiles rayscaler's one file in C: python deploy/native.py [root]. Needs the standard library alone.

Where there is no compiler, rayscaler does the same in Python.
"""

import contextlib
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
LIBRARY = "rayscaler/planner/mix/library.py"
FLAGS = ("-O2", "-std=c99", "-Wall", "-Wextra", "-Werror", "-ffp-contract=off", "-fPIC", "-shared")
"""Without contraction sums come out as Python has them."""
TIMEOUT_S = 120


def compile_native(root: Path = ROOT, folder: Path | None = None) -> str:
    """Compile beside the source, or into `folder`; return why that was not possible, or ""."""
    names: dict[str, Any] = runpy.run_path(str(root / LIBRARY))
    source: Path = names["SOURCE"]
    folder = folder or source.parent
    target: Path = names["library"](folder)
    if target.exists():
        return ""
    command = [*os.environ.get("CC", "cc").split(), *FLAGS, str(source), "-o"]
    try:
        with tempfile.TemporaryDirectory(dir=folder) as made:
            subprocess.run([*command, f"{made}/native.so"], check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
            for stale in folder.glob("_native_*.so"):
                with contextlib.suppress(FileNotFoundError):
                    stale.unlink()
            Path(f"{made}/native.so").replace(target)
    except subprocess.CalledProcessError as error:
        return str(error.stderr)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return ""


if __name__ == "__main__":
    sys.exit(compile_native(*map(Path, sys.argv[1:])) or 0)
