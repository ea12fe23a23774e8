"""The service's certificate: made once for a namespace, kept in a Secret, renewed in time, its authority told in a ConfigMap.

Every replica does all of it, so nothing waits for a leader: who creates first has made it and the others read it, and each change names
the version that it was made from, so of two only one is taken. Nothing is listed: the right is to these two names.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

import structlog

from rayscaler.clock import Clock
from rayscaler.errors import InvalidRequest, NotFound, RayscalerError
from rayscaler.k8s import authority, labels
from rayscaler.k8s.authority import Due, Lives, Papers
from rayscaler.k8s.client import Client
from rayscaler.k8s.failures import AlreadyExists
from rayscaler.k8s.objects import CONFIG_MAPS, SECRETS, Secret
from rayscaler.model.credentials import Certificate

log = structlog.get_logger(__name__)

SECRET, CONFIG_MAP = "rayscaler-tls", "rayscaler-ca"
CRT, KEY, CA, CA_KEY = "tls.crt", "tls.key", "ca.crt", "ca.key"
"""Keys of the Secret; the ConfigMap has CA alone."""
_LABELS = {labels.MANAGED_BY: labels.MANAGER}


@dataclass(frozen=True)
class Pauses:
    """Seconds between two looks at the Secret."""

    look_s: float = 300.0
    """While all is well: whether it is to be renewed, or another replica has made a new one, whose authority alone is told then."""
    first_s: float = 0.5
    """After a failure; doubles up to longest_s."""
    longest_s: float = 30.0


class Certificates:
    """The certificate of the service in one namespace."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        *,
        clock: Clock,
        names: Sequence[str] = (),
        lives: Lives | None = None,
        pauses: Pauses | None = None,
    ) -> None:
        """Take the names by which the service is dialled; without any, those of its two Services."""
        self._client = client
        self._namespace = namespace
        self._names = names or authority.names(namespace)
        self._clock = clock
        self._lives = lives or Lives()
        self._pauses = pauses or Pauses()
        self._certificate: Certificate | None = None
        self._is_there = asyncio.Event()

    def current(self) -> Certificate:
        """Return the certificate of the moment, from any thread; call `ready` before."""
        if self._certificate is None:
            raise InvalidRequest("the certificate has not been read yet")
        return self._certificate

    async def ready(self) -> None:
        """Wait until there is a certificate, and all that it takes to trust it has been told."""
        await self._is_there.wait()

    async def run(self) -> NoReturn:
        """Have a certificate, and keep it fresh, for ever; what fails is tried again while the last one is shown."""
        failures = 0
        while True:
            try:
                await self._look()
            except RayscalerError as error:
                failures += 1
                log.warning("certificates.failed", error=error.name, detail=str(error))
                await asyncio.sleep(min(self._pauses.first_s * 2.0 ** min(failures - 1, 16), self._pauses.longest_s))
            else:
                failures = 0
                await asyncio.sleep(self._pauses.look_s)

    async def _look(self) -> None:
        secret = await self._secret()
        papers = _papers(secret)
        due = self._due(papers)
        if due is not Due.NOTHING:
            papers = authority.renewed(papers, due, self._names, self._clock.now(), self._lives)
            version = {"resourceVersion": secret.metadata.resource_version}
            await self._client.patch(SECRETS, self._namespace, SECRET, {"metadata": version, "data": _data(papers)})
            log.info("certificates.renewed", what=due.value, ends_at=authority.ends_at(papers))
        await self._tell(papers.authorities.decode("ascii", "replace"))
        self._take(papers)

    async def _secret(self) -> Secret:
        """Return the Secret, making it where it is not there."""
        try:
            return await self._client.get(SECRETS, self._namespace, SECRET)
        except NotFound:
            papers = authority.founded(self._names, self._clock.now(), self._lives)
        meta = {"name": SECRET, "labels": _LABELS}
        body = {"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/tls", "metadata": meta, "data": _data(papers)}
        try:
            made = await self._client.create(SECRETS, self._namespace, body)
        except AlreadyExists:
            return await self._client.get(SECRETS, self._namespace, SECRET)
        log.info("certificates.made", ends_at=authority.ends_at(papers))
        return made

    def _due(self, papers: Papers) -> Due:
        try:
            return authority.due(papers, self._names, self._clock.now(), self._lives)
        except InvalidRequest as error:
            raise InvalidRequest(*(each.inside(f"Secret {SECRET}") for each in error.problems), _ADVICE) from error

    async def _tell(self, authorities: str) -> None:
        """Have the authorities in the ConfigMap, for monitors to trust."""
        data = {CA: authorities}
        try:
            found = await self._client.get(CONFIG_MAPS, self._namespace, CONFIG_MAP)
        except NotFound:
            meta = {"name": CONFIG_MAP, "labels": _LABELS}
            await self._client.create(
                CONFIG_MAPS, self._namespace, {"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta, "data": data}
            )
            return
        if found.data.get(CA) != authorities:
            version = {"resourceVersion": found.metadata.resource_version}
            await self._client.patch(CONFIG_MAPS, self._namespace, CONFIG_MAP, {"metadata": version, "data": data})

    def _take(self, papers: Papers) -> None:
        made = Certificate(papers.certificate, papers.key)
        if made != self._certificate:
            self._certificate = made
        self._is_there.set()


_ADVICE = f"Secret {SECRET}: put it right, or delete it and it is made anew"


def _papers(secret: Secret) -> Papers:
    data = secret.data
    return Papers(data.get(CRT, b""), data.get(KEY, b""), data.get(CA, b""), data.get(CA_KEY, b""))


def _data(papers: Papers) -> dict[str, bytes]:
    return {CRT: papers.certificate, KEY: papers.key, CA: papers.authorities, CA_KEY: papers.authority_key}
