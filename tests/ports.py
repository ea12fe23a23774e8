"""Ports for servers that a test starts later, or more than once: nobody else takes one meanwhile.

They lie below those that the kernel gives out by itself, to connections and to whoever asks for any port, as each Ray process does some
ten times; and above those that Ray keeps for its workers, where it refuses a client server. None is given twice.
"""

import random
import socket

RANGE = range(20_000, 30_000)
_given: set[int] = set()
_chance = random.SystemRandom()
"""The seed of a run is that of others too, which may run beside it."""


def free_port() -> int:
    """Return a port that nobody listens on."""
    while True:
        port = _chance.choice(RANGE)
        if port not in _given and _is_free(port):
            _given.add(port)
            return port


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return False
    return True
