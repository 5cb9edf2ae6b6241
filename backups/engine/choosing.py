"""Which packs a compaction takes away: the deadest first, then those under the oldest keys, within its budget."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from backups.engine.marks import Marks
from backups.engine.usage import Weight

MARKED_AT_ONCE = 1 << 16  # packs in one mark, which is one record; the next run takes more
GRACE = 24 * 3600.0  # seconds between mark and sweep where writers may hold no lease
WORTH = 0.1  # of a pack's size that storing it anew has to gain
UNUSED = 0.1  # of the repository that may stay unused
BUDGET = 16 * 10**9  # bytes stored anew in one run


@dataclass(frozen=True, slots=True)
class CompactOptions:
    """How a compaction works.

    unused        share of the repository that may stay unused
    budget        stored bytes that one run carries over, at most
    codec, level  for frames that are compressed anew
    damaged       SHA-256 of packs that a check found damaged: not trusted, and left alone while they are needed
    grace         seconds between mark and sweep for packs of crashed runs, and for all packs where nobody can wait
    """

    unused: float = UNUSED
    budget: int = BUDGET
    codec: str = "zstd"
    level: int = 1
    damaged: frozenset[bytes] = frozenset()
    grace: float = GRACE


ORDINARY = CompactOptions()


@dataclass(slots=True)
class Plan:
    """What a run would do; bytes as they are stored.

    stored    bytes of all packs
    unused    of them: what no snapshot needs, those of crashed runs included; not what is on its way out already
    leaving   of packs that earlier runs marked
    victims   packs to go; carried: what lives in them; freed: what they give back, with the orphans
    orphans   packs that no index object names, left by crashed runs
    outdated  of packs under older master keys, not on their way out yet; renewed: of them, of those among the victims
    stale     index objects under older keys that name no such pack any more, when this run is over
    """

    stored: int = 0
    unused: int = 0
    leaving: int = 0
    carried: int = 0
    freed: int = 0
    outdated: int = 0
    renewed: int = 0
    victims: list[bytes] = field(default_factory=list)
    orphans: list[bytes] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)

    @property
    def idle(self) -> bool:
        """Nothing to mark."""
        return not self.victims and not self.orphans and not self.stale

    def pack(self) -> dict[str, Any]:
        told = {name: value for name, value in asdict(self).items() if name not in ("victims", "orphans", "stale")}
        return {**told, "packs": len(self.victims), "orphans": len(self.orphans), "stale": len(self.stale)}


class Chooser:
    """Makes a plan.

    stored  packs that the store holds: SHA-256 → size in bytes
    epoch   of the newest master key: packs under older ones are to be stored anew
    """

    def __init__(self, options: CompactOptions, stored: Mapping[bytes, int], marks: Marks, epoch: int) -> None:
        self._options, self._stored, self._marks, self._epoch = options, stored, marks, epoch
        self._plan = Plan()
        self.all_renewed = False  # no pack stays under older keys but what nobody can read

    def choose(self, weights: Mapping[bytes, Weight]) -> Plan:
        """What is to go of the packs that the index knows, and of those that it does not."""
        plan, marks = self._plan, self._marks
        plan.stored = sum(self._stored.values())
        unnamed = self._stored.keys() - weights.keys()
        plan.leaving = sum(self._stored.get(pack, 0) for pack in marks.leaving | marks.orphans & unnamed)
        plan.orphans = sorted(unnamed - marks.leaving - marks.orphans)[:MARKED_AT_ONCE]
        orphaned = sum(self._stored[pack] for pack in plan.orphans)
        staying = [w for w in weights.values() if w.facts.digest not in marks.leaving]
        gone = [w.facts.digest for w in staying if w.facts.digest not in self._stored]
        plan.victims = gone[:MARKED_AT_ONCE]  # nobody needs them, and the index is to tell of them no more
        present = [w for w in staying if w.facts.digest in self._stored]
        plan.unused = sum(w.unused for w in present) + orphaned
        self._deadest(present, plan.unused - orphaned)
        self._outdated([w for w in present if w.facts.envelope.epoch < self._epoch])
        plan.freed += orphaned
        return plan

    def _deadest(self, present: Iterable[Weight], left: int) -> None:
        """Until little enough of so many unused bytes is left."""
        total = self._plan.stored
        for weight in sorted(filter(self._worthwhile, present), key=lambda w: (w.share, w.facts.digest)):
            if left <= self._options.unused * total:
                return
            if self._take(weight):
                left, total = left - weight.unused, total - weight.freed

    def _outdated(self, outdated: list[Weight]) -> None:
        """However much of them is needed."""
        plan, chosen = self._plan, set(self._plan.victims)
        waiting = [w for w in outdated if w.facts.digest not in chosen and self._movable(w)]
        waiting.sort(key=lambda w: (w.facts.envelope.epoch, w.share, w.facts.digest))
        late = [weight for weight in waiting if not self._take(weight)]  # a smaller one may fit in
        self.all_renewed = not late
        chosen.update(plan.victims)
        plan.outdated = sum(w.facts.size for w in outdated)
        plan.renewed = sum(w.facts.size for w in outdated if w.facts.digest in chosen)

    def _worthwhile(self, weight: Weight) -> bool:
        return self._movable(weight) and weight.freed >= max(WORTH * weight.facts.size, 1)

    def _movable(self, weight: Weight) -> bool:
        return weight.facts.digest not in self._options.damaged or weight.dead  # what is dead need not be read

    def _take(self, weight: Weight) -> bool:
        """Make it a victim; False when the budget does not allow it, or the mark is full."""
        plan, carried = self._plan, 0 if weight.dead else weight.facts.size - weight.freed
        if plan.carried + carried > self._options.budget or len(plan.victims) >= MARKED_AT_ONCE:
            return False
        plan.victims.append(weight.facts.digest)
        plan.carried += carried
        plan.freed += weight.freed
        return True
