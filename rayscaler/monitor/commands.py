"""Commands of the service: each carried out once per id, beside the loop, its result kept until it is acknowledged.

Knows neither what a command means (that is handed in) nor how results travel.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable

import structlog

from rayscaler import errors
from rayscaler.api.head.v1 import head_pb2

log = structlog.get_logger(__name__)

REMEMBERED = 4096
"""So many ids of acknowledged commands are kept, to know them should they come again."""

Outcome = tuple[head_pb2.Outcome, str]


class Commands:
    """The commands under way and the results on their way. A hung command delays nothing but its own result."""

    def __init__(self, carry_out: Callable[[head_pb2.Command, str], Awaitable[Outcome]], *, timeout_s: float) -> None:
        self._carry_out = carry_out
        self._timeout_s = timeout_s
        self._running: dict[str, asyncio.Task[None]] = {}
        self._waiting: dict[str, head_pb2.CommandResult] = {}
        self._acknowledged: dict[str, head_pb2.CommandResult] = {}
        self.news = asyncio.Event()
        """Set when a result arrived; who delivers results clears it."""

    def start(self, commands: Iterable[head_pb2.Command], cluster_id: str) -> None:
        """Start those not known; of one that was carried out already, deliver the result once more.

        `cluster_id` names the Ray cluster that the service had in mind; it goes with the command.
        """
        for command in commands:
            command_id = command.command_id
            if command_id in self._acknowledged:
                self._keep(self._acknowledged.pop(command_id))
            elif command_id not in self._running and command_id not in self._waiting:
                self._running[command_id] = asyncio.create_task(self._run(command, cluster_id), name=f"command {command_id}")

    def results(self) -> list[head_pb2.CommandResult]:
        """Return what is not acknowledged, oldest first."""
        return list(self._waiting.values())

    def acknowledge(self, command_ids: Iterable[str]) -> None:
        """Stop repeating these results."""
        for command_id in command_ids:
            result = self._waiting.pop(command_id, None)
            if result is not None:
                self._acknowledged[command_id] = result
        while len(self._acknowledged) > REMEMBERED:
            del self._acknowledged[next(iter(self._acknowledged))]

    async def stop(self) -> None:
        """Cancel what is under way."""
        tasks = list(self._running.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _keep(self, result: head_pb2.CommandResult) -> None:
        self._waiting[result.command_id] = result
        self.news.set()

    async def _run(self, command: head_pb2.Command, cluster_id: str) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                outcome, detail = await self._carry_out(command, cluster_id)
        except errors.RayscalerError as error:
            outcome, detail = head_pb2.OUTCOME_FAILED, str(error)
        except TimeoutError:
            outcome, detail = head_pb2.OUTCOME_FAILED, f"no answer within {self._timeout_s:g} s"
        except Exception as error:
            log.exception("monitor.command_broke", command_id=command.command_id)
            outcome, detail = head_pb2.OUTCOME_FAILED, f"the monitor failed: {error!r}"
        finally:
            del self._running[command.command_id]
        log.info(
            "monitor.command",
            command_id=command.command_id,
            kind=command.WhichOneof("kind"),
            outcome=head_pb2.Outcome.Name(outcome),
            detail=detail,
        )
        self._keep(head_pb2.CommandResult(command_id=command.command_id, outcome=outcome, detail=detail))
