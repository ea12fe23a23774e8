"""Replicas of several hosts: the number that each has among those of its node type, by the pods that carry it. Pure.

The lowest number that is free, as KubeRay gives it, for jobs that span replicas count them from 0. A replica keeps its own for as long as a host of
it lives, whatever becomes of others; one that is all ending has given it up.
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from rayscaler.executor.base import LaunchSpec


@dataclass
class _Replica:
    index: int
    hosts: set[str] = field(default_factory=set)
    """Uids of its pods, and the instances whose pods are being made."""


class Replicas:
    """The replicas of all clusters that have a host, or will at once."""

    def __init__(self) -> None:
        self._of_type: dict[tuple[str, str], dict[str, _Replica]] = {}

    @contextlib.contextmanager
    def launching(self, spec: LaunchSpec) -> Iterator[int]:
        """Return the index of a spec's replica, and keep it taken meanwhile: all its hosts are launched at the same time. 0 where it is of none."""
        if not spec.replica:
            yield 0
            return
        which = (spec.cluster, spec.node_type.name, spec.replica)
        known = self._of_type.setdefault(which[:2], {})
        if spec.replica not in known:
            taken = {each.index for each in known.values()}
            known[spec.replica] = _Replica(next(each for each in count() if each not in taken))
        known[spec.replica].hosts.add(spec.instance_id)
        try:
            yield known[spec.replica].index
        finally:
            self.left(*which, spec.instance_id)

    def joined(self, cluster: str, node_type: str, replica: str, uid: str, index: str) -> None:
        """Note a pod of a replica with the index that stands on it, which wins: it is what others have seen."""
        if index.isdecimal():
            known = self._of_type.setdefault((cluster, node_type), {}).setdefault(replica, _Replica(int(index)))
            known.index = int(index)
            known.hosts.add(uid)

    def left(self, cluster: str, node_type: str, replica: str, uid: str) -> None:
        """Note that a pod is ending or gone."""
        known = self._of_type.get((cluster, node_type), {})
        if replica in known:
            known[replica].hosts.discard(uid)
            if not known[replica].hosts:
                del known[replica]
