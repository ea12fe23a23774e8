"""Definitions: ConfigMaps with our label are followed, what becomes of each is told, and what is good in it is kept. Decides nothing.

The local counterpart is reconciler/follow.py with lastgood.py, and the rules are the same: an edit is judged whole, a bad one changes
nothing and tells every problem, the last good text outlives the service. A watch by label also says DELETED when only the label was
taken away, so each end is confirmed by asking for the ConfigMap itself: absent, or another of the same name, is gone; all else is held.

Where instances belong to no ConfigMap, as a plugin's do, each one that is followed has our finalizer before anything is launched for it:
whoever deletes it says so on the object itself, which stays until its instances are ended, over every restart. Nothing ends on a guess.
"""

import asyncio
import random
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn, Protocol

import structlog

from rayscaler.clock import Clock
from rayscaler.config import executors, load
from rayscaler.config.file import Definition, judged
from rayscaler.config.manifest import KEY
from rayscaler.errors import Busy, InvalidRequest, NotFound, Problem, RayscalerError
from rayscaler.k8s import labels
from rayscaler.k8s.client import Client
from rayscaler.k8s.objects import CONFIG_MAPS, ConfigMap
from rayscaler.k8s.pods import Owner
from rayscaler.k8s.reflector import Pauses, Reflector
from rayscaler.store import base

log = structlog.get_logger(__name__)

MOST_BYTES = 256 << 10
"""As much as `kubectl apply` takes: some 600 node types with their templates. To read it takes 0.5 s, in which the Lease waits."""
ENDING = "its ConfigMap is being deleted"
UNLABELLED = f"its ConfigMap is there and has lost its label: put {labels.CLUSTER} back, or delete the ConfigMap to end the cluster"
_KUSTOMIZED = re.compile(r"-[2456789bcdfghkmt]{10}")
"""The hash that kustomize puts behind a generated ConfigMap's name."""
_CONFIRM, _RESUME, _KEEP, _MARK, _CLEAR = "confirm", "resume", "keep", "mark", "clear"
"""What may be under way for a definition; one of each at most."""


Clear = Callable[[str, Callable[[str], None]], Awaitable[None]]
"""Ends the instances of a cluster by its name, telling what it waits for; returns once there is none."""


class Sink(Protocol):
    """Hears of definitions, each by the name of its ConfigMap, which is its cluster's; calls come one at a time."""

    def defined(self, definition: Definition, owner: Owner) -> None:
        """Put it in force: it is new, or has another good text, or was held or refused before."""
        ...

    def refused(self, name: str, problems: tuple[str, ...]) -> None:
        """Tell a bad text; what is in force stays so, if anything is."""
        ...

    def held(self, name: str, why: str) -> None:
        """End nothing and start nothing: whether it is still defined is not known, or it is about to go."""
        ...

    def gone(self, name: str) -> None:
        """Let go: the ConfigMap does not exist any more; this may be the first word of it, if it went before anything was known."""
        ...


@dataclass
class _Case:
    """What is known of one ConfigMap."""

    uid: str
    version: str = ""
    judged: bytes | str | None = None  # the text, or why there was none, that was told last
    in_force: Definition | None = None
    held: str = ""
    tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)


