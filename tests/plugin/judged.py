"""`rayscaler conformance` as a process, and what it found."""

import asyncio
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMES_NOTHING = "serves-what-it-names"
"""Not made of a plugin that has no optional capability."""
OVER_TLS = {"plain-text-has-no-answer", "strangers-have-no-answer"}
"""Made at dns:/// addresses only."""
OF_A_START = {
    *("greets-its-host", "serves-nobody-without-its-cookie", "prints-no-secrets", "ends-when-it-is-told-to", "ends-with-sigterm"),
    *("instances-live-on", "knows-its-specs-after-a-crash", "knows-its-replicas-after-a-crash", "an-end-goes-on-after-a-crash"),
    *("a-crash-in-a-launch-loses-nothing", "an-old-bookmark-is-refused-or-kept"),
}
"""Made of a plugin that is started only."""


async def command(*flags: str, env: dict[str, str] | None = None) -> asyncio.subprocess.Process:
    """Start it."""
    return await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "rayscaler", "conformance", *flags),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
    )


async def told(*flags: str, env: dict[str, str] | None = None) -> tuple[int | None, dict]:
    """Run the command to its end; return its code and what it told as JSON."""
    made = await command(*flags, "--json", env=env)
    out, err = await made.communicate()
    assert out, err.decode()
    return made.returncode, json.loads(out)


def failures(document: dict) -> dict[str, str]:
    """Return the checks that failed, with what was wrong."""
    return {each["name"]: each["detail"] for each in document["checks"] if each["outcome"] == "failed"}


def skipped(document: dict) -> set[str]:
    """Return the checks that were not made."""
    return {each["name"] for each in document["checks"] if each["outcome"] == "skipped"}
