"""Half a CPU for some processes, as a container with that limit has it: of every 100 ms they run 50 together, on one CPU; and what memory they took.

The kernel's own limits need rights that tests do not have.
"""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

SLICE_S = 0.05


@contextlib.asynccontextmanager
async def half_a_cpu(pids: Callable[[], Sequence[int]]) -> AsyncIterator[None]:
    """Limit what `pids` returns, which is asked every time: a process may get children."""
    limiting = asyncio.create_task(_limit(pids))
    try:
        yield
    finally:
        limiting.cancel()
        await asyncio.wait({limiting})
        _signal(pids(), signal.SIGCONT)


async def _limit(pids: Callable[[], Sequence[int]]) -> None:
    cpu, ran_s = min(os.sched_getaffinity(0)), SLICE_S
    while True:
        found = pids()
        for each in found:
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(each, {cpu})
        _signal(found, signal.SIGSTOP)
        await asyncio.sleep(ran_s)
        _signal(found, signal.SIGCONT)
        began = time.monotonic()
        await asyncio.sleep(SLICE_S)
        ran_s = time.monotonic() - began  # more than a slice where this process had to wait itself


def _signal(pids: Sequence[int], number: signal.Signals) -> None:
    for each in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, number)


def memory_mib(pids: Sequence[int], what: str = "VmRSS") -> float:
    """Return the memory of some processes; `what` is VmHWM for the most that each has had."""
    return sum(_field(each, what) for each in pids) / 1024


def _field(pid: int, name: str) -> int:
    (line,) = [each for each in Path(f"/proc/{pid}/status").read_text().splitlines() if each.startswith(f"{name}:")]
    return int(line.split()[1])


def cpu_s(pids: Sequence[int]) -> float:
    """Return the CPU seconds that some processes have had."""
    ticks = [Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split() for each in pids]
    return sum(int(each[11]) + int(each[12]) for each in ticks) / os.sysconf("SC_CLK_TCK")
