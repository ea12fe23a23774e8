"""A demand file: what a Ray cluster might ask for and what it has, for planning without one. Every problem is told at once.

Owns the format of `rayscaler plan --demand`. A bundle's label wishes are alternatives in their order, as Ray reports them.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rayscaler.config import quantity, shown
from rayscaler.config.reader import Reader, near
from rayscaler.errors import InvalidRequest
from rayscaler.model.demand import Bundle, Demand, Gang, LabelCondition, LabelSelector, Locality, Operator, Strategy
from rayscaler.model.nodetype import ClusterConfig, NodeType
from rayscaler.model.resources import Resources, to_text

MOST_GANGS = 10_000
"""Equal gangs of one entry: each is placed by itself, while demand is planned by count."""
MOST_NODES = 100_000
"""Equal nodes of one entry: more than any cluster has."""
_VALUE = r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_WISH = re.compile(rf"(?P<not>!?)(?:in\((?P<many>{_VALUE}(?:, ?{_VALUE})*)\)|(?P<one>{_VALUE}))")
_KEY = re.compile(rf"(?:[A-Za-z0-9][A-Za-z0-9.-]{{0,252}}/)?{_VALUE}")
_ROOT = {"demands", "gangs", "constraints", "nodes"}
_DEMAND = {"resources", "count", "labelSelectors"}
_GANG = {"strategy", "count", "bundles", "within"}
_NODES = {"type", "count", "used"}
_SYNTHETIC = "bundle_group_"
"""What Ray calls the room of a placed group; the planner leaves tasks that ask for it out, since the group is the demand."""


@dataclass(frozen=True)
class Nodes:
    """`count` joined nodes of a type, `used` of each in use."""

    node_type: NodeType
    count: int
    used: Resources = field(default_factory=Resources)


@dataclass(frozen=True)
class Wanted:
    """A demand file's content, an element per entry of the file; of an entry in `gangs` its equal gangs."""

    demands: tuple[Demand, ...] = ()
    gangs: tuple[tuple[Gang, ...], ...] = ()
    constraints: tuple[Demand, ...] = ()
    nodes: tuple[Nodes, ...] = ()


def is_demand(document: object) -> bool:
    """Whether a document as read from YAML is meant as a demand file: it has a key of one, and says of no kind that it is."""
    return isinstance(document, Mapping) and "kind" not in document and any(key in document for key in _ROOT)


def wanted(document: object, config: ClusterConfig | None) -> Wanted:
    """Return what a document as read from YAML asks of `config`; raises InvalidRequest with every problem.

    Without a definition any node type may stand there, and what is used of it.
    """
    read = Reader()
    root = read.mapping("", document, _ROOT)
    found = Wanted(
        demands=tuple(_demand(read, path, raw) for path, raw in _listed(read, "demands", root.get("demands"))),
        gangs=tuple(_gangs(read, path, raw) for path, raw in _listed(read, "gangs", root.get("gangs"))),
        constraints=tuple(_demand(read, path, raw) for path, raw in _listed(read, "constraints", root.get("constraints"))),
        nodes=tuple(_nodes(read, path, raw, config) for path, raw in _listed(read, "nodes", root.get("nodes"))),
    )
    if read.problems:
        raise InvalidRequest(*read.problems)
    return found


def _listed(read: Reader, path: str, value: object) -> Iterable[tuple[str, Any]]:
    if value is not None and not isinstance(value, list):
        read.problem(path, value, "must be a list")
        return ()
    return [(f"{path}[{index}]", raw) for index, raw in enumerate(value or ())]


def _demand(read: Reader, path: str, value: object) -> Demand:
    raw = read.mapping(path, value, _DEMAND)
    resources = _asked(read, f"{path}.resources", raw.get("resources"))
    selectors = tuple(_selector(read, where, each) for where, each in _listed(read, f"{path}.labelSelectors", raw.get("labelSelectors")))
    if not any(each.conditions for each in selectors[:1]):
        selectors = ()  # the first alternative holds everywhere
    return Demand(Bundle(resources, selectors), read.number(f"{path}.count", raw.get("count"), 1, low=1))


