"""Bringing a cluster up: what runs is adopted, what is missing is started, each part is waited for. A failure ends what was begun."""

import asyncio
import contextlib
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc

from rayscaler.api.head.v1 import head_pb2 as pb
from rayscaler.api.head.v1 import head_pb2_grpc
from rayscaler.cli.up.cluster import HEAD, LOOK_S, MONITOR, SERVICE, LocalCluster, names, state_flag
from rayscaler.cli.up.definition import HOST, Definition, incarnation
from rayscaler.cli.up.view import View
from rayscaler.errors import Conflict, InvalidRequest, Unavailable
from rayscaler.local import startup
from rayscaler.local.parts import Part, is_taken, write_whole
from rayscaler.processes import Identity
from rayscaler.settings import ServiceSettings

UP_S = 120.0
"""Everything must be up within this: 5 s on a quiet machine."""
CALL_S = 2.0
"""Deadline of one call of the service."""
FREED_S = 1.0
"""A port may seem taken for some milliseconds after the process that had it was killed."""
CLIENT_PORT = "client_port"
"""Fact of a head: the port of its ray:// server."""
STARTED, RESTARTED, WAS_UP, REDEFINED = "started", "started anew", "was up", "took the changed definition"
ADOPTED = frozenset({WAS_UP, REDEFINED})
"""What a part does that an earlier call has started."""
ADVICE = {
    SERVICE: "put right what it says there, then run `rayscaler up` again",
    HEAD: "put right what it says there, or spec.head of the definition, which it was started with; then run `rayscaler up` again",
    MONITOR: "see what it says there and what the head's log beside it says, then run `rayscaler up` again",
}


