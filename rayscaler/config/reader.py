"""Reading a mapping as it came from YAML: checks values one by one and collects every problem as path, value and rule.

Owns the rules that hold for any value of a kind. Knows no file's keys.
"""

import difflib
import re
import reprlib
from collections.abc import Mapping
from typing import Any

from rayscaler.config import quantity
from rayscaler.model.resources import Resources

NAME = re.compile(r"[a-z]([a-z0-9-]{0,51}[a-z0-9])?")
"""A DNS-1035 label short enough for the names made of it."""
MOST = 1_000_000
"""Of anything counted: more than any cluster has, and well inside the protocol's int32."""
NOT_YET = frozenset({"spendLimit", "headroom", "schedules", "suspend"})
"""Keys of later features."""

_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxlong = _SHORT.maxother = 100
_SHORT.maxlevel = 2


class Reader:
    """Collects problems while it reads; a wrong value reads as its default, so that the rest is checked too."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def problem(self, path: str, value: object, rule: str) -> None:
        """Note what is wrong with the value at `path`."""
        self.problems.append(f"{path}: {_shown(value)}: {rule}")

    def mapping(self, path: str, value: object, keys: set[str] | None = None) -> Mapping[str, Any]:
        """Return a mapping, an absent one as empty; with `keys` no others may stand there."""
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.problem(path or "document", value, "must be a mapping")
            return {}
        for key in value:
            if keys is not None and key not in keys:
                self._unknown(path, str(key), keys)
        return value

    def _unknown(self, path: str, key: str, keys: set[str]) -> None:
        where = f"{path}.{key[:100]}" if path else key[:100]
        if key in NOT_YET:
            self.problem(where, key, "not yet: this version of rayscaler does not have it; leave it out")
            return
        near = difflib.get_close_matches(key[:100], keys, 1)
        hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(sorted(keys))}"
        self.problem(where, key, f"unknown key; {hint}")

    def number(self, path: str, value: object, default: Any, *, low: float, whole: bool = True) -> Any:
        """Return a number from `low` to MOST, `default` where there is none."""
        if value is None:
            return default
        kinds = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= MOST:
            self.problem(path, value, f"must be a {'whole ' if whole else ''}number from {low:.0f} to {MOST}")
            return default
        return value

    def boolean(self, path: str, value: object) -> bool:
        """Return true or false, false where there is none."""
        if value is not None and not isinstance(value, bool):
            self.problem(path, value, "must be true or false")
        return value is True

    def duration(self, path: str, value: object, default: float | None) -> float | None:
        """Return seconds."""
        if value is None:
            return default
        try:
            return quantity.duration_s(value)
        except ValueError as error:
            self.problem(path, value, str(error))
            return default

    def resources(self, path: str, value: object) -> Resources:
        """Return amounts by resource name."""
        amounts = {}
        for name, raw in self.mapping(path, value).items():
            try:
                amounts[str(name)] = quantity.amount(str(name), raw)
            except ValueError as error:
                self.problem(f"{path}.{name}", raw, str(error))
        return Resources(amounts)

    def texts(self, path: str, value: object) -> tuple[tuple[str, str], ...]:
        """Return pairs of texts, sorted."""
        return tuple(sorted((str(k), self._text(f"{path}.{k}", v)) for k, v in self.mapping(path, value).items()))

    def _text(self, path: str, value: object) -> str:
        """Numbers are taken as text; what YAML turned into something else (`on`, 2024-01-01) would come out as another text."""
        if value is None:
            return ""
        is_huge = isinstance(value, int) and abs(value) > MOST**3
        if isinstance(value, bool) or not isinstance(value, str | int | float) or is_huge:
            self.problem(path, value, "must be text; put it in quotes")
            return ""
        return str(value)

    def name(self, path: str, value: object) -> str:
        """Return a name, "" where it is none."""
        if not isinstance(value, str) or not NAME.fullmatch(value):
            self.problem(path, value, "must be lower-case letters, digits and '-', start with a letter, 53 characters at most")
            return ""
        return value


def _shown(value: object) -> str:
    """Show a value in a problem: short, also where YAML aliases make a small document a huge value."""
    try:
        return _SHORT.repr(value)[:200]
    except ValueError:  # Python writes out no integer of thousands of digits
        return "a huge number"
