"""Which rights the service needs in its namespace, and which of them it lacks: asked of the API server itself, which needs no right.

A right can be taken away while all goes well: an open watch outlives it. So it is asked at the start, after any refusal for want of a
right, and once a minute.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple, NoReturn

import structlog

from rayscaler.errors import RayscalerError
from rayscaler.k8s.client import Client
from rayscaler.k8s.objects import RULES_REVIEWS, RulesReview

log = structlog.get_logger(__name__)

AGAIN_S = 60.0
"""Between two questions when nothing has happened."""
SOONEST_S = 5.0
"""Between two at the least: refusals come in crowds."""


class Right(NamedTuple):
    """A verb on a kind of object; of one name only, if there is one."""

    group: str
    resource: str
    verb: str
    name: str = ""


def _rights(group: str, resource: str, *verbs: str, name: str = "") -> tuple[Right, ...]:
    return tuple(Right(group, resource, verb, name) for verb in verbs)


NEEDED: tuple[Right, ...] = (
    *_rights("", "pods", "create", "delete", "get", "list", "patch", "watch"),
    *_rights("", "configmaps", "create", "get", "list", "patch", "watch"),
    *_rights("", "services", "create", "delete", "get", "list", "patch", "watch"),
    *_rights("coordination.k8s.io", "leases", "create"),
    *_rights("coordination.k8s.io", "leases", "get", "patch", "watch", name="rayscaler"),
    *_rights("", "secrets", "create"),
    *_rights("", "secrets", "get", "patch", name="rayscaler-tls"),
    *_rights("", "events", "create", "patch"),
)
"""What the Role has to give: the same as in the chart, where each has its reason."""


def missing(review: RulesReview, needed: Iterable[Right]) -> tuple[Right, ...]:
    """Return the rights that a review lacks; none where it cannot tell them all: then only a refusal tells."""
    if review.status.incomplete:
        return ()
    return tuple(each for each in needed if not _is_given(review, each))


def sentences(lacking: Iterable[Right], namespace: str) -> tuple[str, ...]:
    """Return what to tell people of rights that are missing: one sentence for each kind of object."""
    verbs: dict[tuple[str, str, str], list[str]] = {}
    for each in lacking:
        verbs.setdefault((each.group, each.resource, each.name), []).append(each.verb)
    return tuple(_sentence(*which, of_it, namespace) for which, of_it in verbs.items())


def _sentence(group: str, resource: str, name: str, verbs: list[str], namespace: str) -> str:
    named = f", resourceNames: [{name}]" if name else ""
    rule = f'{{apiGroups: ["{group}"], resources: [{resource}]{named}, verbs: [{", ".join(verbs)}]}}'
    which = f"{resource}/{name}" if name else resource
    return f"may not {', '.join(verbs)} {which} in {namespace}: add to the Role of the service's account: {rule}"


def _is_given(review: RulesReview, right: Right) -> bool:
    return any(
        _has(rule.verbs, right.verb)
        and _has(rule.api_groups, right.group)
        and _has(rule.resources, right.resource)
        and (not rule.resource_names or right.name in rule.resource_names)
        for rule in review.status.resource_rules
    )


def _has(found: Iterable[str], wanted: str) -> bool:
    return any(each in ("*", wanted) for each in found)


class Rights:
    """Keeps asking; `told` gets the sentences, none when all is well: at first, and at each change."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        *,
        told: Callable[[tuple[str, ...]], None],
        needed: Iterable[Right] = NEEDED,
        again_s: float = AGAIN_S,
        soonest_s: float = SOONEST_S,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._told = told
        self._needed = tuple(needed)
        self._again_s = again_s
        self._soonest_s = soonest_s
        self._doubt = asyncio.Event()
        self._last: tuple[str, ...] | None = None
        client.on_denied = self._doubt.set

    async def run(self) -> NoReturn:
        """Ask for ever."""
        while True:
            self._doubt.clear()
            await self._ask()
            await asyncio.sleep(self._soonest_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._again_s - self._soonest_s):
                    await self._doubt.wait()

    async def _ask(self) -> None:
        question: Mapping[str, object] = {"spec": {"namespace": self._namespace}}
        try:
            review = await self._client.create(RULES_REVIEWS, "", question)
        except RayscalerError as error:
            log.warning("rights.unknown", namespace=self._namespace, error=str(error))
            return
        if review.status.incomplete:
            log.info("rights.incomplete", namespace=self._namespace, detail=review.status.evaluation_error)
        found = sentences(missing(review, self._needed), self._namespace)
        if found != self._last:
            self._last = found
            self._told(found)
            if found:
                log.warning("rights.missing", namespace=self._namespace, missing=list(found))
