"""What the product asks the API server for while nothing happens: one watch for each use, none of them of all objects, and the Lease (decision 71)."""

import asyncio
from collections import Counter
from urllib.parse import parse_qs, urlsplit

import pytest

from rayscaler.model.resources import Resources
from tests.cluster.product import UNCEASING, document, until

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(120)]

OURS = "app.kubernetes.io/managed-by=rayscaler"
WATCHES = {
    ("pods", f"{OURS},rayscaler.io/cluster"): "the executor: phases of workers",
    ("pods", f"{OURS},rayscaler.io/role=head"): "the keeper of heads: whether they were up, and are reached",
    ("services", f"{OURS},rayscaler.io/role=head"): "the same: which head a Service leads to",
    ("services", f"{OURS},rayscaler.io/role=hosts"): "names of replicas' hosts",
    ("configmaps", "rayscaler.io/cluster,app.kubernetes.io/managed-by!=rayscaler"): "definitions",
}
"""Every watch there is, and what for."""
QUIET_S = 6.0


async def test_each_use_has_one_watch_however_many_clusters_there_are_and_quiet_costs_nothing_but_the_lease(ours):
    service = await ours.serve()
    definitions = [document(name, {"name": "small", "resources": {"CPU": 1}, "maxWorkers": 50}) for name in ("demo", "other")]
    for each in definitions:
        await ours.define(each)
    async with ours.ray(definitions[0], service.address) as one, ours.ray(definitions[1], service.address) as two:
        one.gcs.submit(Resources.of(CPU=1), 5)
        two.gcs.submit(Resources.of(CPU=1), 5)
        await until(lambda: (len(one.gcs.running()), len(two.gcs.running())) == (5, 5))
        for _ in range(5):  # until the last status and record are written
            before = len(ours.namespace.audit(ours.account.user))
            await asyncio.sleep(QUIET_S)  # nothing happens
            events = ours.namespace.audit(ours.account.user)
            touched = {each["objectRef"]["resource"] for each in events[before:]}
            if touched <= UNCEASING:
                break
    watches = Counter(
        (each["objectRef"]["resource"], parse_qs(urlsplit(each["requestURI"]).query).get("labelSelector", [""])[0])
        for each in events
        if each["verb"] == "watch"
    )
    assert watches == dict.fromkeys(WATCHES, 1)
    assert touched <= UNCEASING
    assert "leases" in touched  # so it was on record
