"""When things happened, by what a monitor sees and by the API server's record."""

import asyncio
import itertools
import time
from datetime import datetime
from typing import Any

from rayscaler.monitor.service import GrpcTransport
from tests.cluster.api import JSON


class Timed(GrpcTransport):
    """Notes when reports are answered, and in wall seconds when the first one was sent that asks for something, and one answered."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.answered_at: list[float] = []
        self.asked_at = self.connected_at = 0.0

    async def report(self, request: Any) -> Any:
        """Report, and note it."""
        state = request.snapshot.state
        if not self.asked_at and (state.pending_resource_requests or state.pending_gang_resource_requests):
            self.asked_at = time.time()
        answer = await super().report(request)
        self.connected_at = self.connected_at or time.time()
        self.answered_at.append(asyncio.get_running_loop().time())
        return answer

    def longest_gap_s(self) -> float:
        """Return the longest time without an answer."""
        return max(after - before for before, after in itertools.pairwise(self.answered_at))


def asked_at(deeds: list[JSON], prefix: str) -> dict[str, float]:
    """Return when the API server was first asked for each deed on objects so named, by name, in wall seconds."""
    found = [each for each in deeds if each["objectRef"]["name"].startswith(prefix)]
    return {each["objectRef"]["name"]: datetime.fromisoformat(each["requestReceivedTimestamp"]).timestamp() for each in reversed(found)}
