"""python -m tests.soak [--seed N] [--minutes N] [--out FILE] [--only TEXT]: the tests of lost heads, of kills and of garbage, in full numbers.

Rounds with a seed each: scenario 2 with stored state and without, with 1 and with 20 restarts in a row; 11 rounds per victim (service,
monitor, head) of a scale-up and a scale-down, each with a kill -9; every other round's kills come between a write and its effect;
50 client sessions over 10 minutes without rayscaler (F5, F6); 10,000 random reports (F5); and every test that does less in `make verify`
than was asked for, in full (tests/counts.py).
The file has one JSON line per round; a round that stands there with the same seed is not run again, so a broken-off soak goes on.
Exit code 1: some round of this seed violated something.
"""

import argparse
import asyncio
import json
import os
import random
import sys
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import counts
from tests.ray.clients import clients_stay
from tests.ray.head_loss import head_dies
from tests.ray.kills import SPEC, VICTIMS, Round
from tests.ray.wreck import wreck
from tests.server import test_garbage

RESTARTS, KILLS, REPORTS = 20, 11, 10_000  # a trap may never be sprung: with ten, less than half of the kills came between
SESSIONS, AWAY_S, PAUSE_S = 50, 600.0, 20.0
"""Of client sessions: how many, how long rayscaler is away, and the pause between two calls of each."""
ERROR_CHARS = 12000
"""Of a failure, the end is kept: what was seen and said last."""


@dataclass(frozen=True)
class Garbage:
    """How many random reports each of the tests gave."""

    reports: int


@dataclass(frozen=True)
class InFull:
    """A file of tests that was run with all that was asked for."""

    file: str


Run = Callable[[int], Awaitable[list[Any]]]


def rounds() -> Iterator[tuple[str, Run]]:
    """Yield every round's name and what runs it with a seed: short ones first, so that a short soak has seen something of each kind."""
    for is_stored in (True, False):
        yield f"head-loss {_storage(is_stored)} 1 restart", partial(head_dies, is_stored=is_stored, restarts=1)
    for number in range(KILLS):
        is_between, is_stored = number % 2 == 0, number % 4 >= 2
        for victim in VICTIMS:
            yield f"kill {victim} {number}", partial(_kill, victim=victim, is_between=is_between, is_stored=is_stored)
        if number < 2:
            is_stored = number == 0
            yield f"head-loss {_storage(is_stored)} {RESTARTS} restarts", partial(head_dies, is_stored=is_stored, restarts=RESTARTS)
    yield f"{REPORTS} random reports", random_reports
    yield f"{SESSIONS} client sessions", lambda _: clients_stay(sessions=SESSIONS, away_s=AWAY_S, pause_s=PAUSE_S)
    for path in counted_tests():  # last, for a round's number is part of its seed
        yield f"in full {path.stem.removeprefix('test_')}", partial(in_full, path=path)


def counted_tests() -> list[Path]:
    """Return the files of tests that ask how much to do."""
    here = Path(__file__).parent
    found = [path for path in here.rglob("test_*.py") if f"from {counts.__name__} import" in path.read_text()]
    return sorted(path.relative_to(here.parent) for path in found)


def _storage(is_stored: bool) -> str:
    return "stored" if is_stored else "unstored"


async def _kill(seed: int, *, victim: str, is_between: bool, is_stored: bool) -> list[Any]:
    async with wreck(SPEC, is_stored=is_stored) as stack:
        going = Round(stack, victim, random.Random(seed), 0)
        try:
            return await going.run((is_between, is_between))
        except (Exception, pytest.fail.Exception) as error:
            error.add_note("\n".join(map(str, going.blows)))
            raise


async def random_reports(seed: int) -> list[Any]:
    """Run the tests of random reports, in a process of their own, with as many examples as F5 asks for."""
    await _pytest(f"--hypothesis-seed={seed}", "tests/server/test_garbage.py", **{test_garbage.EXAMPLES: str(REPORTS), counts.IN_FULL: "1"})
    return [Garbage(REPORTS)]


async def in_full(seed: int, *, path: Path) -> list[Any]:
    """Run a file of tests, in a process of its own, that does all that was asked for."""
    await _pytest(f"--randomly-seed={seed}", f"--hypothesis-seed={seed}", str(path), **{counts.IN_FULL: "1"})
    return [InFull(str(path))]


async def _pytest(*args: str, **env: str) -> None:
    argv = [sys.executable, "-m", "pytest", "-q", *args]
    process = await asyncio.create_subprocess_exec(*argv, env={**os.environ, **env}, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()
    assert process.returncode == 0, out.decode()


def run(name: str, seed: int, work: Run) -> dict[str, Any]:
    """Run one round; a failure of any kind is a violation."""
    began = time.monotonic()
    result: dict[str, Any] = {"round": name, "seed": seed, "violation": "", "facts": []}
    try:
        result["facts"] = [asdict(each) for each in asyncio.run(work(seed))]
    except (Exception, pytest.fail.Exception):  # noqa: BLE001 - a soak goes on, and tells
        result["violation"] = traceback.format_exc()[-ERROR_CHARS:]
    return {**result, "seconds": round(time.monotonic() - began, 1)}


def main() -> int:
    """Run what is not done yet until the time is over; print a table."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1, help="every round's own seed follows from it (default 1)")
    parser.add_argument("--minutes", type=float, default=60.0, help="no round begins after so many (default 60)")
    parser.add_argument("--out", type=Path, default=Path("build/soak.jsonl"), help="results, and where to go on (default build/soak.jsonl)")
    parser.add_argument("--only", default="", help="only rounds with this in their name, such as head-loss, kill, reports, sessions")
    given = parser.parse_args()
    deadline = time.monotonic() + given.minutes * 60
    given.out.parent.mkdir(parents=True, exist_ok=True)
    lines = given.out.read_text().splitlines() if given.out.exists() else []
    done = {(each["round"], each["seed"]): each for each in map(json.loads, lines)}
    results, missing = [], 0
    for number, (name, work) in enumerate(rounds()):
        if given.only not in name:
            continue
        seed = given.seed * 1000 + number
        result = done.get((name, seed))
        if result is None and time.monotonic() < deadline:
            print(f"== {name}, seed {seed}", flush=True)
            result = run(name, seed, work)
            with given.out.open("a") as out:
                out.write(json.dumps(result) + "\n")
        if result is None:
            missing += 1
        else:
            results.append(result)
    return _tell(results, missing)


def _tell(results: list[dict[str, Any]], missing: int) -> int:
    for each in results:
        said = each["violation"].strip().splitlines()[-1:] or ["ok"]
        print(f"{each['round']:34} seed {each['seed']:<8} {each['seconds']:7.1f} s  {said[0][:120]}")
    violations = sum(bool(each["violation"]) for each in results)
    blows = [blow for each in results for blow in each["facts"] if "moment" in blow]
    between = sum(blow["moment"].startswith("behind") and "never" not in blow["moment"] for blow in blows)
    restarts = sum("first_action_s" in fact for each in results for fact in each["facts"])
    print(f"{len(results)} rounds, {violations} violations, {missing} not run")
    print(f"{len(blows)} kills, {between} between a write and its effect; {restarts} restarts of a head half-way up")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
