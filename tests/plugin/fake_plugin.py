"""A plugin in Python: the fake executor, served as an author would serve his own. Arguments: nothing, or an address."""

import asyncio
import os
import sys
from pathlib import Path

from rayscaler.clock import SystemClock
from rayscaler.model.instance import Phase
from rayscaler.plugin import serve
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines

QUICK_S = dict.fromkeys((Phase.UNSCHEDULED, Phase.STARTING, Phase.REGISTERING, Phase.ENDING), 0.05)
ARGV = (sys.executable, "-m", "tests.plugin.fake_plugin")
"""How it is started."""


class Mortal(FakeExecutor):
    """Loses whoever has a file of its name in the directory FAKE_KILLED, as the one in Go does."""

    async def launch(self, spec):
        self.reaping = getattr(self, "reaping", None) or asyncio.create_task(self._reap(Path(os.environ["FAKE_KILLED"])))
        return await super().launch(spec)

    async def _reap(self, killed: Path) -> None:
        while True:
            for each in killed.iterdir():  # noqa: ASYNC240 - a program of a test, with a handful of files
                self.machines.lose(each.name)
                each.unlink()
            await asyncio.sleep(0.02)  # a directory tells nobody


def run(kind: type[FakeExecutor] = FakeExecutor, address: str = "") -> None:
    """Serve a fake executor until told to stop."""
    serve(kind(FakeMachines(SystemClock(), delays_s=QUICK_S)), name="fake.rayscaler.io", version="1", address=address)


if __name__ == "__main__":
    run(Mortal if "FAKE_KILLED" in os.environ else FakeExecutor, "".join(sys.argv[1:]))
