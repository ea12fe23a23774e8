"""Credentials of both ends of a call: by what the service is known, and who calls it."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Certificate:
    """The service's certificate and its key, PEM both."""

    chain: bytes
    key: bytes = field(repr=False)


@dataclass(frozen=True)
class Caller:
    """The pod that calls, as its credential says: names are used again, uids never."""

    namespace: str
    pod: str
    uid: str
