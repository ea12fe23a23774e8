"""The webhook of a service: whom the settings name hears of what its clusters have to tell."""

import contextlib
from functools import partial

from rayscaler.app.process import Process
from rayscaler.clock import Clock
from rayscaler.reconciler.cluster import ClusterReconciler
from rayscaler.settings import ServiceSettings
from rayscaler.webhook.delivery import Webhook

SETTLE_S = 1.0
"""At the stop, a post under way gets this long; what is not told then, the next life tells."""


class Outward:
    """Hears of each cluster's cycles, and has posted what is new. Without an address it does nothing."""

    def __init__(self, settings: ServiceSettings, clock: Clock, namespace: str = "") -> None:
        """Raise InvalidRequest where the files of the settings cannot be used."""
        self._close = contextlib.AsyncExitStack()
        self._webhook: Webhook | None = None
        if settings.webhook.url:
            from rayscaler.webhook.receiver import Receiver  # its HTTP client takes as much memory as half a service

            receiver = Receiver(settings.webhook)
            self._close.push_async_callback(receiver.close)
            self._webhook = Webhook(receiver.post, namespace=namespace, clock=clock, timings=settings.timings)

    @property
    def is_on(self) -> bool:
        """Whether there is anybody to tell."""
        return self._webhook is not None

    def begin(self, process: Process) -> None:
        """Begin to post."""
        if self._webhook is not None:
            process.own("webhook", self._webhook.run())

    def note(self, cluster: ClusterReconciler) -> None:
        """Tell what a cluster has to tell."""
        if self._webhook is not None:
            for each in cluster.announcements():
                self._webhook.tell(each, partial(cluster.take_told, each))

    def gone(self, cluster: ClusterReconciler) -> None:
        """Tell that what was told of a cluster that is no more is over."""
        if self._webhook is not None:
            self._webhook.forget(cluster.name)
            for each in cluster.farewell():
                self._webhook.tell(each, lambda _: None)

    async def settle(self) -> None:
        """Give a post that is under way a moment."""
        if self._webhook is not None:
            await self._webhook.settle(SETTLE_S)

    async def close(self) -> None:
        """Let go of the connection."""
        await self._close.aclose()
