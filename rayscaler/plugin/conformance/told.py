"""Checks of everything that was told in a run so far, by List and by Watch: a breach may have shown itself once only."""

from collections.abc import Iterator
from itertools import pairwise

from rayscaler.api.executor.v1 import executor_pb2 as pb
from rayscaler.plugin.conformance.check import Check
from rayscaler.plugin.conformance.lab import Lab, Told
from rayscaler.plugin.conformance.limits import secret
from rayscaler.plugin.conformance.need import need, told_as_launched
from rayscaler.rules import is_sayable

HOSTS = 2
"""Of a replica."""


async def observations_are_whole(lab: Lab) -> None:
    """Each observation has its instance_id, node type, external_id and phase, and `made_as`, if it has it, is what was launched."""
    spec = await _one_life(lab)
    for seen in (each.observation for each in lab.told):
        need("X24", bool(seen.instance_id), "an observation has no instance_id")
        need(
            "X24",
            seen.node_type == lab.node_type.name,
            f"{seen.instance_id} was launched as {lab.node_type.name}, and is told as {seen.node_type!r}",
        )
        need("X24", bool(seen.external_id), f"{seen.instance_id} is told without an external_id")
        is_known = seen.phase in pb.Phase.values() and seen.phase != pb.PHASE_UNSPECIFIED
        need("X24", is_known, f"{seen.instance_id} has the phase {seen.phase}, which there is none of")
        if seen.HasField("made_as") and seen.instance_id == spec.instance_id:
            need("X24", seen.made_as == spec.node_type, f"{seen.instance_id} is told to be made as something else than what was launched")


async def phases_do_not_go_back(lab: Lab) -> None:
    """An instance that was in a phase is in none before it afterwards, in no watch and from list to list."""
    await _one_life(lab)
    for about in _by_instance(lab):
        for stream in sorted({each.stream for each in about}):
            told = [each for each in about if each.stream == stream]
            for before, after in pairwise(told):
                if not stream and after.began < before.at:
                    continue  # lists at the same time have no order
                phases = [before.observation.phase, after.observation.phase]
                names = " to ".join(pb.Phase.Name(each) if each in pb.Phase.values() else str(each) for each in phases)
                need("X25", phases[0] <= phases[1], f"{before.observation.instance_id} went from {names}")


async def external_ids_never_change(lab: Lab) -> None:
    """An instance has one external_id for all its life, in lists and in watches."""
    await _one_life(lab)
    for about in _by_instance(lab):
        ids = {each.observation.external_id for each in about} - {""}
        need("X9", len(ids) <= 1, f"{about[0].observation.instance_id} was told with the external ids {sorted(ids)}")


async def names_are_bounded(lab: Lab) -> None:
    """Names have at most 512 characters and no control characters, and no text tells a secret."""
    await _one_life(lab)
    for seen in (each.observation for each in lab.told):
        for field, name in (("external_id", seen.external_id), ("node_type", seen.node_type), ("instance_id", seen.instance_id)):
            need("X41", not name or is_sayable(name), f"{field} {name[:80]!r} is too long, or has a control character")
        need("X38", secret(lab) not in seen.detail + seen.error, f"{seen.instance_id} tells a secret")


async def hosts_are_told_with_their_replica(lab: Lab) -> None:
    """List and Watch tell the replica and the host as they were launched, and none for what is no part of one."""
    alone, specs = lab.spec(), lab.hosts(HOSTS)
    async with lab.watch() as watch:
        await lab.begin(*specs)
        await lab.begin(alone)
        told_as_launched((alone, *specs), (await lab.listed()).values(), "List")
        for each in (alone, *specs):
            await watch.phase(each.instance_id, pb.PHASE_UNSCHEDULED, lab.patience.change_s)
    told_as_launched((alone, *specs), (each.observation for each in watch.messages), "Watch")


async def _one_life(lab: Lab) -> pb.LaunchSpec:
    """Have an instance live and end while it is watched and listed, so that there is something told."""
    spec = lab.spec()
    async with lab.watch() as watch:
        await lab.begin(spec)
        await lab.listed()
        await watch.phase(spec.instance_id, pb.PHASE_REGISTERING, lab.patience.settle_s)
        await lab.listed()
        await lab.end(spec.instance_id)
        await lab.until_gone(spec.instance_id)
        await watch.phase(spec.instance_id, pb.PHASE_GONE, lab.patience.first_s)
    need("X24", any(each.observation.instance_id == spec.instance_id for each in lab.told), "of a whole life nothing was told")
    return spec


def _by_instance(lab: Lab) -> Iterator[list[Told]]:
    found: dict[tuple[str, str], list[Told]] = {}
    for each in lab.told:
        found.setdefault((each.cluster, each.observation.instance_id), []).append(each)
    yield from found.values()


CHECKS = (
    Check(observations_are_whole, ("X24",), instances=1),
    Check(phases_do_not_go_back, ("X25",), instances=1),
    Check(external_ids_never_change, ("X9",), instances=1),
    Check(hosts_are_told_with_their_replica, ("X55",), instances=HOSTS + 1),
    Check(names_are_bounded, ("X38", "X41"), instances=1),
)