def _asked(read: Reader, path: str, value: object) -> Resources:
    if value is None:
        read.problem(path, value, "is missing; {} is for what needs nothing but a node")
    amounts = _amounts(read, path, value)
    for name in value if isinstance(value, dict) else ():
        if str(name).startswith(_SYNTHETIC):
            read.problem(shown.under(path, name), name, "is Ray's own for the room of a placed group; list the group under gangs")
    return amounts


def _amounts(read: Reader, path: str, value: object) -> Resources:
    amounts = {}
    for name, raw in read.mapping(path, value).items():
        try:
            amounts[name] = quantity.amount(name, raw)
        except ValueError as error:
            read.problem(shown.under(path, name), raw, str(error))
    return Resources(amounts)


def _selector(read: Reader, path: str, value: object) -> LabelSelector:
    conditions = []
    for key, wish in read.mapping(path, value).items():
        where = shown.under(path, key)
        try:
            conditions.append(condition(key, wish))
        except ValueError as error:
            is_key = not _KEY.fullmatch(key)
            read.problem(where, key if is_key else wish, str(error) if is_key else f"{error}; quote it where it begins with !")
    return LabelSelector(tuple(sorted(conditions)))


def condition(key: str, wish: object) -> LabelCondition:
    """Return a label wish as people write it; raises ValueError with the rule."""
    if not _KEY.fullmatch(key):
        raise ValueError("a label's key is a name of letters, digits, '-', '_', '.', with a DNS name and '/' before it if you like")
    match = _WISH.fullmatch(wish) if isinstance(wish, str) else None
    if match is None:
        raise ValueError("a label wish is written a, !a, in(a, b) or !in(a, b)")
    values = re.split(", ?", match["many"] or match["one"])
    return LabelCondition(key, Operator.NOT_IN if match["not"] else Operator.IN, tuple(sorted(set(values))))


def _gangs(read: Reader, path: str, value: object) -> tuple[Gang, ...]:
    raw = read.mapping(path, value, _GANG)
    strategy = read.choice(f"{path}.strategy", raw.get("strategy"), Strategy.PACK)
    bundles = tuple(_demand(read, where, each) for where, each in _listed(read, f"{path}.bundles", raw.get("bundles")))
    if not bundles and not raw.get("bundles"):
        read.problem(f"{path}.bundles", raw.get("bundles"), "must have at least one bundle")
    count = _at_most(read, f"{path}.count", raw.get("count"), MOST_GANGS)
    within = _within(read, f"{path}.within", raw.get("within"))
    return tuple(Gang(f"{path} #{number + 1}", strategy, bundles, locality=within) for number in range(count))


def _within(read: Reader, path: str, value: object) -> Locality | None:
    if value is None:
        return None
    if not isinstance(value, str) or not _KEY.fullmatch(value):
        read.problem(path, value, "must be a label's key, such as zone, within one value of which all bundles shall lie")
        return None
    return Locality(value)


def _nodes(read: Reader, path: str, value: object, config: ClusterConfig | None) -> Nodes:
    raw = read.mapping(path, value, _NODES)
    found = _type(read, f"{path}.type", raw.get("type"), config)
    count = _at_most(read, f"{path}.count", raw.get("count"), MOST_NODES)
    used = _amounts(read, f"{path}.used", raw.get("used"))
    for resource, amount in used.items():
        has = 0 if found is None else found.resources.amounts.get(resource, 0)
        if found is not None and amount > has:
            rule = f"is more than {found.name} has, {to_text(resource, has)}"
            read.problem(shown.under(f"{path}.used", resource), raw["used"].get(resource), rule)
    return Nodes(found or NodeType("", Resources()), count, used)


def _type(read: Reader, path: str, name: object, config: ClusterConfig | None) -> NodeType | None:
    """Return the definition's node type of that name; None where it has none, or where nobody knows the definition."""
    if config is None:
        read.name(path, name)
        return None
    found = config.node_type(name) if isinstance(name, str) else None
    if found is None:
        rule = near(name, [each.name for each in config.node_types])
        read.problem(path, name, f"no such node type in the definition; {rule}")
    return found


def _at_most(read: Reader, path: str, value: object, most: int) -> int:
    count: int = read.number(path, value, 1, low=1)
    if count > most:
        read.problem(path, value, f"must be {most} at most in one entry")
        return 1
    return count
