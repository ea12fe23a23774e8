"""PodGroups on a real API server: made, changed and deleted as they are wanted, over restarts and whatever others do to them (complaint I2)."""

import contextlib

import pytest

from rayscaler.clock import SystemClock
from rayscaler.errors import Conflict, Denied, Unsupported
from rayscaler.k8s.podgroups import PodGroups
from rayscaler.k8s.pods import Owner
from rayscaler.model.scheduling import GangScheduler, WantedGroup
from tests.cluster import coscheduling
from tests.cluster.product import until
from tests.k8s import bed

pytestmark = [pytest.mark.tier("cluster"), pytest.mark.timeout(120)]

BY = GangScheduler.SCHEDULER_PLUGINS
EIGHT = (WantedGroup("c-g1-0", 8),)
RULES = [*bed.ROLE["rules"], *coscheduling.RULES]


@contextlib.asynccontextmanager
async def entered(namespace, admin, rules=RULES):
    """Yield a maker of PodGroups that know nothing yet, as after a restart."""
    await coscheduling.define(admin, coscheduling.coscheduling_crd())
    async with bed.entered(namespace, rules=rules) as client:
        yield lambda: PodGroups(client, namespace.name, SystemClock())


def writes(namespace) -> list[str]:
    """Return what was done to PodGroups, as the API server has it on record."""
    events = namespace.audit(f"system:serviceaccount:{namespace.name}:rayscaler-0", "podgroups")
    return [each["verb"] for each in events if each["verb"] not in ("list", "get")]


async def test_i2_objects_are_as_wanted_over_a_restart_and_nothing_is_written_that_is_right(namespace, admin):
    async with entered(namespace, admin) as made:
        definition = await admin.create(namespace.path("configmaps"), {"metadata": {"name": "c"}})
        one, owner = made(), Owner("v1", "ConfigMap", "c", definition["metadata"]["uid"])  # without its owner the controllers collect it
        await one.have("c", BY, (*EIGHT, WantedGroup("c-g1-1", 2)), owner)
        assert await coscheduling.sizes(namespace) == {"c-g1-0": 8, "c-g1-1": 2}
        await one.have("c", BY, (*EIGHT, WantedGroup("c-g1-1", 1, may_shrink=False)), owner)
        other = made()
        await other.have("c", BY, (*EIGHT, WantedGroup("c-g1-1", 1, may_shrink=False)), owner)
        assert await coscheduling.sizes(namespace) == {"c-g1-0": 8, "c-g1-1": 2}
        await other.have("c", BY, (WantedGroup("c-g1-0", 9),), owner)
        assert await coscheduling.sizes(namespace) == {"c-g1-0": 9}
        await made().have("d", BY, (), None)  # another cluster, which has none
        await made().have("c", BY, (), owner)
        assert await coscheduling.sizes(namespace) == {}
        done = ["create", "create", "delete", "delete", "patch"]
        await until(lambda: sorted(writes(namespace)) == done, what=lambda: writes(namespace))  # the record comes a moment later


async def test_i2_one_that_somebody_deletes_is_made_again_and_one_of_somebody_elses_is_let_be(namespace, admin):
    async with entered(namespace, admin) as made:
        ours, path = made(), namespace.path("podgroups", coscheduling.COSCHEDULING)
        await ours.have("c", BY, EIGHT, None)
        await admin.delete(f"{path}/c-g1-0")
        await ours.have("c", BY, (WantedGroup("c-g1-0", 9),), None)
        assert await coscheduling.sizes(namespace) == {"c-g1-0": 9}
        theirs = {"apiVersion": coscheduling.COSCHEDULING, "kind": "PodGroup", "metadata": {"name": "c-g2-0"}, "spec": {"minMember": 3}}
        await admin.create(path, theirs)
        with pytest.raises(Conflict, match="PodGroup c-g2-0 is there, and is not rayscaler's"):
            await ours.have("c", BY, (WantedGroup("c-g1-0", 9), WantedGroup("c-g2-0", 5)), None)
        assert await coscheduling.sizes(namespace) == {"c-g1-0": 9, "c-g2-0": 3}


async def test_i2_a_missing_right_is_told(namespace, admin):
    async with entered(namespace, admin, bed.ROLE["rules"]) as made:
        with pytest.raises(Denied, match=r"list podgroups .*the right with gangScheduling.scheduler of the chart"):
            await made().have("c", BY, EIGHT, None)


async def test_i2_a_missing_kind_of_object_is_told_only_where_one_is_wanted(namespace, admin):
    await coscheduling.undefine(admin, coscheduling.volcano_crd())
    async with entered(namespace, admin) as made:
        await made().have("c", GangScheduler.VOLCANO, (), None)
        with pytest.raises(Unsupported, match=r"is volcano installed, with its PodGroup of scheduling\.volcano\.sh/v1beta1"):
            await made().have("c", GangScheduler.VOLCANO, EIGHT, None)
