"""Something that the GCS is told beside the loop and forgets with its process. Knows neither what it is nor how it is said."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import structlog

from rayscaler import errors

log = structlog.get_logger(__name__)

T = TypeVar("T")


class Told(Generic[T]):
    """What the GCS was told last of one subject, `nothing` at first; one call at most is under way.

    A call that fails is only noted: whoever wants it told says so again at the next turn. A hung one delays nothing else.
    """

    def __init__(self, subject: str, nothing: T, *, timeout_s: float) -> None:
        self._subject = subject
        self._nothing = nothing
        self._timeout_s = timeout_s
        self._life = 0
        self._task: asyncio.Task[None] | None = None
        self.last = nothing

    def forget(self) -> None:
        """Take it that a new GCS knows nothing; what is still under way to the old one is given up."""
        self._life += 1
        self.last = self._nothing
        if self._task is not None:
            self._task.cancel()
            self._task = None  # it ends at the loop's next turn; the new GCS is told without waiting for that

    def tell(self, value: T, send: Callable[[], Awaitable[None]]) -> None:
        """Send beside the loop; `last` becomes `value` once the GCS has taken it. Does nothing while a call is under way."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._send(value, send, self._life), name=f"tell the GCS {self._subject}")

    async def stop(self) -> None:
        """Cancel what is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _send(self, value: T, send: Callable[[], Awaitable[None]], life: int) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await send()
        except (TimeoutError, errors.RayscalerError) as error:
            log.warning("monitor.not_told", subject=self._subject, detail=str(error) or "no answer")
        except Exception:
            # A bug in one kind of telling: nobody awaits this task, so without the log it would pass unseen. The next turn tries again.
            log.exception("monitor.telling_broke", subject=self._subject)
        else:
            if life == self._life:
                self.last = value
