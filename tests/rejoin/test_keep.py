"""Mode keep: a command that runs again after each exit, until it is told to end."""

import os
import signal
import sys

import pytest

from rayscaler import rejoin
from tests.rejoin.supervised import Supervised, soon, tree

pytestmark = pytest.mark.tier("protocol")

FOREVER = "import time; time.sleep(600)"
LEAVING = "import os, subprocess, sys, time; subprocess.Popen([sys.executable, '-S', '-c', 'import time; time.sleep(600)'])"
ESCAPING = LEAVING.replace("])", "], start_new_session=True)") + "; time.sleep(600)"


@pytest.fixture
async def keep(tmp_path):
    made = []

    def supervised(code):
        made.append(Supervised(tmp_path, "keep", [sys.executable, "-S", "-c", code]))
        return made[-1]

    yield supervised
    for each in made:
        await each.close()


async def test_a_killed_command_runs_again_at_once_and_then_later(keep):
    """Design §2b.4."""
    kept = keep(FOREVER)
    first = await kept.until("running", 1)
    os.kill(first["pid"], signal.SIGKILL)
    second = await kept.until("running", 2)
    told = len(kept.states)
    os.kill(second["pid"], signal.SIGKILL)
    waits = await kept.until("waiting", 2, after=told)
    assert waits["detail"] == "the command ended with exit code -9; it runs again in 1 s"
    assert waits["pid"] == 0
    await kept.until("running", 3)
    await soon(lambda: kept.zombies() == [])


async def test_what_a_command_left_in_its_session_is_killed_before_it_runs_again(keep):
    kept = keep(LEAVING)
    await kept.until("waiting", 2)
    assert len(kept.names()) <= 1


async def test_what_left_the_session_lives_on(keep):
    kept = keep(ESCAPING)
    first = await kept.until("running", 1)
    await soon(lambda: len(kept.names()) == 2)
    (escaped,) = set(tree(kept.pid)) - {first["pid"]}
    os.kill(first["pid"], signal.SIGKILL)
    await kept.until("running", 2)
    assert escaped in tree(kept.pid)


async def test_sigterm_is_forwarded_and_the_command_never_runs_again(keep):
    kept = keep("import signal, sys, time; signal.signal(15, lambda *_: sys.exit(5)); print('ready', flush=True); time.sleep(600)")
    await soon(lambda: "ready" in kept.log())
    kept.tell(signal.SIGTERM)
    assert await kept.ended() == rejoin.ENDED
    assert kept.states[-1]["state"] == "ending"
    assert kept.states[-1]["starts"] == 1


async def test_sigterm_between_two_runs_ends_it(keep):
    kept = keep("raise SystemExit(4)")
    await soon(lambda: "in 1 s" in kept.log())
    kept.tell(signal.SIGTERM)
    assert await kept.ended() == rejoin.ENDED


async def test_it_is_as_small_as_a_workers(keep):
    kept = keep(FOREVER)
    await kept.until("running")
    assert kept.rss_kib() <= 15 * 1024
