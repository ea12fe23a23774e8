"""Between the draft and the mix: what is asked of the mix, and what its answer makes of the draft."""

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from rayscaler.model.instance import Reason
from rayscaler.model.resources import MANY
from rayscaler.planner import limits
from rayscaler.planner.choose import Wanted
from rayscaler.planner.mix.problem import Column, Problem, Solution, Used
from rayscaler.planner.packing import filled
from rayscaler.planner.sim import Draft, Mark, NodeRun, Shape, TypeView, times


class Limits(NamedTuple):
    """How many nodes of each type, and of all together, may be launched, and what may be spent on them."""

    rooms: tuple[int, ...]
    total: int
    money: int | None

    @classmethod
    def of(cls, draft: Draft) -> "Limits":
        """Return those of a draft as it is now."""
        shared = limits.shared(draft)
        return cls(tuple(min(limits.room(draft, view, shared), MANY) for view in draft.views), *shared)

    def of_one_host(self, draft: Draft) -> "Limits":
        """Return these limits with no room for types whose replicas have several hosts."""
        return self._replace(
            rooms=tuple(room if view.node_type.hosts_per_replica == 1 else 0 for view, room in zip(draft.views, self.rooms, strict=True))
        )


class Asked:
    """The mix's problem for what is wanted: of label alternatives and priorities the best that has room, as the first plan has it.

    `there` are runs of nodes that may take some of it, as they were before anything was placed; they come after the node types.
    """

    def __init__(self, draft: Draft, wanted: Wanted, limited: Limits, there: Sequence[NodeRun] = ()) -> None:
        self.wanted = wanted
        self.there = tuple(there)
        self.views: tuple[TypeView, ...] = draft.views
        self._at = {member: index for index, run in enumerate(there) for member in run.members}
        allowed = [set[int]() for _ in (*self.views, *there)]
        for index, (shape, _) in enumerate(wanted):
            for kind in self._able(draft, shape, limited):
                allowed[kind].add(index)
        self.problem = Problem(
            needs=tuple(shape.needs for shape, _ in wanted),
            counts=tuple(count for _, count in wanted),
            rooms=(*(view.room for view in self.views), *(run.room for run in there)),
            prices=(*(draft.weighed[view.name] for view in self.views), *(0 for _ in there)),
            limits=(*limited.rooms, *(len(run.members) for run in there)),
            allowed=tuple(map(frozenset, allowed)),
            total=limited.total,
            money=limited.money,
            there=len(self.views),
            spends=(*(draft.prices[view.name] for view in self.views), *(0 for _ in there)),
        )

    def _able(self, draft: Draft, shape: Shape, limited: Limits) -> list[int]:
        """Return the types that may take a shape, and the nodes whose labels are as good."""
        able = [
            ((rank, -view.node_type.priority), kind)
            for kind, view in enumerate(self.views)
            if limited.rooms[kind] and times(view.room, shape.needs) and (rank := draft.rank(shape, view.labels)) is not None
        ]
        best = min(able, default=((MANY, 0), 0))[0]
        near = [
            len(self.views) + index
            for index, run in enumerate(self.there)
            if (rank := draft.rank(shape, run.labels)) is not None and rank <= best[0] and times(run.room, shape.needs)
        ]
        return [kind for order, kind in able if order == best] + near

    def is_beyond(self, found: Solution) -> bool:
        """Whether nodes are launched that nothing on them likes best, since those that it does have no room."""
        allowed = self.problem.allowed
        contents = (used.column for used in found.recipe if self.problem.is_new(used.column.type))
        return any(column.content and not any(shape in allowed[column.type] for shape, _ in column.content) for column in contents)

    def closed(self, draft: Draft) -> list[int]:
        """Return the types that would hold some of it, and of which none may be launched."""
        shapes = [shape for shape, _ in self.wanted]
        return [
            kind
            for kind, view in enumerate(self.views)
            if not self.problem.limits[kind] and any(draft.can_hold(view, shape) for shape in shapes)
        ]

    def recipe_of(self, draft: Draft, begun: Mark) -> tuple[Used, ...]:
        """Return what the draft has launched since, and put on the nodes that are there."""
        kinds = {view.name: kind for kind, view in enumerate(self.views)}
        numbers = {shape: index for index, (shape, _) in enumerate(self.wanted)}
        nodes: Counter[Column] = Counter()
        for run in draft.runs:
            if isinstance(run.members, range) and run.members.start >= begun.launching:
                kind, loads = kinds[run.node_type], run.load
            elif run.members and run.members[0] in self._at:
                index = self._at[run.members[0]]
                kind, loads = len(self.views) + index, run.load[len(self.there[index].load) :]
            else:
                continue
            content: Counter[int] = Counter()
            for load in loads:
                content[numbers[load.shape]] += load.each
            if content or (kind < len(self.views) and self.views[kind].node_type.hosts_per_replica > 1):  # all of a replica is paid for
                nodes[Column(kind, tuple(sorted(content.items())))] += len(run.members)
        return tuple(Used(column, count) for column, count in sorted(nodes.items()))

    def launched(self, draft: Draft, found: Solution) -> Wanted:
        """Launch by a mix, what there is most of first; return what its new nodes do not take."""
        left = list(self.problem.counts)
        for column, nodes in sorted(found.recipe, key=lambda each: (-each.nodes, each.column)):
            if self.problem.is_new(column.type):
                run = draft.launch(self.views[column.type], nodes, Reason.DEMAND)
                draft.runs.append(self._filled(run, column, left))
        return self._wanted(left)

    def placed(self, draft: Draft, found: Solution, wanted: Wanted) -> Wanted:
        """Put on nodes that are there what a mix puts there; return what is left of what is wanted."""
        counts = dict(wanted)
        left = [counts.get(shape, 0) for shape, _ in self.wanted]
        parts: dict[int, list[NodeRun]] = {}
        taken: Counter[int] = Counter()
        for column, nodes in found.recipe:
            index = column.type - len(self.views)
            if index >= 0:
                run = self.there[index]
                members = run.members[taken[index] : taken[index] + nodes]
                taken[index] += len(members)
                parts.setdefault(index, []).append(self._filled(run._replace(members=members), column, left))
        after: list[NodeRun] = []
        for run in draft.runs:
            index = self._at.get(run.members[0], -1) if run.members else -1
            rest = run.members[taken[index] :]
            after += [*parts.get(index, ()), *([run._replace(members=rest)] if rest else [])]
        draft.runs = after
        return self._wanted(left)

    def _filled(self, run: NodeRun, column: Column, left: list[int]) -> NodeRun:
        """Return the run with the column's content on every node, as far as it is still wanted and has room, and count it out."""
        for index, each in column.content:
            shape = self.wanted[index][0]
            count = min(each, times(run.room, shape.needs), left[index] // len(run.members))
            if count:
                run = filled(run, [(shape, count)])
                left[index] -= count * len(run.members)
        return run

    def _wanted(self, left: Sequence[int]) -> Wanted:
        return [(shape, count) for (shape, _), count in zip(self.wanted, left, strict=True) if count > 0]
