"""A plugin in Python: the fake executor, served as an author would serve his own. Arguments: nothing, or an address."""

import sys

from rayscaler.clock import SystemClock
from rayscaler.model.instance import Phase
from rayscaler.plugin import serve
from rayscaler.testing.fake_executor import FakeExecutor, FakeMachines

QUICK_S = dict.fromkeys((Phase.UNSCHEDULED, Phase.STARTING, Phase.REGISTERING, Phase.ENDING), 0.05)

if __name__ == "__main__":
    serve(FakeExecutor(FakeMachines(SystemClock(), delays_s=QUICK_S)), name="fake.rayscaler.io", version="1", address="".join(sys.argv[1:]))
