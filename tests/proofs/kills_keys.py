"""kill -9 of changes of keys: who had a way in has one, who was shut out is, and the deed is simply repeated."""

from __future__ import annotations

from tests.proofs.killing import FULL, Deed, Near, Story, room
from tests.proofs.registry import Case, Figures, proof
from tests.proofs.workshop import NOT_ALLOWED, OK, USAGE

COUNT = 48
GUEST, NEW = "guest", "new"  # keyfiles: of somebody who has a slot, and of somebody who is to get one
PAPER = "paper"  # with the recovery code

DEEDS = {
    "rotate": Deed(lambda engine: ["keys", "rotate"]),
    "add": Deed(lambda engine: ["keys", "add", "--keyfile", engine.repository.parent / NEW, "--label", NEW]),
    "remove": Deed(lambda engine: ["keys", "remove", GUEST]),
    "change": Deed(lambda engine: ["keys", "change", "--keyfile", engine.repository.parent / NEW], keyfile=GUEST),
}


@proof("kills", "keys", "kill -9 of new master keys, and of secrets that are added, removed and changed", count=COUNT)
def keys(case: Case) -> Figures:
    with room(case, FULL) as place:
        name = sorted(DEEDS)[case.number % len(DEEDS)]
        return KilledKeys(place, case.random, FULL).prove(name, case.number // len(DEEDS), COUNT // len(DEEDS))


class KilledKeys(Story):
    """Two snapshots; the console's keyfile, a recovery code and a guest's keyfile open the repository."""

    def prove(self, name: str, number: int, count: int) -> Figures:
        self.begin("", self._history)
        figures = self.kill(number, count, DEEDS[name])
        self._nobody_is_shut_out(name)
        self.whole()
        self._again(name)
        self.back_up()
        self.whole()
        self._all_is_done(name)
        return figures

    def _history(self) -> None:
        (self.home / PAPER).write_text(self.engine.run("init", "--recovery-code").result["recovery_code"])
        self.engine.run("keys", "add", "--keyfile", self.new_keyfile(GUEST), "--label", GUEST, codes=(OK,))
        self.new_keyfile(NEW)
        self.back_up()
        self.back_up()

    def _nobody_is_shut_out(self, name: str) -> None:
        on_paper = Near(self.home, code=(self.home / PAPER).read_text())
        assert on_paper.run("list", codes=(OK,)).result is not None
        if name == "change":
            assert self.opens(GUEST) or self.opens(NEW), "neither the old nor the new secret opens"
        elif name != "remove":
            assert self.opens(GUEST)

    def _again(self, name: str) -> None:
        """It succeeds, or says that it was done before."""
        came_through = name in ("remove", "change") and not self.opens(GUEST)
        self.do(DEEDS[name], codes=(USAGE, NOT_ALLOWED) if came_through else (OK,))

    def _all_is_done(self, name: str) -> None:
        self._nobody_is_shut_out(name)
        told = self.engine.run("keys", "list", codes=(OK,)).result
        assert all(slot["works"] for slot in told["slots"]), told
        assert told["epoch"] >= (2 if name == "rotate" else 1)
        assert self.opens(NEW) == (name in ("add", "change"))
        assert self.opens(GUEST) == (name in ("rotate", "add"))
