"""An executor apart from the service finds what its pods belong to, and takes a definition that was made anew for another owner."""

from dataclasses import replace

import pytest

from rayscaler.k8s.objects import CONFIG_MAPS
from rayscaler.k8s.owned import FRESH_S, OwnedExecutor
from tests.k8s.fake_objects import serving
from tests.k8s.test_executor import SPEC

pytestmark = pytest.mark.tier("protocol")


class HandClock:
    at = 100.0

    def now(self) -> float:
        return self.at

    def mono(self) -> float:
        return self.at


async def test_pods_belong_to_the_config_map_of_their_clusters_name():
    definition = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}, "data": {}}
    async with serving() as api:
        client, clock, ended = api.client(), HandClock(), []
        executor = OwnedExecutor(client, "ns", on_end=ended.append, clock=clock)

        async def owner_of_one_more(number: int) -> str | None:
            name = await executor.launch(replace(SPEC, instance_id=f"c-small-1-{number}"))
            owners = api.objects["pods", name]["metadata"].get("ownerReferences") or [{}]
            return owners[0].get("uid")

        assert await owner_of_one_more(0) is None
        made = await client.create(CONFIG_MAPS, "ns", definition)
        clock.at += FRESH_S
        assert await owner_of_one_more(1) == made.metadata.uid
        del api.objects["configmaps", "c"]
        again = await client.create(CONFIG_MAPS, "ns", definition)
        assert await owner_of_one_more(2) == made.metadata.uid  # looked up a moment ago
        clock.at += FRESH_S
        assert await owner_of_one_more(3) == again.metadata.uid != made.metadata.uid
        await executor.close()
        await client.close()
        assert ended == []
