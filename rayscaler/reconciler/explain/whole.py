"""explain(): everything of one cluster at once."""

from rayscaler.model.explanation import Explanation
from rayscaler.model.plan import Plan
from rayscaler.model.state import ClusterState
from rayscaler.reconciler.explain.node_types import node_types
from rayscaler.reconciler.explain.nodes import nodes
from rayscaler.reconciler.explain.scene import look
from rayscaler.reconciler.explain.shapes import shapes
from rayscaler.reconciler.memory import Memory


def explain(memory: Memory, state: ClusterState, plan: Plan, *, retry_at: float | None = None) -> Explanation:
    """Return why all stands as it does after a cycle that decided `plan` for `state`, and did it.

    What `memory.explanation` said before gives the time since when, as long as the reason stays. `retry_at`: the plan could not be
    carried out, and is tried again then.
    """
    scene = look(memory, state, plan, retry_at)
    return Explanation(memory.config.name, state.now, shapes(scene), nodes(scene), node_types(scene), mix=memory.mix)