class Start:
    """One `up` of one definition."""

    def __init__(self, definition: Definition, settings: ServiceSettings, view: View) -> None:
        self._definition = definition
        self._settings = settings
        self._view = view
        self._cluster = LocalCluster(definition.name, settings, view)
        self._parts = self._cluster.parts
        self._is_fresh = not self._cluster.is_up()
        self._outcomes: dict[str, str] = {}
        self._awaited = SERVICE
        self._status = pb.ClusterStatus()

    async def run(self) -> dict[str, Any]:
        """Bring everything up and return how it is used; when this raises or is cancelled, what it began has ended."""
        await self._check()
        try:
            async with asyncio.timeout(UP_S):
                await self._bring_up()
        except TimeoutError:
            error = self._failure(self._awaited, f"is not up after {UP_S:g} s")
            await self._take_back()
            raise error from None
        except BaseException:
            await self._take_back()
            raise
        return await self._result()

    async def _bring_up(self) -> None:
        is_edit = self._parts.kept(SERVICE) is not None and self._kept_text() != self._definition.text
        write_whole(self._cluster.kept_definition, self._definition.text)
        definition, settings = self._definition, self._settings
        command = definition.service_command(self._cluster.kept_definition, settings)
        await self._have(SERVICE, command, env=os.environ, facts=definition.service_facts(settings))
        head = await self._have_head()
        await self._until(SERVICE, self._is_defined)
        if is_edit and self._outcomes[SERVICE] == WAS_UP:
            self._note(SERVICE, REDEFINED)
        await self._until(HEAD, self._head_listens)
        command = definition.monitor_command(settings, head)
        await self._have(MONITOR, command, env=os.environ, facts=definition.monitor_facts())
        await self._until(MONITOR, self._reports)

    def _kept_text(self) -> str:
        """Return the definition that the service follows; empty if there is none."""
        with contextlib.suppress(OSError, ValueError):
            return self._cluster.kept_definition.read_text(encoding="utf-8")
        return ""

    async def _check(self) -> None:
        """Refuse what cannot be, before anything is started; what a killed supervisor left is ended, for it may hold a port."""
        others = [name for name in names(self._settings) if name != self._definition.name]
        if others:
            where = self._settings.state_dir
            raise Conflict(
                f"{where}: the cluster {others[0]!r} is up there, and a state directory has one; end it with `rayscaler down{state_flag(where)}`, "
                "or give this one another with --state-dir, and its service another address with --listen"
            )
        head = self._parts.kept(HEAD)
        if head is not None and head.facts.get("section") != self._definition.head_facts()["section"]:
            flag = state_flag(self._settings.state_dir)
            raise Conflict(
                f"{self._definition.path}: spec.head: has changed since the head was started, and a running head is never changed; "
                f"run `rayscaler down{flag}` and then this again (jobs on it end), or put the section back as it was"
            )
        for name in (SERVICE, HEAD):
            if self._parts.kept(name) is None:
                await self._parts.end(name, 0.0)
                await self._check_port(name)

    async def _have_head(self) -> Identity:
        """Start the head unless it runs; what its ray:// port is stays noted with it."""
        definition, head = self._definition, self._parts.kept(HEAD)
        if head is not None and head.identity is not None:
            self._note(HEAD, WAS_UP)
            return head.identity
        port = definition.client_port()
        facts = {**definition.head_facts(), CLIENT_PORT: str(port)}
        return await self._start(HEAD, definition.head_command(port), env=definition.head_environ(os.environ), facts=facts)

    async def _have(self, name: str, command: Sequence[str], *, env: Mapping[str, str], facts: Mapping[str, str]) -> None:
        """Adopt a part that runs as it should, replace one that does not, start a missing one."""
        part = self._parts.kept(name)
        if part is None:
            await self._start(name, command, env=env, facts=facts)
        elif part.argv == self._parts.command(name, command) and part.facts == facts:
            self._note(name, WAS_UP)
        else:
            self._view.show(name, "ending: it is started anew for another head, address or version")
            await self._cluster.end_part(name)
            await self._start(name, command, env=env, facts=facts, outcome=RESTARTED)

    async def _start(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str], facts: Mapping[str, str], outcome: str = STARTED
    ) -> Identity:
        await self._check_port(name)
        self._note(name, outcome)
        return await self._parts.start(name, command, env=env, facts=facts)

    async def _check_port(self, name: str) -> None:
        """Refuse a port that somebody else has: Ray and gRPC would say so less clearly, and again at each restart."""
        if name == HEAD and await _is_held("", self._definition.gcs_port()):
            raise InvalidRequest(
                f"{self._definition.path}: spec.head.startParams.port: {self._definition.gcs_port()}: something else listens there; "
                "end it (`ray stop`, if it is a Ray of yours) or give another port"
            )
        host, _, port = self._settings.listen.rpartition(":")
        if name == SERVICE and port.isdecimal() and await _is_held(host.strip("[]"), int(port)):
            raise InvalidRequest(
                f"--listen: {self._settings.listen}: something else listens there; end it or give another address, such as {HOST}:6390"
            )

    async def _until(self, name: str, is_so: Callable[[], Awaitable[bool]]) -> None:
        """Wait for a part; raises Unavailable as soon as it is clear that it does not come."""
        self._awaited = name
        while not await is_so():
            answer = await self._parts.ask(name)
            if self._parts.kept(name) is None:
                raise self._failure(name, "has ended")
            if answer is not None and answer.starts > 1 and self._outcomes[name] != WAS_UP:
                raise self._failure(name, "ended while it started")
            doing = WAS_UP if self._outcomes[name] == WAS_UP else "starting"
            self._view.show(name, doing if answer is None or not answer.pid else f"{doing}, pid {answer.pid}")
            await asyncio.sleep(LOOK_S)
        self._view.show(name, self._outcomes[name], is_done=True)

    async def _answers(self) -> bool:
        """Whether the service answers for this cluster."""
        async with grpc.aio.insecure_channel(self._settings.listen) as channel:
            with contextlib.suppress(grpc.aio.AioRpcError):
                request = pb.GetStatusRequest(cluster=self._definition.name)
                answer = await head_pb2_grpc.HeadServiceStub(channel).GetStatus(request, timeout=CALL_S)
                self._status = answer.clusters[0]
                return True
        return False

    async def _is_defined(self) -> bool:
        """Whether the service answers, this very definition is in force, and the copy that the service follows is seen to say so."""
        definition = self._status.definition if await self._answers() else pb.DefinitionStatus()
        return definition.hash == self._definition.content_hash and not definition.problems

    async def _head_listens(self) -> bool:
        """Whether the head has said that it is up and its GCS takes connections."""
        head = self._parts.find(HEAD)
        if head is None or not startup.has_started(self._parts.log_path(HEAD), head.log_offset):
            return False
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection(HOST, self._definition.gcs_port())
            writer.close()
            return True
        return False

    async def _reports(self) -> bool:
        """Whether the service has sight of this very head."""
        head = self._parts.find(HEAD)
        if head is None or head.identity is None or not await self._answers():
            return False
        is_this = self._status.head_incarnation == incarnation(head.identity)
        return is_this and bool(self._status.session.cluster_id) and not self._status.blind

    def _failure(self, name: str, how: str) -> Unavailable:
        """Return the error with the end of the part's log: read now, before anything is taken back."""
        part = self._parts.find(name)
        log_path = self._parts.log_path(name)
        said = startup.tail(log_path, 0 if part is None else part.log_offset)
        return Unavailable(f"the {name} {how}; the end of {log_path}:\n{said}\n{ADVICE[name]}")

    async def _take_back(self) -> None:
        """End what this call began, the last first; workers only if the service is not an earlier call's."""
        begun = {name for name, outcome in self._outcomes.items() if outcome not in ADOPTED}
        for name in (MONITOR, SERVICE, HEAD):
            if name in begun:
                await self._cluster.end_part(name)
            if name in begun and name == SERVICE and self._is_fresh:
                await self._cluster.end_workers()

    def _note(self, name: str, outcome: str) -> None:
        self._outcomes[name] = outcome
        self._view.show(name, outcome if outcome in ADOPTED else "starting", is_done=outcome == REDEFINED)

    async def _result(self) -> dict[str, Any]:
        """Return what one needs to know to use it."""
        head = self._parts.find(HEAD)
        client = "" if head is None else head.facts.get(CLIENT_PORT, "")
        return {
            "cluster": self._definition.name,
            "gcs": self._definition.gcs,
            "client": f"ray://{HOST}:{client}" if client else "",
            "service": self._settings.listen,
            "state_dir": str(self._settings.state_dir),
            "cluster_id": self._status.session.cluster_id,
            "parts": {name: await self._told(self._parts.find(name), name) for name in (SERVICE, HEAD, MONITOR)},
        }

    async def _told(self, part: Part | None, name: str) -> dict[str, Any]:
        answer = await self._parts.ask(name)
        return {
            "outcome": self._outcomes[name],
            "supervisor_pid": 0 if part is None or part.identity is None else part.identity.pid,
            "pid": 0 if answer is None else answer.pid,
            "log": str(self._parts.log_path(name)),
        }


async def _is_held(host: str, port: int) -> bool:
    """Whether somebody listens at an address and goes on doing so."""
    until = asyncio.get_running_loop().time() + FREED_S
    while is_taken(host, port):
        if asyncio.get_running_loop().time() >= until:
            return True
        await asyncio.sleep(LOOK_S)
    return False
