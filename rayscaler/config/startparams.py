"""Start parameters that say what a definition has keys for, amounts and labels: both are one, or a problem (PT-14). Pure.

The flag of `ray start` would win on the node, and planning would go by the key. So an amount said by a flag becomes one of the definition's
resources, and the flag is made of those again. What only the node can tell, such as a variable, stays a flag.
"""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from rayscaler.config.reader import Reader
from rayscaler.model.resources import Resources, to_text

Pairs = tuple[tuple[str, str], ...]

AMOUNTS = {"num-cpus": "CPU", "num-gpus": "GPU", "memory": "memory", "object-store-memory": "object_store_memory"}
"""Flags for one resource each."""
OTHERS = "resources"
"""The flag for all other resources, as JSON."""
LABELS = "labels"


@dataclass(frozen=True)
class Settled:
    """What a node brings as its definition says it, and the flags that say something else."""

    resources: Resources
    stated: frozenset[str]
    """Names of what the definition speaks of, also of 0."""
    start_params: Pairs


def settle(read: Reader, path: str, declared: Resources, stated: Collection[str], start_params: Pairs) -> Settled:
    """Return resources and flags as one; a flag that says another thing than the resources is a problem."""
    if _is_faulty(read, f"{path}.resources"):
        return Settled(declared, frozenset(stated), start_params)
    flags, found = dict(start_params), dict.fromkeys(stated, 0) | declared.amounts
    for flag in (*AMOUNTS, OTHERS):
        if flag not in flags or _is_faulty(read, f"{path}.startParams.{flag}"):
            continue
        amounts = _amounts(flag, flags[flag])
        rivals = {name: found[name] for name in stated if _speaks_of(flag, name)}
        if rivals and (amounts is None or Resources(amounts) != Resources(rivals)):
            said = ", ".join(f"{name}: {to_text(name, amount)}" for name, amount in sorted(rivals.items()))
            rule = f"stands in {path}.resources too, and not the same: {said}; leave it out here, since resources is what planning goes by"
            read.problem(f"{path}.startParams.{flag}", flags[flag], rule)
        elif amounts is not None:
            del flags[flag]
            found |= amounts
    return Settled(Resources(found), frozenset(found), tuple(sorted(flags.items())))


def without_labels(read: Reader, path: str, labels: Pairs, start_params: Pairs) -> Pairs:
    """Return a node type's flags without labels, which have a key of their own there; other labels than that key's are a problem."""
    flags = dict(start_params)
    said = flags.pop(LABELS, None)
    if said is None or _is_faulty(read, f"{path}.labels"):
        return start_params
    if dict(each.partition("=")[::2] for each in said.split(",")) != dict(labels):
        rule = f"labels stand in {path}.labels alone, where planning sees them: put them there, and leave this out"
        read.problem(f"{path}.startParams.{LABELS}", said, rule)
    return tuple(sorted(flags.items()))


def _is_faulty(read: Reader, path: str) -> bool:
    return any(each.path.startswith(path) for each in read.problems)


def _speaks_of(flag: str, name: str) -> bool:
    return AMOUNTS[flag] == name if flag in AMOUNTS else name not in AMOUNTS.values()


def _amounts(flag: str, text: str) -> Mapping[str, int] | None:
    """Return what a flag says, None where that cannot be told here or is Ray's to refuse."""
    try:
        said = {AMOUNTS[flag]: text} if flag in AMOUNTS else json.loads(text)
    except (ValueError, RecursionError):
        return None
    read = Reader()
    found = read.resources("", said)
    if said is None or read.problems or not all(_speaks_of(flag, name) for name in said):
        return None
    return dict.fromkeys(said, 0) | found.amounts
