"""Where the compiled file of native.c is: named by what it was made of, so that one that is stale is not found.

Needs nothing else of rayscaler, because an installation asks before there is one.
"""

import hashlib
from functools import cache
from pathlib import Path

SOURCE = Path(__file__).with_name("native.c")


@cache
def library(folder: Path = SOURCE.parent) -> Path:
    """Return where it is in this folder, if it was made."""
    return folder / f"_native_{hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]}.so"
