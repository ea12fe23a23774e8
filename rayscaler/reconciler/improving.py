"""The process that improves plans: python -m rayscaler.reconciler.improving, its input a socket to the service that started it.

Frames go both ways: eight bytes of length, then a pickle, which is safe because both ends are ours and nobody else can reach the socket.
Whatever goes wrong with one question is said; whatever goes wrong with the process ends it, and the service starts another.
"""

import importlib
import os
import pickle
import resource
import signal
import socket
import struct
import traceback

from rayscaler.model.plan import Plan
from rayscaler.model.state import ClusterState
from rayscaler.planner.plan import plan
from rayscaler.tasks import calm_collector

LENGTH = struct.Struct("!Q")
NICENESS = 10
"""The service, and all that it serves, comes first."""
MOST_BYTES = 512 << 20
"""Of memory: a plan that needs more is not worth the pod's end."""
HANG_S, HANG_STEPS_PER_S = 5, 100
"""A question that takes so long, and longer by what its steps may take at most, ends the process, even if the service is gone."""


def main() -> None:
    """Answer questions until the service closes its end."""
    os.nice(NICENESS)
    resource.setrlimit(resource.RLIMIT_DATA, (MOST_BYTES, MOST_BYTES))
    importlib.import_module("rayscaler.planner.mix.solve")  # or the first question's budget would go into loading the solver
    calm_collector()
    with socket.socket(fileno=0) as door, door.makefile("rwb") as stream:
        while head := stream.read(LENGTH.size):
            asked = stream.read(LENGTH.unpack(head)[0])
            signal.alarm(HANG_S)
            told = pickle.dumps(_answer(asked), pickle.HIGHEST_PROTOCOL)
            signal.alarm(0)
            stream.write(LENGTH.pack(len(told)) + told)
            stream.flush()


def _answer(asked: bytes) -> Plan | str:
    """Return the plan, or what went wrong."""
    try:
        state, steps = _question(asked)
        signal.alarm(HANG_S + steps // HANG_STEPS_PER_S)
        return plan(state, steps)
    except Exception:  # noqa: BLE001 - it is told, with all that is known of it
        # One cluster's state that the planner cannot take must not cost the others their improvements.
        return traceback.format_exc()


def _question(asked: bytes) -> tuple[ClusterState, int]:
    state, steps = pickle.loads(asked)  # noqa: S301 - from the process that started this one
    return state, steps


if __name__ == "__main__":
    main()
