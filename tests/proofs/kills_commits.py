"""kill -9 of a backup from its first index object to its end: before its record it never was, behind it it is whole."""

from __future__ import annotations

from tests.proofs.killing import FULL, Deed, Story, room
from tests.proofs.registry import Case, Figures, proof

COUNT = 40


@proof("kills", "commits", "kill -9 of a backup between its first index object, its record and its end", count=COUNT)
def commits(case: Case) -> Figures:
    with room(case, FULL) as place:
        return KilledCommit(place, case.random, FULL).prove(case.number, COUNT)


class KilledCommit(Story):
    """Without helpers, so that the operations come in the same order each time."""

    def prove(self, number: int, count: int) -> Figures:
        self.begin("", self._history)
        (self.source / "middle").write_bytes(self.random.randbytes(self.scale.early))
        deed = Deed(lambda engine: ["backup", self.source, "--workers", "0"], since="put index/")
        figures = self.kill(number, count, deed)
        committed = self._committed()
        self.whole()
        sent = self._again(deed)
        self.whole()
        return {**figures, "committed before the kill": int(committed), "packs sent again": sent}

    def _history(self) -> None:
        self.engine.run("init")
        self.back_up()
        self.back_up()

    def _committed(self) -> bool:
        """What is listed is what was there, or also what the killed run stored."""
        new = set(self.engine.snapshots()) - self.states.keys()
        for snapshot in new:
            self.remember(snapshot)
        return bool(new)

    def _again(self, deed: Deed) -> int:
        """The next run; how many packs it stores, though all of them were stored when the kill came."""
        before = self.engine.objects("packs")
        self.remember(str(self.do(deed).result["snapshot"]))
        return len(self.engine.objects("packs") - before)
