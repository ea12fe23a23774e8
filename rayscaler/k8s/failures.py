"""What the API server's refusals mean in our own errors. Pure.

A 403 has three meanings: a right is missing (Denied), a quota is used up (InsufficientCapacity), an admission rule does not
like the object (InvalidRequest). Only the words tell them apart.
"""

from collections.abc import Mapping

import msgspec

from rayscaler.errors import Busy, Conflict, Denied, InsufficientCapacity, InvalidRequest, NotFound, RayscalerError, Unavailable
from rayscaler.k8s.objects import Failure

_DECODER = msgspec.json.Decoder(Failure)


class AlreadyExists(Conflict):
    """An object of that name exists; whether it is the same one, the caller finds out."""


class Expired(Unavailable):
    """The version that was asked for is too old: list again."""


class Overloaded(Unavailable):
    """Nothing was done; ask again after `retry_after_s`."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


_BY_STATUS: Mapping[int, type[RayscalerError]] = {
    400: InvalidRequest,
    404: NotFound,
    409: Busy,
    410: Expired,
    413: InvalidRequest,
    422: InvalidRequest,
}


def read(body: bytes) -> Failure:
    """Return the `Status` in an answer's body; of a proxy on the way, its first words."""
    try:
        return _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Failure(message=body[:200].decode(errors="replace"))


def of(status: int, failure: Failure, what: str, retry_after: str | None = None) -> RayscalerError:
    """Return the error of an HTTP status; `what` is the call, such as `create pods in ml`."""
    text = f"{what}: {failure.message or failure.reason or f'HTTP status {status}'}"
    if status == 409 and failure.reason == "AlreadyExists":
        return AlreadyExists(text)
    if status == 403:
        return _forbidden(failure, text, what)
    if status == 401:
        return Denied(f"{text}; the service's token or certificate is not valid here")
    if status == 429 or (status == 503 and retry_after is not None):
        told = failure.details.retry_after_seconds if failure.details is not None else 0.0
        return Overloaded(text, _seconds(retry_after) or told or 1.0)
    return _BY_STATUS.get(status, Unavailable)(text)


def _forbidden(failure: Failure, text: str, what: str) -> RayscalerError:
    if "exceeded quota" in failure.message:
        return InsufficientCapacity(text)
    if "is being terminated" in failure.message:
        return Unavailable(text)
    if " cannot " in failure.message or not failure.message:
        return Denied(f"{text}; the Role of the service's account lacks the right to {what}")
    return InvalidRequest(text)


def _seconds(retry_after: str | None) -> float:
    """Return the seconds of a Retry-After header; the API server never sends a date."""
    return float(retry_after) if retry_after and retry_after.isdigit() else 0.0
