"""An executor in Python. Its machines are entries of a file: put what your cloud or your cluster offers in their place.

python3 smallest.py FILE
"""

import shelve
import sys
import time
from collections.abc import AsyncIterator

from rayscaler.errors import Conflict
from rayscaler.executor.base import LaunchSpec
from rayscaler.executor.feed import Feed
from rayscaler.model.instance import InstanceObservation, Phase
from rayscaler.plugin import serve
from rayscaler.throttle import Unpaced


class Example:
    def __init__(self, file: str) -> None:
        self.pace = Unpaced()  # bears any number of calls
        self.feed = Feed()
        self.machines = shelve.open(file)  # noqa: SIM115 - open while it serves; outlives this process, as machines do

    async def launch(self, spec: LaunchSpec) -> str:
        known = self.machines.setdefault(f"{spec.cluster}/{spec.instance_id}", spec)
        self.machines.sync()
        if known != spec:  # the same once more is success, and begins nothing
            raise Conflict(f"{spec.instance_id} exists with another spec")
        return self.tell(spec, Phase.REGISTERING)  # say STARTING first, where it takes time

    async def terminate(self, cluster: str, instance_id: str) -> None:
        if spec := self.machines.pop(f"{cluster}/{instance_id}", None):  # an unknown one is success
            self.machines.sync()
            self.tell(spec, Phase.GONE)

    async def list(self, cluster: str) -> list[InstanceObservation]:
        return [seen(spec, Phase.REGISTERING) for spec in self.machines.values() if spec.cluster == cluster]

    def watch(self, cluster: str) -> AsyncIterator[InstanceObservation]:
        return self.feed.watch(cluster)

    async def close(self) -> None:
        self.machines.close()

    def tell(self, spec: LaunchSpec, phase: Phase) -> str:
        told = seen(spec, phase)
        self.feed.tell(spec.cluster, told)
        return told.external_id


def seen(spec: LaunchSpec, phase: Phase) -> InstanceObservation:
    told = {"observed_at": time.time(), "made_as": spec.node_type, "replica": spec.replica, "host": spec.host}
    return InstanceObservation(spec.instance_id, spec.node_type.name, f"machine-{spec.instance_id}", phase, **told)


if __name__ == "__main__":
    serve(Example(*sys.argv[1:]), name="example.com", version="1")
