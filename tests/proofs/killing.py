"""A deed of the engine's command line, killed once at an operation of a store or at any moment of it; what must hold
afterwards the deeds tell themselves. Everything a deed touches lies in one directory, so that it can be rehearsed in a
copy of it first.
"""

from __future__ import annotations

import atexit
import io
import json
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

from backups.engine import __main__ as command_line
from tests.proofs.compaction_kills import AT_ONCE
from tests.proofs.doomed import Doom, counted
from tests.proofs.engine_kills import Scale, mutate, plant
from tests.proofs.registry import Case, Figures
from tests.proofs.workshop import (
    DAMAGE,
    FAILED,
    NOT_ALLOWED,
    NOT_FOUND,
    OK,
    WARNINGS,
    Engine,
    Ran,
    Running,
    assert_same,
    copy,
    remove,
    roomy,
)

_told: dict[str, Path] = {}  # histories, by their names


@cache
def _kept() -> Path:
    """Where they are until the process ends."""
    place = roomy(1 << 30, Path(tempfile.gettempdir()))
    atexit.register(remove, place)
    return place


FULL = Scale(files=150, early=4 << 20, bulk=0)
KILLED = -9
Words = Callable[[Engine], Sequence[str | Path]]  # a verb and what follows, for the engine of some place


@dataclass(frozen=True)
class Deed:
    """What is killed. since: beginning of the first operation that may be hit, as “put index/”; keyfile: in the place,
    of somebody else than the console."""

    words: Words
    since: str = ""
    keyfile: str = ""


@contextmanager
def room(case: Case, scale: Scale) -> Iterator[Path]:
    """A directory for one story, in memory where there is enough of it."""
    place = roomy(30 * scale.early, case.place)
    try:
        yield place
    finally:
        remove(place)


class Near(Engine):
    """The same command line in this process: it need not be started first. What is killed is started all the same.

    keyfile: beside the repository, of somebody else than the console
    """

    def __init__(self, place: Path, *, code: str = "", keyfile: str = "", repository: Path | None = None) -> None:
        super().__init__(place, code=code, repository=repository)
        if code or keyfile:
            own = {"AIHUB_KEYFILE": str(place / keyfile) if keyfile else ""}
            self.environment = {**self.environment, **own}

    def run(self, verb: str, *words: str | Path, watch: bool = False, codes: Iterable[int] = (OK, WARNINGS)) -> Ran:
        out, said, begun = io.StringIO(), io.StringIO(), time.monotonic()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(said):
            for name, value in self.environment.items():
                patch.setenv(name, value)
            code = command_line.main([verb, "--json", self.address, *map(str, words)])
        assert code in set(codes), f"{verb} ended with code {code}: {said.getvalue()[-500:]}"
        documents = out.getvalue().splitlines()
        result = json.loads(documents[-1]) if documents else None
        return Ran(code, result, said.getvalue().splitlines(), time.monotonic() - begun)


