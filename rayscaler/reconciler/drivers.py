"""What drivers are told of demand that can never be met: once to those connected, and to each that connects while it waits (WC-11, OB-4).

Only what a changed definition alone can lift: of all else they see that it waits.
"""

from rayscaler.model.command import TellCommand
from rayscaler.model.demand import Gang
from rayscaler.model.instance import Reason
from rayscaler.model.plan import Infeasible
from rayscaler.model.reasons import reason_text
from rayscaler.model.words import counted
from rayscaler.reconciler.memory import Memory
from rayscaler.reconciler.state import sight

SENTENCES = 10
"""Told at once; the rest is a number."""

SHAPE = 300
"""Characters of a shape; a hundred labels say no more than the first ones."""

HELP = {
    Reason.NO_TYPE_FITS: "Add suitable node types to this cluster to resolve this issue.",
    Reason.NO_TYPE_HAS_LABELS: "Add suitable node types to this cluster to resolve this issue.",
    Reason.ONLY_EXISTING_NODES: "Ask for less, or for what a node type of this cluster has.",
}
"""Ray's own words, where they are true."""


def tell(memory: Memory, now: float) -> None:
    """Have connected drivers told what they have not been told; what waits no more is forgotten, and told again should it come back.

    Without sight nothing is known to have changed.
    """
    if sight(memory, now)[0] is not None:
        return
    refused = {(_name(each), each.reason): each for each in memory.pending if each.is_never}
    memory.told &= refused.keys()
    news = [each for key, each in refused.items() if key not in memory.told]
    if news and memory.telling is None:
        memory.telling = TellCommand(f"tell-{int(now * 1000)}", _sentences(news))
        memory.told = frozenset(refused)
    memory.driver_notice = " ".join(_sentences(list(refused.values())))


def _sentences(refused: list[Infeasible]) -> tuple[str, ...]:
    more = (f"{counted(len(refused) - SENTENCES, 'shape')} more can never be met; see `rayscaler explain`.",)
    return (*map(sentence, refused[:SENTENCES]), *(more if len(refused) > SENTENCES else ()))


def sentence(each: Infeasible) -> str:
    """Return which shape it is, why it can never be met, and what would help: Ray's own text with the reason in it."""
    kind = (
        "placement group requests" if isinstance(each.what, Gang) else "cluster constraint" if each.is_constraint else "resource requests"
    )
    shape = " ".join(str(each.what).split())  # one line, whatever a resource is called
    told = shape if len(shape) <= SHAPE else f"{shape[:SHAPE]}..."
    return f"No available node types can fulfill {kind}: {told}*{each.count}, since {reason_text(each.reason)}. {HELP[each.reason]}"


def _name(each: Infeasible) -> str:
    return f"{each.is_constraint} {each.what.gang_id if isinstance(each.what, Gang) else each.what}"
