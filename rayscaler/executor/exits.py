"""What the end of a worker's supervisor (`rayscaler/rejoin.py`) means, in words. Pure."""

from rayscaler import rejoin

MEANINGS = {
    rejoin.ENDED: "ended by a SIGTERM that was not ours",
    rejoin.DRAINED: "its node was drained",
    rejoin.NOT_RUNNABLE: "`ray` cannot be run",
    rejoin.PRELUDE_FAILED: "its prelude failed",
    rejoin.USAGE: "its supervisor was started wrongly",
}


def meaning(code: int | None) -> str:
    """Say what an exit code of a supervisor means; negative: a signal that killed the supervisor itself."""
    if code is None:
        return "exit code unknown (started by an earlier process)"
    if code < 0:
        return f"killed by signal {-code}"
    return MEANINGS.get(code, f"exit code {code}")
