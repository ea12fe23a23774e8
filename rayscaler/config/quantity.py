"""Durations and quantities as people write them. Pure; raises ValueError with the rule."""

import re
from decimal import Decimal

from rayscaler.model.resources import BYTES, UNIT

_DURATION = re.compile(r"(?:([0-9]{1,9})h)?(?:([0-9]{1,9})m)?(?:([0-9]{1,9}(?:\.[0-9]{1,9})?)s)?")
"""At most nine digits each: more is a slip, and would not be exact as a float."""
_SUFFIXES = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30, "Ti": 1 << 40, "Pi": 1 << 50, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,3})?")
"""Without an exponent that a Decimal could not hold."""
_POWERS: dict[str, int | Decimal] = {
    **_SUFFIXES,
    "Ei": 1 << 60,
    "E": 10**18,
    "m": Decimal("1e-3"),
    "u": Decimal("1e-6"),
    "n": Decimal("1e-9"),
}
"""All suffixes of a Kubernetes quantity; two letters come before one when they are looked for."""
_MAX_UNITS = 1 << 62
"""As much as the protocol takes of one resource."""
_MAX_DURATION_S = 366 * 86_400
"""A year: more is a slip, and would lie beyond what a Timestamp can name."""


def duration_s(value: object) -> float:
    """Return seconds of `30s`, `5m`, `1h30m`."""
    match = _DURATION.fullmatch(value) if isinstance(value, str) and value else None
    if match is None or not any(match.groups()):
        raise ValueError("a duration is written like 30s, 5m or 1h30m")
    hours, minutes, seconds = match.groups()
    found = int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds or 0)
    if found > _MAX_DURATION_S:
        raise ValueError(f"a duration is {_MAX_DURATION_S // 3600}h at most")
    return found


def amount(name: str, value: object) -> int:
    """Return an amount of resource `name` in 1/10000 units: whole or decimal; bytes take Kubernetes quantities such as 64Gi."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError("an amount is a number")  # noqa: TRY004 - every problem with a value is a ValueError here
    units = _number(name, value) * UNIT
    if not units.is_finite() or units < 0:
        raise ValueError("an amount is 0 or more")
    if units > _MAX_UNITS:
        raise ValueError(f"an amount is {_MAX_UNITS // UNIT} at most")
    if units != int(units):
        raise ValueError("Ray counts in steps of 0.0001")
    return int(units)


def kubernetes(value: object) -> Decimal:
    """Return the number of a Kubernetes quantity: 2, 0.5, 500m, 64Gi, 1e9."""
    rule = "a quantity is written like 2, 500m or 64Gi"
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(rule)  # noqa: TRY004 - every problem with a value is a ValueError here
    text = str(value)
    suffix = next((each for each in sorted(_POWERS, key=len, reverse=True) if text.endswith(each)), "")
    if not _NUMBER.fullmatch(text.removesuffix(suffix)):
        raise ValueError(rule)
    found = Decimal(text.removesuffix(suffix)) * _POWERS.get(suffix, 1)
    if found * UNIT > _MAX_UNITS:
        raise ValueError(f"an amount is {_MAX_UNITS // UNIT} at most")
    return found


def _number(name: str, value: float | str) -> Decimal:
    """Return a number as it is written; bytes may have a suffix."""
    if not isinstance(value, str):
        return Decimal(value) if isinstance(value, int) else Decimal(str(value))
    suffix = next((each for each in _SUFFIXES if value.endswith(each)), "") if name in BYTES else ""
    text = value.removesuffix(suffix)
    if not _NUMBER.fullmatch(text.removeprefix("-")):
        raise ValueError("bytes are written like 64Gi or 1000000" if name in BYTES else "an amount is a number")
    return Decimal(text) * _SUFFIXES.get(suffix, 1)
