"""What a plugin has said of one cluster's instances so far, so that it can be told when it contradicts itself. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from rayscaler.errors import BrokenPlugin, RayscalerError, Retry
from rayscaler.executor.base import LaunchSpec
from rayscaler.model.instance import InstanceObservation, Phase

DOUBTS = 5
"""Lists that are refused for one lost instance, some seconds together; then it is taken for gone, and others may go on."""


@dataclass
class Ledger:
    """One cluster's. `promised` are the instances said to be begun and not seen since, with the lists that lacked them."""

    peer: str
    external_ids: dict[str, str] = field(default_factory=dict)
    promised: dict[str, int] = field(default_factory=dict)
    asked: dict[str, tuple[str, int]] = field(default_factory=dict)
    """Ids that were to be launched here, or stood in the first list: no others can be there; each with its replica, and which host of it it is."""
    has_first_list: bool = False

    def launching(self, specs: Iterable[LaunchSpec]) -> None:
        """Note that instances are asked for."""
        self.asked.update((each.instance_id, (each.replica, each.host)) for each in specs)

    def answered(self, instance_id: str, outcome: str | RayscalerError) -> str | RayscalerError:
        """Note what became of a launch, an external id or why not; return it, or BrokenPlugin for another external id than before."""
        if isinstance(outcome, RayscalerError):
            if outcome.retry is not Retry.BACKOFF:  # surely nothing was begun
                self.asked.pop(instance_id, None)
            return outcome
        is_new = instance_id not in self.external_ids
        try:
            self._same(instance_id, outcome)
        except BrokenPlugin as error:
            return error
        if is_new:
            self.promised[instance_id] = 0
        return outcome

    def ending(self, instance_ids: Iterable[str]) -> None:
        """Note that instances may be gone from now on without being seen."""
        for each in instance_ids:
            self.promised.pop(each, None)

    def seen(self, seen: InstanceObservation) -> InstanceObservation:
        """Note what is told of an instance; return it, marked if nobody ever asked for it. Raises BrokenPlugin for another external id or replica."""
        self._same(seen.instance_id, seen.external_id)
        told = (seen.replica, seen.host)
        if self.asked.get(seen.instance_id, told) != told:
            (was, which), (now, host) = self.asked[seen.instance_id], told
            raise BrokenPlugin(
                f"{self.peer}: X55: {seen.instance_id} was host {which} of {was or 'none'}, and is host {host} of {now or 'none'}"
            )
        self.promised.pop(seen.instance_id, None)
        if seen.phase is Phase.GONE:
            self.external_ids.pop(seen.instance_id, None)
            self.asked.pop(seen.instance_id, None)
        elif self.has_first_list and seen.instance_id not in self.asked:
            return replace(seen, detail=f"X21: nobody here has asked for it. {seen.detail}")
        return seen

    def listed(self, present: Iterable[InstanceObservation]) -> list[InstanceObservation]:
        """Note a whole list; return it, marked as by `seen`."""
        found = [self.seen(each) for each in present]
        ids = {each.instance_id: (each.replica, each.host) for each in found}
        ended = [key for key in self.external_ids if key not in ids and key not in self.promised]
        for key in ended:
            del self.external_ids[key]
            self.asked.pop(key, None)
        if not self.has_first_list:
            self.has_first_list = True
            self.asked |= ids
        return found

    def lacking(self, promised: Iterable[str], present: Iterable[InstanceObservation]) -> list[str]:
        """Return which of those promised before a list it lacks, and nobody said to be gone since."""
        ids = {each.instance_id for each in present}
        return [each for each in promised if each in self.promised and each not in ids]

    def doubt(self, lacking: Iterable[str]) -> None:
        """Note that a list lacks them; raises BrokenPlugin, but not for ever."""
        lost = []
        for each in lacking:
            self.promised[each] += 1
            if self.promised[each] > DOUBTS:
                del self.promised[each]
            else:
                lost.append(each)
        if lost:
            raise BrokenPlugin(f"{self.peer}: X11: it has begun {', '.join(lost[:5])}, and neither lists it nor says that it is gone")

    def forgive(self) -> None:
        """Forget what is promised: the plugin may be another process now, or its watch has a gap."""
        self.promised.clear()

    def _same(self, instance_id: str, external_id: str) -> None:
        before = self.external_ids.setdefault(instance_id, external_id)
        if before != external_id:
            raise BrokenPlugin(f"{self.peer}: X9: {instance_id} was {before[:64]!r} and is {external_id[:64]!r} now")
