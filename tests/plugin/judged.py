"""`rayscaler conformance` as a process, and what it found."""

import asyncio
import json
import os
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


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