class Story:
    """A repository in `home`, beside the keyfile and all that a deed needs; what its snapshots have to hold."""

    def __init__(self, place: Path, source: random.Random, scale: Scale) -> None:
        self.place, self.random, self.scale = place, source, scale
        self.home, self.source = place / "home", place / "source"
        self.states: dict[str, Path] = {}  # snapshot id → what the source was then

    @property
    def engine(self) -> Near:
        return Near(self.home)

    # history

    def begin(self, name: str, told: Callable[[], None]) -> None:
        """The history of this name, told once in a process; each case begins with a copy of what it left."""
        key = f"{type(self).__name__} {name} {self.scale}"
        if key not in _told:
            self.home.mkdir()
            own, self.random = self.random, random.Random(key)
            plant(self.source, self.scale, self.random)
            told()
            self.random = own
            _told[key] = copy(self.place, Path(tempfile.mkdtemp(dir=_kept())) / "place")
        else:
            remove(self.place)
            copy(_told[key], self.place)
        self.states = {path.name.removeprefix("state-"): path for path in self.place.glob("state-*")}

    def back_up(self, *words: str) -> str:
        """A snapshot of a source that has changed."""
        mutate(self.source, self.random)
        (self.source / "middle").write_bytes(self.random.randbytes(self.scale.early))
        snapshot = str(self.engine.run("backup", self.source, *words, codes=(OK,)).result["snapshot"])
        self.remember(snapshot)
        return snapshot

    def remember(self, snapshot: str) -> None:
        self.states[snapshot] = copy(self.source, self.place / f"state-{snapshot}")

    def forget(self, snapshot: str) -> None:
        self.engine.run("forget", snapshot, codes=(OK,))
        remove(self.states.pop(snapshot))

    # the kill

    def kill(self, number: int, count: int, deed: Deed) -> Figures:
        """Case `number` of `count`: even ones die around an operation, one after the other over the whole deed; odd
        ones while some operation is under way."""
        operations = self._rehearsed(deed)
        if number % 2:
            late = self._kill_meanwhile(deed, self.random.randrange(len(operations)))
        else:
            at = 1 + number * len(operations) // count
            late = self._kill_around(deed, at, "after" if number % 4 else "before")
        return {"operations": len(operations), "kills that came too late": int(late)}

    def _rehearsed(self, deed: Deed) -> list[str]:
        """The operations of the deed, undisturbed, in a copy."""
        twin = copy(self.home, self.place / "twin")
        with counted(Doom(self._doom(deed, "0:before"))):
            self._do(deed, twin, codes=(OK,))
        remove(twin)
        return self._journal.read_text().splitlines()

    def _kill_around(self, deed: Deed, at: int, moment: str) -> bool:
        """True when it had come to its end before."""
        running = self._start(deed, f"{at}:{moment}")
        ran = running.end()
        running.sweep()
        assert ran.code in (KILLED, OK), ran.said
        return ran.code == OK

    def _kill_meanwhile(self, deed: Deed, wanted: int) -> bool:
        running = self._start(deed, "0:before")
        while not running.over and len(self._journal.read_bytes().splitlines()) <= wanted:
            time.sleep(0.0005)
        time.sleep(self.random.uniform(0, 0.01))
        over = running.over
        running.kill()
        running.sweep()
        return over

    def _start(self, deed: Deed, doom: str) -> Running:
        engine = _hands(self.home, deed)
        verb, *words = map(str, deed.words(engine))
        command = [sys.executable, "-m", "tests.proofs.doomed", verb, "--json", engine.address, *words]
        return Running(command, {**engine.environment, **self._doom(deed, doom)})

    def _doom(self, deed: Deed, doom: str) -> dict[str, str]:
        self._journal.write_bytes(b"")
        return {"AIHUB_DOOM": doom, "AIHUB_DOOM_SINCE": deed.since, "AIHUB_OPERATIONS": str(self._journal)}

    @property
    def _journal(self) -> Path:
        return self.place / "operations"

    # what must hold

    def do(self, deed: Deed, codes: Sequence[int] = (OK,)) -> Ran:
        """The deed once more, to its end."""
        return self._do(deed, self.home, codes)

    def _do(self, deed: Deed, home: Path, codes: Sequence[int]) -> Ran:
        engine = _hands(home, deed)
        verb, *words = map(str, deed.words(engine))
        return engine.run(verb, *words, codes=codes)

    def whole(self) -> None:
        """Every snapshot that was committed comes back identical, and a check that reads everything finds nothing."""
        assert sorted(self.engine.snapshots()) == sorted(self.states)
        assert self.engine.run("check", "--read-data", codes=(OK,)).result["problems"] == []
        assert self.come_back() == set(self.states)

    def come_back(self, engine: Engine | None = None) -> set[str]:
        """Snapshots that come back as they were, all of them; the others say that they do not."""
        return {snapshot for snapshot in self.states if self._comes_back(engine or self.engine, snapshot)}

    def _comes_back(self, engine: Engine, snapshot: str) -> bool:
        target = self.place / "back"
        words = ("--snapshot", snapshot, "--target", target, "--privileges", "--workers", "0")
        ran = engine.run("restore", *words, codes=(OK, WARNINGS, FAILED, NOT_FOUND, DAMAGE, NOT_ALLOWED))
        if ran.code == OK:
            assert_same(self.states[snapshot], target)
        remove(target)
        return ran.code == OK

    def opens(self, keyfile: str) -> bool:
        """Does what is in this file open the repository?"""
        if not (self.home / keyfile).exists():
            return False
        return Near(self.home, keyfile=keyfile).run("list", codes=(OK, NOT_ALLOWED)).code == OK

    def new_keyfile(self, name: str) -> Path:
        (self.home / name).write_bytes(self.random.randbytes(32))
        return self.home / name


def _hands(home: Path, deed: Deed) -> Near:
    """Whoever does the deed, in this place."""
    return Near(home, keyfile=deed.keyfile)


def objects(place: Path) -> dict[str, bytes]:
    """All objects of a repository in a directory, without the engine; not what is in quarantine."""
    files = (path for path in place.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {str(path.relative_to(place)): path.read_bytes() for path in files if "quarantine" not in path.parts}


def compacted(engine: Engine) -> None:
    """What a console does when nobody else is at work: unused space goes at once."""
    ran = Running([sys.executable, "-c", AT_ONCE, str(engine.repository)], engine.environment).end()
    assert ran.code == OK, ran.said
