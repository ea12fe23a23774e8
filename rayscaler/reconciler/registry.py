"""Cluster name to its reconciler."""

from collections.abc import Iterable

from rayscaler.errors import NotFound
from rayscaler.reconciler.cluster import ClusterReconciler


class Registry:
    """All clusters of this service."""

    def __init__(self, reconcilers: Iterable[ClusterReconciler] = ()) -> None:
        self._of_name = {each.name: each for each in reconcilers}

    def add(self, reconciler: ClusterReconciler) -> None:
        """Take a cluster in."""
        self._of_name[reconciler.name] = reconciler

    def remove(self, name: str) -> None:
        """Forget a cluster."""
        del self._of_name[name]

    def get(self, name: str) -> ClusterReconciler:
        """Return the reconciler of a cluster; raises NotFound naming those there are."""
        found = self._of_name.get(name)
        if found is None:
            known = ", ".join(sorted(self._of_name)) or "none"
            raise NotFound(f"cluster {name!r} has no definition here; defined: {known}")
        return found

    def all(self) -> list[ClusterReconciler]:
        """Return every reconciler by name."""
        return [self._of_name[name] for name in sorted(self._of_name)]
