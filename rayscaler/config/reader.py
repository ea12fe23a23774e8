"""Reading a mapping as it came from YAML: checks values one by one and collects every problem as path, value and rule.

Owns the rules that hold for any value of a kind. Knows no file's keys.
"""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

from rayscaler.config import quantity, shown
from rayscaler.errors import Problem
from rayscaler.model.nodetype import NEVER
from rayscaler.model.resources import DEVICES, UNIT, WHOLE, Resources

NAME = re.compile(r"[a-z]([a-z0-9-]{0,51}[a-z0-9])?")
"""A DNS-1035 label short enough for the names made of it."""
MOST = 1_000_000
"""Of anything counted: more than any cluster has, and well inside the protocol's int32."""
MOST_TEXT = 10**18
"""Of a number that is taken as text."""
NOT_YET = frozenset({"schedules", "suspend"})
"""Keys of later features."""
_RESOURCE = re.compile(r"[^\x00-\x1f\x7f]{1,200}")
_TEXT = re.compile(r"[^\x00]*")
_LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?)?")
_LABEL_KEY = re.compile(r"([A-Za-z0-9][A-Za-z0-9.-]{0,252}/)?[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_E = TypeVar("_E", bound=StrEnum)
Rule = tuple[re.Pattern[str], str]
"""A pattern, and how it is said."""
_PAIRS: Mapping[str, tuple[Rule, Rule]] = {
    "labels": (
        (
            _LABEL_KEY,
            "Ray takes letters, digits, '-', '_' and '.' as a label's name, 63 at most, with a DNS name and '/' before it if you like",
        ),
        (_LABEL, "Ray takes letters, digits, '-', '_' and '.' in a label, 63 at most, the first and the last a letter or digit"),
    ),
    "env": (
        (
            re.compile(r"[A-Za-z_.-][A-Za-z0-9_.-]{0,199}"),
            "a variable's name has letters, digits, '_', '-' and '.', and begins with no digit",
        ),
        (_TEXT, "must not contain the character NUL"),
    ),
    "startParams": (
        (
            re.compile(r"[a-z0-9][a-z0-9-]{0,99}"),
            "a flag of `ray start` is written like object-store-memory: lower case, '-' between words, no leading --",
        ),
        (_TEXT, "must not contain the character NUL"),
    ),
}


def near(said: object, names: Iterable[str]) -> str:
    """Say which of the names was meant, as far as the spelling tells."""
    known = sorted(names)
    found = difflib.get_close_matches(str(said)[:100], known, 1)
    return f"did you mean {found[0]}?" if found else f"one of: {', '.join(known) or 'none'}"


class Reader:
    """Collects problems while it reads; a wrong value reads as its default, so that the rest is checked too."""

    def __init__(self, hint: Callable[[str, set[str]], str] = near) -> None:
        self.problems: list[Problem] = []
        self._hint = hint

    def problem(self, path: str, value: object, rule: str) -> None:
        """Note what is wrong with the value at `path`."""
        self.problems.append(Problem(path, shown.value(value), rule))

    def mapping(self, path: str, value: object, keys: set[str] | None = None) -> Mapping[str, Any]:
        """Return a mapping, an absent one as empty; with `keys` no others may stand there."""
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            self.problem(path or "document", value, "must be a mapping")
            return {}
        for key in value:
            if not isinstance(key, str):
                self.problem(shown.under(path, key), key, "a key must be text; put it in quotes")
            elif keys is not None and key not in keys:
                self._unknown(shown.under(path, key), key, keys)
        return {key: each for key, each in value.items() if isinstance(key, str)}

    def _unknown(self, where: str, key: str, keys: set[str]) -> None:
        if key in NOT_YET:
            self.problem(where, key, "not yet: this version of rayscaler does not have it; leave it out")
            return
        self.problem(where, key, f"unknown key; {self._hint(key, keys)}")

    def number(self, path: str, value: object, default: Any, *, low: float, whole: bool = True) -> Any:
        """Return a number from `low` to MOST, `default` where there is none."""
        if value is None:
            return default
        if isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= MOST and not (whole and value != int(value)):
            return int(value) if whole else value
        self.problem(path, value, f"must be a {'whole ' if whole else ''}number from {low:.0f} to {MOST}")
        return default

    def boolean(self, path: str, value: object) -> bool:
        """Return true or false, false where there is none."""
        if value is not None and not isinstance(value, bool):
            self.problem(path, value, "must be true or false")
        return value is True

    def choice(self, path: str, value: object, default: _E) -> _E:
        """Return one of the words of `default`'s kind, `default` where there is none."""
        kind = type(default)
        if value is None:
            return default
        if not isinstance(value, str) or value not in tuple(kind):
            self.problem(path, value, near(value, kind))
            return default
        return kind(value)

    def idle_timeout(self, path: str, value: object, default: float | None) -> float | None:
        """Return seconds, NEVER for `never`."""
        if value is None or value == "never":
            return default if value is None else NEVER
        try:
            return quantity.duration_s(value)
        except ValueError as error:
            self.problem(path, value, f"{error}; never means no timeout")
            return default

    def resources(self, path: str, value: object) -> Resources:
        """Return amounts that a node can have: of Ray's own resources whole ones, of any other decimals too."""
        amounts = {}
        for name, raw in self.mapping(path, value).items():
            where = shown.under(path, name)
            if not _RESOURCE.fullmatch(name):
                self.problem(where, name, "a resource's name has 1 to 200 characters and no control character")
            try:
                amounts[name] = quantity.amount(name, raw)
                if name in WHOLE and amounts[name] % UNIT:
                    self.problem(where, raw, f"a node has whole amounts of {name}; tasks may still ask for fractions")
            except ValueError as error:
                self.problem(where, raw, str(error))
        return Resources(amounts)

    def devices(self, path: str, value: object) -> tuple[str, ...]:
        """Return names of resources that come as devices, sorted; CPUs and bytes never do."""
        if value is None:
            return ()
        if not isinstance(value, list):
            self.problem(path, value, "must be a list of resources' names")
            return ()
        found = []
        for index, name in enumerate(value):
            if not isinstance(name, str) or not _RESOURCE.fullmatch(name) or name in WHOLE - DEVICES:
                self.problem(f"{path}[{index}]", name, "must be the name of a resource that comes as devices")
            elif name in found:
                self.problem(path, name, "stands there twice")
            else:
                found.append(name)
        return tuple(sorted(found))

    def pairs(self, path: str, kind: str, value: object, special: Mapping[str, Rule] | None = None) -> tuple[tuple[str, str], ...]:
        """Return the names and texts of a mapping such as env, sorted; `special` has the rules for the texts of some names."""
        for_name, for_text = _PAIRS[kind]
        found = []
        for name, raw in self.mapping(f"{path}.{kind}", value).items():
            where = shown.under(f"{path}.{kind}", name)
            text = self._text(where, raw)
            checks = [(name, name, for_name), (text, raw, (special or {}).get(name, for_text))]
            for checked, said, (pattern, rule) in checks:
                if checked is not None and not pattern.fullmatch(checked):
                    self.problem(where, said, rule)
            found.append((name, text or ""))
        return tuple(sorted(found))

    def _text(self, path: str, value: object) -> str | None:
        """Whole numbers are taken as text; what YAML reads as something else (`on`, 1.10, 2024-01-01) would come out as another text."""
        is_whole = isinstance(value, int) and not isinstance(value, bool) and abs(value) <= MOST_TEXT
        if value is not None and not is_whole and not isinstance(value, str):
            self.problem(path, value, "must be text; put it in quotes")
            return None
        return "" if value is None else str(value)

    def name(self, path: str, value: object) -> str:
        """Return a name, "" where it is none."""
        if not isinstance(value, str) or not NAME.fullmatch(value):
            self.problem(path, value, "must be lower-case letters, digits and '-', start with a letter, 53 characters at most")
            return ""
        return value
