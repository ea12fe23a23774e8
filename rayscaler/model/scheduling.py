"""How instances are put on machines together: by whose gang scheduler, and in which group of all or none."""

from dataclasses import dataclass
from enum import StrEnum


class GangScheduler(StrEnum):
    """Schedulers that have pods of a group bound all or none; each has an object of its own for it."""

    VOLCANO = "volcano"
    SCHEDULER_PLUGINS = "scheduler-plugins"
    """The coscheduling plugin of sigs.k8s.io/scheduler-plugins."""


@dataclass(frozen=True)
class GangScheduling:
    """Who schedules the instances of a cluster; `queue` is Volcano's, "" for its default one."""

    scheduler: GangScheduler
    queue: str = ""


@dataclass(frozen=True)
class Membership:
    """Who schedules an instance, and with which others: those of the same `group`, "" for one that is scheduled alone.

    `gangs` are what it was launched for, so that whoever replaces it later joins the same group.
    """

    scheduler: GangScheduler
    group: str = ""
    gangs: tuple[str, ...] = ()


@dataclass(frozen=True)
class WantedGroup:
    """A group as it is to be: `size` instances are to be had at once. Without `may_shrink` a larger one stays as large: it is not whole yet."""

    name: str
    size: int
    may_shrink: bool = True
    queue: str = ""
