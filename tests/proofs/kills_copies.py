"""kill -9 of a copy: what it shows is whole at any time, the next run ends it, and the repository never notices."""

from __future__ import annotations

from pathlib import Path

from tests.proofs.engine_commands import harm
from tests.proofs.killing import FULL, Deed, Near, Story, compacted, objects, room
from tests.proofs.registry import Case, Figures, proof
from tests.proofs.workshop import DAMAGE, NOT_FOUND, OK

COUNT = 48


def copying(*more: str) -> Deed:
    return Deed(lambda engine: ["copy", engine.repository.parent / "copy", *more])


DEEDS = {"new": copying(), "older": copying("--delete-after", "0"), "damaged": copying("--verify")}


@proof("kills", "copies", "kill -9 of a copy that is made, brought up to date, and healed", count=COUNT)
def copies(case: Case) -> Figures:
    with room(case, FULL) as place:
        name = sorted(DEEDS)[case.number % len(DEEDS)]
        return KilledCopy(place, case.random, FULL).prove(name, case.number // len(DEEDS), COUNT // len(DEEDS))


class KilledCopy(Story):
    """A repository with four snapshots, new keys and a compaction; the copy is new, older than that, or damaged."""

    def prove(self, name: str, number: int, count: int) -> Figures:
        self.begin(name, lambda: self._history(name))
        if name == "damaged":
            self._harm()
        figures = self.kill(number, count, DEEDS[name])
        shown = self._shown(strict=name != "damaged")
        self._copy(DEEDS[name])
        assert objects(self.copy) == objects(self.engine.repository)
        assert self._offsite().run("check", "--read-data", codes=(OK,)).result["problems"] == []
        assert self.come_back(self._offsite()) == set(self.states)
        self.whole()
        return {**figures, "snapshots in the copy": shown}

    @property
    def copy(self) -> Path:
        return self.home / "copy"

    def _copy(self, deed: Deed) -> None:
        assert self.do(deed).result["problems"] == []

    def _history(self, name: str) -> None:
        self.engine.run("init")
        first = self.back_up()
        self.back_up()
        if name == "older":
            self._copy(DEEDS[name])
        self._went_on(first)
        if name == "damaged":
            self._copy(DEEDS[name])

    def _went_on(self, first: str) -> None:
        self.back_up()
        self.engine.run("keys", "rotate", codes=(OK,))
        self.forget(first)
        compacted(self.engine)
        self.back_up()

    def _harm(self) -> None:
        """A third of the copy; the key objects are left, else nobody could look into it."""
        every = sorted(self.copy / name for name in objects(self.copy) if not name.startswith("keys/"))
        for path in self.random.sample(every, len(every) // 3):
            harm(path, self.random)

    def _shown(self, *, strict: bool) -> int:
        """How many snapshots somebody sees in the copy now, each of them whole; it may not open yet. One that the
        repository forgot meanwhile may still be there."""
        listed = self._offsite().run("list", codes=(OK, NOT_FOUND, DAMAGE))
        if listed.code != OK:
            return 0
        seen = {row["id"] for row in listed.result} & self.states.keys()
        assert self.come_back(self._offsite()) >= seen or not strict, "the copy shows what is not whole"
        return len(seen)

    def _offsite(self) -> Near:
        """Somebody with the same keyfile, elsewhere."""
        place = self.place / "offsite"
        place.mkdir(exist_ok=True)
        return Near(place, repository=self.copy)
