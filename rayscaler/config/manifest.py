"""A definition within the manifest of a ConfigMap, as Kubernetes gets it, read before it is there. Pure.

Speaks of the text and of what would keep the service from finding it; what the text says is judged by others.
"""

from dataclasses import dataclass

from rayscaler.config import shown
from rayscaler.config.reader import Reader
from rayscaler.errors import InvalidRequest

LABEL = "rayscaler.io/cluster"
KEY = "cluster.yaml"
"""Where the definition stands in a ConfigMap that has more than one key."""


@dataclass(frozen=True)
class Wrapped:
    """The ConfigMap's name, the place of the definition in it, and its text."""

    name: str
    place: str
    text: str


def definition(content: object) -> Wrapped | None:
    """Return the definition in a ConfigMap's manifest, None for any other document; raises InvalidRequest with every problem."""
    if not isinstance(content, dict) or content.get("kind") != "ConfigMap":
        return None
    read = Reader()
    metadata = read.mapping("metadata", content.get("metadata"))
    name = read.name("metadata.name", metadata.get("name"))
    labels = read.mapping("metadata.labels", metadata.get("labels"))
    if LABEL not in labels:
        read.problem("metadata.labels", labels, f"must have {LABEL}: by it the service finds definitions")
    data = read.mapping("data", content.get("data"))
    key = KEY if KEY in data or len(data) != 1 else next(iter(data))
    place, text = shown.under("data", key), data.get(key)
    if not isinstance(text, str):
        read.problem(place, text, "must be the definition as text; begin it with '|' and indent it")
    if read.problems:
        raise InvalidRequest(*read.problems)
    return Wrapped(name, place, str(text))
