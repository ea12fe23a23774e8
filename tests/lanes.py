"""python -m tests.lanes [pytest's arguments]: all tests but those of e2e, in two lanes at once, since most of them wait most of the time.

One lane has the tests of real Ray, the other all the rest. What they print comes line by line, each with its lane's
name. Exit code 0 only where no lane failed; 5, as pytest has it, where no lane found a test.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence

LANES = {"ray": "ray", "rest": "unit,property,protocol,cluster"}
"""Each lane's tiers (tests/conftest.py), of which both take some half of the time."""
NOTHING = 5
"""pytest's exit code where it found no test."""


def command(tiers: str, args: Sequence[str]) -> list[str]:
    """Return the command of one lane."""
    return [sys.executable, "-m", "pytest", "--ignore", "tests/e2e", f"--tiers={tiers}", *args]


def run(commands: Mapping[str, Sequence[str]]) -> int:
    """Run all at once, print what they say as it comes; return what to exit with."""
    env = {**os.environ, "PYTHONUNBUFFERED": "1"}
    lanes = {
        name: subprocess.Popen(argv, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        for name, argv in commands.items()
    }
    readers = [threading.Thread(target=_tell, args=(name, lane)) for name, lane in lanes.items()]
    try:
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join()
        return verdict([lane.wait() for lane in lanes.values()])
    finally:
        for lane in lanes.values():
            lane.terminate()  # nothing, where it has ended


def verdict(codes: Sequence[int]) -> int:
    """Return the worst of the lanes' exit codes; a lane without a test is none, unless all are."""
    failed = [code for code in codes if code not in {0, NOTHING}]
    return 1 if failed else min(codes)


def _tell(name: str, lane: "subprocess.Popen[str]") -> None:
    assert lane.stdout is not None
    with lane.stdout:
        for line in lane.stdout:
            sys.stdout.write(f"{name} | {line}")
            sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(run({name: command(tiers, sys.argv[1:]) for name, tiers in LANES.items()}))
