"""Compile native.c beside itself. Needs nothing of rayscaler, so that an installation can run it before there is one.

The file is named by what it was made of: one that is stale is not found, and one that is found is right.
"""

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("native.c")
FLAGS = ("-O2", "-std=c99", "-Wall", "-Wextra", "-ffp-contract=off", "-fPIC", "-shared")
"""Without contraction sums come out as Python has them."""
TIMEOUT_S = 120


def library(folder: Path = SOURCE.parent) -> Path:
    """Return where the compiled file of this source is, if it was made."""
    return folder / f"_native_{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}.so"


def compile_native(folder: Path = SOURCE.parent) -> str:
    """Compile; return why that was not possible, or ""."""
    target = library(folder)
    if target.exists():
        return ""
    command = [*os.environ.get("CC", "cc").split(), *FLAGS, str(SOURCE), "-o"]
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
    sys.exit(compile_native() or 0)
