"""Whether more nodes of each type can be had now, and what is in the way."""

from collections import Counter
from dataclasses import replace

from rayscaler.model.explanation import Because, TypeExplanation
from rayscaler.model.instance import Instance, InstanceStatus, Reason
from rayscaler.model.nodetype import UNLIMITED
from rayscaler.model.resources import MANY
from rayscaler.model.state import Backoff
from rayscaler.model.words import counted
from rayscaler.planner import door, limits
from rayscaler.planner.sim import Draft, TypeView
from rayscaler.reconciler.explain.scene import Scene, type_key


def node_types(scene: Scene) -> tuple[TypeExplanation, ...]:
    """Return one reason for each type of the definition, then for each that it has no more but whose nodes are there."""
    # The planner's own limits judge; they know neither demand nor rows.
    draft = door.draft_of(replace(scene.state, demands=(), gangs=(), constraint=None, nodes=()))
    counts = Counter((each.node_type, _kind(each)) for each in draft.instances)
    found = [_explained(scene, view.name, counts, _obstacle(scene, draft, view)) for view in draft.views]
    gone = sorted({name for name, _ in counts} - {view.name for view in draft.views})
    for name in gone:
        because = scene.because(type_key(name), Reason.TYPE_REMOVED, f"the definition has no node type {name} any more")
        found.append(_explained(scene, name, counts, because))
    return tuple(found)


def _kind(instance: Instance) -> str:
    if instance.is_in_flight:
        return "in flight"
    return "running" if instance.status is InstanceStatus.RUNNING else "leaving"


def _explained(scene: Scene, name: str, counts: Counter[tuple[str, str]], because: Because) -> TypeExplanation:
    node_type = scene.state.config.node_type(name)
    backoff = _backoff(scene, name)
    return TypeExplanation(
        name=name,
        running=counts[name, "running"],
        in_flight=counts[name, "in flight"],
        leaving=counts[name, "leaving"],
        min_workers=node_type.min_workers if node_type else 0,
        max_workers=node_type.max_workers if node_type else 0,
        because=because,
        failures=backoff.failures if backoff else 0,
        last_error=backoff.detail if backoff else "",
    )


def _obstacle(scene: Scene, draft: Draft, view: TypeView) -> Because:
    key = type_key(view.name)
    obstacle = limits.obstacle(draft, view, is_speed_bound=True)
    if obstacle is None and (paced := limits.paced(draft, view, Counter())) is not None:
        return scene.because(key, paced.reason, paced.text, until=paced.until)
    if obstacle is None:
        return scene.because(key, Reason.READY, _room(draft, view))
    reason, text = obstacle
    if reason is draft.state.no_launch:
        return scene.blind(key, reason)
    backoff = _backoff(scene, view.name)
    if reason is Reason.BACKED_OFF and backoff is not None:
        until = backoff.until if backoff.until > scene.state.now else None
        tried = "pauses after" if until else f"is tried with {backoff.probe} at a time after"
        return scene.because(key, reason, f"{view.name} {tried} {counted(backoff.failures, 'failure')}: {backoff.detail}", until=until)
    return scene.because(key, reason, text)


def _backoff(scene: Scene, name: str) -> Backoff | None:
    return next((each for each in scene.state.backoffs if each.node_type == name), None)


def _room(draft: Draft, view: TypeView) -> str:
    room = min(limits.room(draft, view), limits.speed_room(draft, view), limits.pace_room(draft, view, Counter()))
    most = "no limit of its own" if view.node_type.max_workers == UNLIMITED else f"at most {view.node_type.max_workers}"
    return f"{most}; {'any number' if room >= MANY else room} more can be launched at once"
