"""Who schedules what is to be had all or none: `spec.gangScheduling`. Pure."""

from rayscaler.config.executors import KUBERNETES
from rayscaler.config.reader import Reader
from rayscaler.model.scheduling import GangScheduler, GangScheduling

KEYS = {"scheduler", "queue"}
PATH = "spec.gangScheduling"


def read(reader: Reader, value: object, executor: str) -> GangScheduling | None:
    """Return who schedules groups of workers, None where nobody in particular does."""
    raw = reader.mapping(PATH, value, KEYS)
    if value is None or not isinstance(value, dict):
        return None
    if executor != KUBERNETES:
        reader.problem(PATH, value, "is for workers that are pods, which this executor does not make: leave it out")
    if raw.get("scheduler") is None:
        words = " or ".join(GangScheduler)
        reader.problem(f"{PATH}.scheduler", None, f"is needed: {words}")
    scheduler = reader.choice(f"{PATH}.scheduler", raw.get("scheduler"), GangScheduler.VOLCANO)
    queue = "" if raw.get("queue") is None else reader.name(f"{PATH}.queue", raw.get("queue"))
    if queue and scheduler is not GangScheduler.VOLCANO:
        reader.problem(f"{PATH}.queue", queue, f"is {GangScheduler.VOLCANO.value}'s; {scheduler.value} has no queues: leave it out")
    return GangScheduling(scheduler, queue)
