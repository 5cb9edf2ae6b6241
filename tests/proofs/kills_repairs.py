"""kill -9 of a repair: nothing that came back before is lost, and a second one heals everything."""

from __future__ import annotations

from pathlib import Path

from tests.proofs.engine_commands import harm
from tests.proofs.killing import FULL, Deed, Story, objects, room
from tests.proofs.registry import Case, Figures, proof
from tests.proofs.workshop import OK

COUNT = 40
REPAIR = Deed(lambda engine: ["repair", "--from", engine.repository.parent / "copy", "--workers", "0"])


@proof("kills", "repairs", "kill -9 of a repair of a third of all objects from a copy", count=COUNT)
def repairs(case: Case) -> Figures:
    with room(case, FULL) as place:
        return KilledRepair(place, case.random, FULL).prove(case.number, COUNT)


class KilledRepair(Story):
    """Three snapshots, a copy of them, and a repository a third of which is cut, changed or gone."""

    def prove(self, number: int, count: int) -> Figures:
        self.begin("", self._history)
        right = objects(self.home / "copy")
        harmed = self._harmed()
        before = self.come_back()
        figures = self.kill(number, count, REPAIR)
        assert self.come_back() >= before, "a killed repair has cost something"
        self.do(REPAIR)
        self.whole()
        assert objects(self.engine.repository) == right
        return {**figures, "objects harmed": len(harmed), "whole before": len(before)}

    def _history(self) -> None:
        self.engine.run("init", "--recovery-code")
        for _ in range(3):
            self.back_up()
        self.engine.run("copy", self.home / "copy", codes=(OK,))

    def _harmed(self) -> list[Path]:
        """Of the ways in one is left as it is, else nobody could ask for a repair."""
        kept = self._slot()
        every = sorted(self.engine.repository / name for name in objects(self.engine.repository) if name != kept)
        chosen = self.random.sample(every, len(every) // 3)
        for path in chosen:
            harm(path, self.random)
        return chosen

    def _slot(self) -> str:
        """The name of the key slot that the keyfile opens."""
        slots = (path for path in (self.engine.repository / "keys").iterdir() if b'"keyfile"' in path.read_bytes())
        return f"keys/{next(slots).name}"