class Definitions:
    """Follows the definitions of one namespace and tells `sink`; `kept` has the last good text of each by its name."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        *,
        sink: Sink,
        kept: base.Definitions,
        clock: Clock,
        clear: Clear | None = None,
        pauses: Pauses | None = None,
    ) -> None:
        """Take what ends the instances of a deleted cluster, None where the API server does."""
        self._client = client
        self._namespace = namespace
        self._sink = sink
        self._kept = kept
        self._clear = clear
        self._pauses = pauses or Pauses()
        self._cases: dict[str, _Case] = {}
        self._ended: set[str] = set()  # what a successor of that name had before is not its last good one
        self._news: dict[str, None] = {}  # names, in the order of their turns
        self._wake = asyncio.Event()
        self._group = asyncio.TaskGroup()
        self._reflector = Reflector(
            client, CONFIG_MAPS, namespace, labels.DEFINITIONS_SELECTOR, tell=self._tell, clock=clock, pauses=self._pauses
        )

    def version(self, name: str) -> str:
        """Return the resourceVersion up to which a definition's ConfigMap was looked at; "" if there is none."""
        case = self._cases.get(name)
        return "" if case is None else case.version

    def owner(self, name: str) -> Owner | None:
        """Return what a definition's objects belong to; None if there is no such ConfigMap."""
        case = self._cases.get(name)
        return None if case is None else _owner(name, case.uid)

    async def run(self) -> NoReturn:
        """Follow for ever."""
        async with self._group as group:
            group.create_task(self._work(), name=f"definitions of {self._namespace}")
            await self._reflector.run()

    def _tell(self, found: ConfigMap, _is_gone: bool) -> None:
        self._news[found.metadata.name] = None
        self._wake.set()

    async def _work(self) -> NoReturn:
        """Look at what has changed, one at a time: between two definitions, which may be huge, everybody else gets a turn."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._news:
                name = next(iter(self._news))
                del self._news[name]
                self._look(name, self._reflector.objects.get(name))
                await asyncio.sleep(0)

    def _look(self, name: str, found: ConfigMap | None) -> None:
        case = self._cases.get(name)
        if found is None:
            if case is not None and _CONFIRM not in case.tasks:
                self._begin(name, case, _CONFIRM, self._confirm(name, case))
            return
        if case is not None:
            self._stop(case, _CONFIRM)
            if case.uid != found.metadata.uid:
                self._end(name, case)
                case = None
        if case is None:
            case = self._cases[name] = _Case(found.metadata.uid)
        case.version = found.metadata.resource_version
        if found.metadata.deletion_timestamp:
            self._part(name, case, found)
        elif self._is_marked(name, case, found):
            self._judge(name, case, found)

    def _judge(self, name: str, case: _Case, found: ConfigMap) -> None:
        """Tell what a ConfigMap says, unless that is what was told last."""
        place, seen = content(found)
        is_back = bool(case.held)
        if seen == case.judged and not is_back:
            return
        case.judged, case.held = seen, ""
        self._stop(case, _RESUME)
        try:
            definition = read(name, place, seen)
        except InvalidRequest as error:
            problems = tuple(map(str, error.problems))
        except Exception as error:
            # A bug in reading one definition must not stop the service, and what is in force stays.
            log.exception("definition.failed", cluster=name)
            problems = (f"{place}: cannot be judged: {type(error).__name__}, a bug of rayscaler; the service's log has it",)
        else:
            case.in_force = definition
            self._define(name, case)
            self._begin(name, case, _KEEP, self._keep(name, definition))
            return
        log.warning("definition.refused", cluster=name, problems=problems)
        if case.in_force is None and name not in self._ended:
            self._begin(name, case, _RESUME, self._resume(name, case, problems))
            return
        if is_back:
            self._define(name, case)
        self._sink.refused(name, problems)

    def _define(self, name: str, case: _Case) -> None:
        if case.in_force is not None:
            log.info("definition.taken", cluster=name, version=case.in_force.content_hash)
            self._sink.defined(case.in_force, _owner(name, case.uid))

    def _hold(self, name: str, case: _Case, why: str) -> None:
        self._stop(case, _RESUME)
        if case.held != why:
            case.held = why
            log.warning("definition.held", cluster=name, why=why)
            self._sink.held(name, why)

    def _end(self, name: str, case: _Case) -> None:
        for what in (_RESUME, _KEEP, _MARK, _CLEAR):
            self._stop(case, what)
        del self._cases[name]
        self._ended.add(name)
        log.info("definition.gone", cluster=name)
        self._sink.gone(name)

    async def _confirm(self, name: str, case: _Case) -> None:
        """Find out what became of a ConfigMap that the watch does not show any more; until it is known, and while it is there, hold."""
        for pause_s in self._tries():
            try:
                found = await self._client.get(CONFIG_MAPS, self._namespace, name)
            except NotFound:
                self._end(name, case)
                return
            except RayscalerError as error:
                why = f"its ConfigMap is not shown any more, and whether it exists cannot be known: {error}"
            else:
                if found.metadata.uid != case.uid:  # its successor is told by the watch, if it has the label
                    self._end(name, case)
                    return
                if found.metadata.deletion_timestamp:
                    self._part(name, case, found)
                    why = ""
                else:
                    why = UNLABELLED
            if why:
                self._hold(name, case, why)
            await asyncio.sleep(pause_s)

    def _is_marked(self, name: str, case: _Case, found: ConfigMap) -> bool:
        """Whether a ConfigMap may be put in force: it cannot go unseen. One that is in force stays so while it is marked again."""
        if self._clear is None or labels.FINALIZER in found.metadata.finalizers:
            return True
        if _MARK not in case.tasks:
            self._begin(name, case, _MARK, self._mark(name, case, is_on=True))
        return case.in_force is not None

    def _part(self, name: str, case: _Case, found: ConfigMap) -> None:
        """Hold a cluster that is being deleted; where it is marked, end its instances, and then let it go."""
        is_marked = labels.FINALIZER in found.metadata.finalizers
        if is_marked and _CLEAR in case.tasks:
            return
        self._hold(name, case, ENDING)
        if is_marked:
            self._stop(case, _MARK)
            self._begin(name, case, _CLEAR, self._leave(name, case))

    async def _leave(self, name: str, case: _Case) -> None:
        if self._clear is not None:  # else it was marked while a plugin made the workers, which nobody here can reach
            await self._clear(name, lambda waited_for: self._hold(name, case, f"{ENDING}: {waited_for}"))
        await self._mark(name, case, is_on=False)

    async def _mark(self, name: str, case: _Case, *, is_on: bool) -> None:
        """Put our finalizer on, or take it off, however often that fails; the watch tells once it is done."""
        for pause_s in self._tries():
            try:
                found = await self._client.get(CONFIG_MAPS, self._namespace, name)
                if found.metadata.uid != case.uid or (is_on and found.metadata.deletion_timestamp):
                    return
                others = [each for each in found.metadata.finalizers if each != labels.FINALIZER]
                metadata = {
                    "finalizers": [*others, labels.FINALIZER] if is_on else others,
                    "resourceVersion": found.metadata.resource_version,
                }
                await self._client.patch(CONFIG_MAPS, self._namespace, name, {"metadata": metadata})
            except NotFound:
                return
            except Busy:  # changed by somebody else meanwhile
                pass
            except RayscalerError as error:
                log.warning("definition.unmarked", cluster=name, error=str(error))
                if case.in_force is None or not is_on:
                    self._hold(name, case, f"its finalizer {labels.FINALIZER} cannot be changed: {error}")
            else:
                return
            await asyncio.sleep(pause_s)

    async def _resume(self, name: str, case: _Case, problems: tuple[str, ...]) -> None:
        """Put in force what was good last, where nothing is yet; then tell what is wrong with the text of now."""
        text, told = None, ""
        for pause_s in self._tries():
            try:
                text = await self._kept.last_good(name)
                break
            except RayscalerError as error:
                if not told:
                    told = f"{_place(name)}: no last good one can be had: {error}"
                    self._sink.refused(name, (*problems, told))
            await asyncio.sleep(pause_s)
        if text is not None:
            try:
                last = read(name, f"{_place(name)}, as it was good last", text.encode())
            except InvalidRequest as error:  # this version may be stricter than the last
                problems += tuple(map(str, error.problems))
            else:
                case.in_force = last
                self._define(name, case)
        self._sink.refused(name, problems)

    async def _keep(self, name: str, definition: Definition) -> None:
        """Keep what is in force for the next start, however often that fails."""
        text, is_told = definition.content.decode(), False
        for pause_s in self._tries():
            try:
                await self._kept.keep_good(name, text)
            except RayscalerError as error:
                if not is_told:
                    log.warning("definition.unkept", cluster=name, error=str(error))
                is_told = True
            else:
                return
            await asyncio.sleep(pause_s)

    def _tries(self) -> Iterator[float]:
        """Yield, for each try, the pause after it."""
        pause_s = self._pauses.first_s
        while True:
            yield pause_s * random.uniform(1.0, 1.5)  # noqa: S311 - so that not all come back at once
            pause_s = min(pause_s * 2, self._pauses.longest_s)

    def _begin(self, name: str, case: _Case, what: str, work: Coroutine[Any, Any, None]) -> None:
        self._stop(case, what)
        task = case.tasks[what] = self._group.create_task(work, name=f"{what} definition {name}")
        task.add_done_callback(lambda done: case.tasks.pop(what) if case.tasks.get(what) is done else None)

    def _stop(self, case: _Case, what: str) -> None:
        task = case.tasks.pop(what, None)
        if task is not None:
            task.cancel()


def _owner(name: str, uid: str) -> Owner:
    return Owner("v1", "ConfigMap", name, uid)


def content(found: ConfigMap) -> tuple[str, bytes | str]:
    """Return where in a ConfigMap the definition stands, and its bytes; or, as text, why there is none."""
    place, keys = _place(found.metadata.name), sorted(found.data)
    if KEY in found.data:
        keys = [KEY]
    if not keys:
        binary = "binaryData: is left aside, a definition is text; " if found.binary_data else ""
        return place, f"{binary}data: has no key; put the definition under {KEY}"
    if len(keys) > 1:
        return (
            place,
            f"data: has the keys {', '.join(keys[:5])}{', ...' if keys[5:] else ''}; have one, or call that of the definition {KEY}",
        )
    text = found.data[keys[0]].encode()
    place = f"{place}: data.{keys[0]}"
    return place, text if len(text) <= MOST_BYTES else f"is larger than {MOST_BYTES >> 10} KiB, as no definition is"


def read(name: str, place: str, seen: bytes | str) -> Definition:
    """Return the definition in what was seen in the ConfigMap `name`; raises InvalidRequest naming the place and every problem."""
    try:
        definition = judged(place, seen, executors.KUBERNETES)
    except InvalidRequest as error:
        named = None if isinstance(seen, str) else load.name_in(seen)
        raise InvalidRequest(*error.problems, *_misnamed(name, place, named)) from error
    problems = _misnamed(name, place, definition.config.name)
    if problems:
        raise InvalidRequest(*problems)
    return definition


def _misnamed(name: str, place: str, named: str | None) -> tuple[Problem, ...]:
    if named in {None, name}:
        return ()
    rule = f"must be the ConfigMap's name, {name!r}"
    if named is not None and name.startswith(named) and _KUSTOMIZED.fullmatch(name.removeprefix(named)):
        rule += "; kustomize has put a hash behind it: set generatorOptions.disableNameSuffixHash to true"
    return (Problem(f"{place}: metadata.name", repr(named), rule),)


def _place(name: str) -> str:
    return f"configmap {name}"
