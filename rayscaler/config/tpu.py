"""What a TPU slice on Google Kubernetes Engine brings beside its chips, read from a pod's node selector as KubeRay reads it (PT-13). Pure.

Ray gives the first host of a slice a resource `TPU-<type>-head`, by which a job takes the whole slice. A slice of one host has it on each
node. Slices of several hosts are not launched by this version, and a node of one promises no head.
"""

import math
from collections.abc import Mapping

ACCELERATOR, TOPOLOGY = "cloud.google.com/gke-tpu-accelerator", "cloud.google.com/gke-tpu-topology"
GENERATIONS = {
    "tpu-v4-podslice": ("v4", 2),
    "tpu-v5-lite-device": ("v5litepod", 1),
    "tpu-v5-lite-podslice": ("v5litepod", 1),
    "tpu-v5p-slice": ("v5p", 2),
    "tpu-v6e-slice": ("v6e", 1),
    "tpu7x": ("v7x", 2),
}
"""Google's name: Ray's name, and the cores of a chip, by which Ray counts a slice (Ray 2.60)."""

LONGEST = 32
"""Characters of a topology; there are slices of 9,216 chips."""


def head_resource(node_selector: object, chips: int) -> str:
    """Return the name of the head's resource of a slice that is one node with so many chips, "" where it is no such slice."""
    if not isinstance(node_selector, Mapping):
        return ""
    generation, cores = GENERATIONS.get(str(node_selector.get(ACCELERATOR)), ("", 0))
    whole = _chips(str(node_selector.get(TOPOLOGY, "")))
    return f"TPU-{generation}-{whole * cores}-head" if generation and whole == chips else ""


def _chips(topology: str) -> int:
    """Return the chips of a topology such as 2x2x1; 0 of what is none."""
    sides = topology.strip().lower().split("x")
    return math.prod(map(int, sides)) if len(topology) < LONGEST and all(each.isdecimal() for each in sides) else 0
