"""What can be wrong with a plugin that rayscaler starts, and how it stands: each fault has a name, for machines, and a sentence that says what to do.

Pure. Whoever meets a fault raises Failure; it never leaves this package: callers are told by errors.Unavailable, which names the fault.
"""

from dataclasses import dataclass
from enum import StrEnum


class Fault(StrEnum):
    """What is wrong with a plugin."""

    NO_PROGRAM = "NO_PROGRAM"
    EXITED_AT_START = "EXITED_AT_START"
    WRONG_COOKIE = "WRONG_COOKIE"
    SILENT_AT_START = "SILENT_AT_START"
    GARBAGE = "GARBAGE"
    LONG_LINE = "LONG_LINE"
    WRONG_CORE_VERSION = "WRONG_CORE_VERSION"
    WRONG_APP_VERSION = "WRONG_APP_VERSION"
    WRONG_PROTOCOL = "WRONG_PROTOCOL"
    WRONG_ADDRESS = "WRONG_ADDRESS"
    AUTO_MTLS = "AUTO_MTLS"
    NO_HEALTH = "NO_HEALTH"
    UNHEALTHY = "UNHEALTHY"
    CRASHED = "CRASHED"
    HOST = "HOST"
    """Nothing is wrong with the plugin: what it needs of this machine cannot be had."""


class State(StrEnum):
    """How far a plugin has been brought."""

    STOPPED = "stopped"
    STARTING = "starting"
    SERVING = "serving"
    WAITING = "waiting to be started again"
    STOPPING = "stopping"


class Failure(Exception):
    """Why a plugin does not serve; `detail` is for people, `printed` the last lines that it printed."""

    def __init__(self, fault: Fault, detail: str, printed: str = "") -> None:
        super().__init__(f"{fault}: {detail}")
        self.fault = fault
        self.detail = detail
        self.printed = printed


@dataclass(frozen=True)
class HostStatus:
    """How a plugin stands. `fault`, `detail` and `printed` are of its last end, empty while it serves; times are wall seconds."""

    state: State = State.STOPPED
    fault: Fault | None = None
    detail: str = ""
    printed: str = ""
    retry_at: float | None = None
    pid: int | None = None
    starts: int = 0

    def text(self, name: str) -> str:
        """Return the status as a sentence about the plugin `name`, with the last line that it printed."""
        if self.fault is None:
            return f"the plugin {name} is {self.state}"
        last = self.printed.rpartition("\n")[2]
        return f"the plugin {name} is {self.state}: {self.fault}: {self.detail}{f'; it printed last: {last}' if last else ''}"
