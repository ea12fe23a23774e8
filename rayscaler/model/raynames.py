"""Names that Ray gives: resources that it makes by itself, and the ids and namespaces that say whose something is."""

import re

HEAD_RESOURCE = "node:__internal_head__"
"""The resource that Ray gives to the head's node only."""
GROUP_MARK = "_group_"
"""Part of every resource name that Ray makes for a placed group."""
SYNTHETIC_WITHIN = re.compile(r"_group_(\d+_)?[0-9a-f]{36}\b")
SYNTHETIC = re.compile(rf".+{SYNTHETIC_WITHIN.pattern}")
"""Ray's resources of a placed group, `CPU_group_<id>` or `CPU_group_<index>_<id>`: 18 bytes of id, so that a user's own name passes."""
INTERNAL_NAMESPACE = "_ray_internal_"
"""The namespaces of Ray's own jobs start so."""
GROUP_BYTES, JOB_BYTES = 18, 4
"""A placement group's id has 18 bytes, and ends with the id of the job that made it."""


def is_synthetic(name: str) -> bool:
    """Whether a resource is one that Ray cut out of a node for a placed group."""
    return GROUP_MARK in name and SYNTHETIC.fullmatch(name) is not None
