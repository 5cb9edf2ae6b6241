"""The power fails at random moments: what was acknowledged is on the disk, what was not does no harm.

The repository lies on a disk of its own, the engine's real command line works on it, and the kernel forgets what was
not synced. The same stories with a sham fsync have to lose something, else they would not see that a sync is missing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from tests.power import SHAMS, PoweredDisk, sham_sync
from tests.proofs.engine_kills import Scale, bulk, mutate, plant
from tests.proofs.registry import Case, Figures, proof
from tests.proofs.workshop import IN_THE_WAY, OK, Engine, Ran, Running, assert_same, copy, remove, roomy

DISK = 1 << 30  # bytes; sparse
SMALL = Scale(files=200, early=1 << 20, bulk=24 << 20)
LARGE = Scale(files=200, early=1 << 20, bulk=160 << 20)  # of more packs than wait for one index object
# What else a disk of ours may be told; the second lets names reach the disk before what they name.
MOUNTS = ("", "data=writeback,noauto_da_alloc", "data=journal")
CUTS = 3  # of one case
PATIENCE = 60.0  # seconds after which an engine whose disk is gone has to have ended by itself


class Lost(AssertionError):
    """Something that was acknowledged is not there, or not as it was."""


@proof(
    "powercut", "backups", "the power fails in backups and right after them: what was acknowledged is whole", count=40
)
def backups(case: Case) -> Figures:
    with story(case) as cut:
        return cut.prove(CUTS)


@proof("powercut", "inits", "the power fails while a repository is made and right after", count=20)
def inits(case: Case) -> Figures:
    with story(case) as cut:
        return cut.prove_init(late=case.number % 2 == 0)


@proof("powercut", "restores", "the power fails in restores and right after: the old, or the whole new", count=20)
def restores(case: Case) -> Figures:
    with story(case) as cut:
        return cut.prove_restore(late=case.number % 2 == 0, there=case.number % 4 >= 2)


@proof(
    "powercut", "sham-fsync", "the same stories with an fsync that does nothing: each of them loses something", count=21
)
def sham_fsync(case: Case) -> Figures:
    """A repository that is being made forgives the last missing fsync of one kind: its log repeats its config."""
    deeds: list[tuple[str, Callable[[PowerCut], Figures]]] = [
        *((which, lambda cut: cut.prove(1, late=True)) for which in SHAMS),
        *((which, lambda cut: cut.prove_restore(late=True, there=False)) for which in SHAMS),
        ("all", lambda cut: cut.prove_init(late=True)),
    ]
    which, deed = deeds[case.number % len(deeds)]
    with story(case, sham=which) as cut:
        assert_loses(lambda: deed(cut))
    return {"losses": 1}


def assert_loses(deed: Callable[[], Figures]) -> None:
    """The story ends because what was acknowledged is gone, and for no other reason."""
    try:
        deed()
    except Lost:
        return
    raise AssertionError("Nothing was lost without fsync: this would not see that one is missing.")


@contextmanager
def story(case: Case, *, sham: str = "") -> Iterator[PowerCut]:
    """A disk and a source for one case; large, other mounts and a cache on the same disk come in turn."""
    scale = LARGE if case.number % 8 == 7 else SMALL
    place = roomy(2 * DISK, case.place)
    mount = "" if sham else MOUNTS[case.number // 2 % 3]  # a journal of data would forgive a missing sync
    disk = PoweredDisk(place / "power", DISK, mount)
    try:
        yield PowerCut(place, disk, case.random, scale, sham=sham, cache_too=case.number % 3 == 1)
    finally:
        disk.close()
        remove(place)


class PowerCut:
    """A repository on a disk whose power fails.

    sham       what the engine only pretends to sync, one of SHAMS; the repository itself is made honestly
    cache_too  the engine's cache is on that disk as well
    """

    def __init__(
        self,
        place: Path,
        disk: PoweredDisk,
        source: random.Random,
        scale: Scale = SMALL,
        *,
        sham: str = "",
        cache_too: bool = False,
    ) -> None:
        self.place, self.disk, self.random, self.scale = place, disk, source, scale
        self.engine = Engine(place, repository=disk.root / "repository")
        self.source, self.target = place / "source", place / "target"
        self.states: dict[str, Path] = {}  # acknowledged snapshot → what the source was then
        self.figures: Figures = {"cuts": 0, "cuts after the acknowledgement": 0, "came through unacknowledged": 0}
        if cache_too:
            self.engine.environment["AIHUB_CACHE_DIR"] = str(disk.root / "cache")
        self._sham = {"LD_PRELOAD": str(sham_sync(place, sham))} if sham else {}

    # making a repository

    def prove_init(self, *, late: bool) -> Figures:
        """late: the cut comes right after the acknowledgement."""
        self.engine.environment |= self._sham
        running = self.engine.start("init")
        ran = self._cut(running, None if late else partial(self._wait, running, 0.6))
        if ran and ran.code == OK and self._asked("list").code != OK:
            raise Lost("The repository was acknowledged, and it is gone.")
        made = self.engine.run("init", codes=(OK, IN_THE_WAY))
        assert made.code == OK or "holds a repository already" in made.said[0], made.said
        assert self._problems() == []
        return self.figures

    # backups

    def prove(self, cuts: int, *, late: bool | None = None) -> Figures:
        """late: every cut comes right after an acknowledgement, or none; None: by chance. Raises Lost."""
        self.engine.run("init")
        self.engine.environment |= self._sham
        plant(self.source, self.scale, self.random)
        seconds = 0.5
        for _ in range(cuts):
            bulk(self.source / "bulk", self.scale, self.random)
            after = self.random.random() < 0.4 if late is None else late
            running = self.engine.start("backup", self.source)
            ran = self._cut(running, None if after else partial(self._wait, running, seconds))
            self._judge(ran)
            seconds = max(seconds, self._back_up().seconds)
            mutate(self.source, self.random)
            remove(self.source / "bulk")
        for snapshot in self.states:
            self._restores(snapshot)
        return self.figures

    def _back_up(self) -> Ran:
        """The next backup needs nobody's help; it is acknowledged, and the next cut must not take it."""
        ran = self.engine.run("backup", self.source, codes=(OK,))
        self._remember(ran.result["snapshot"])
        return ran

    def _remember(self, snapshot: str) -> None:
        self.states[snapshot] = copy(self.source, self.place / f"state-{snapshot}")

    def _judge(self, ran: Ran | None) -> None:
        """All that was acknowledged is listed, sound and whole; what else is listed is whole, too."""
        if ran and ran.code == OK:
            self._remember(ran.result["snapshot"])
        listed = self._asked("list")
        found = {row["id"] for row in listed.result} if listed.code == OK else set()
        if missing := self.states.keys() - found:
            raise Lost(f"{sorted(missing)} were acknowledged and are not listed: {listed.said}")
        if problems := self._problems():
            raise Lost(f"A check finds {problems}")
        for snapshot in found - self.states.keys():
            self._remember(snapshot)
            self.figures["came through unacknowledged"] += 1
        for snapshot in list(self.states)[-2:]:
            self._restores(snapshot)

    def _problems(self) -> list[object]:
        checked = self._asked("check", "--read-data")
        return list(checked.result["problems"]) if checked.result else list(checked.said)

    def _restores(self, snapshot: str) -> None:
        ran = self._asked("restore", "--snapshot", snapshot, "--target", str(self.target))
        if ran.code != OK:
            raise Lost(f"{snapshot} does not come back: {ran.said}")
        assert_same(self.states[snapshot], self.target)
        remove(self.target)

    def _asked(self, *words: str) -> Ran:
        return self.engine.start(*words).end(PATIENCE)

    # restores onto the disk

    def prove_restore(self, *, late: bool, there: bool) -> Figures:
        """The repository is elsewhere, the target's disk fails. there: the target exists already, empty."""
        self.engine.repository = self.place / "repository"
        self.engine.address = str(self.engine.repository)
        self.target = self.disk.root / "target"
        self.engine.run("init")
        plant(self.source, self.scale, self.random)
        bulk(self.source / "bulk", self.scale, self.random)
        seconds = self._back_up().seconds
        if there:
            self.target.mkdir()
        self.engine.environment |= self._sham
        running = self.engine.start("restore", "--target", self.target)
        ran = self._cut(running, None if late else partial(self._sleep, seconds))
        self._old_or_new(acknowledged=bool(ran and ran.code == OK))
        if self._restored():
            remove(self.target)
        again = self.engine.run("restore", "--target", self.target, codes=(OK,))  # goes on, if it was cut off
        assert_same(self.source, self.target)
        return self.figures | {"MiB not written again": again.result["kept"] >> 20}

    def _old_or_new(self, *, acknowledged: bool) -> None:
        """No name of the target shows half a file; of what was acknowledged all names are there."""
        found = self._restored()
        for path in (path for path in found if path.is_file()):
            twin = self.source / path.relative_to(self.target)
            if path.read_bytes() != twin.read_bytes():
                raise Lost(f"{path.name} is half")
        if acknowledged and len(found) != len(list(self.source.rglob("*"))):
            raise Lost(f"The restore was acknowledged, and {len(found)} names are there.")
        if acknowledged:
            assert_same(self.source, self.target)

    def _restored(self) -> list[Path]:
        """What stands in the target, but for what a restore has not finished."""
        found = self.target.rglob("*") if self.target.exists() else iter(())
        return [path for path in found if not _unfinished(path.relative_to(self.target))]

    # the cut

    def _cut(self, running: Running, until: Callable[[], None] | None) -> Ran | None:
        """Cut the power, and put it on again; how the command ended, None when it went with the power.

        until: waits for the moment; None: as soon as the command has ended. The command dies with the power, or
        outlives it as on a disk that was pulled out, and has to end by itself.
        """
        ran = None if until else running.end(PATIENCE)
        if until:
            until()
        if ran or self.random.random() < 0.5:
            self.disk.cut()
            ran = ran or running.end(PATIENCE)
        else:
            running.kill()
            self.disk.cut()
        running.sweep()
        self.disk.on()
        self.figures["cuts"] += 1
        self.figures["cuts after the acknowledgement"] += bool(ran and ran.code == OK)
        return ran

    def _sleep(self, most: float) -> None:
        time.sleep(self.random.uniform(0, most))

    def _wait(self, running: Running, most: float) -> None:
        """Up to so many seconds; or until the commit begins, which no clock would often hit."""
        if self.random.random() < 0.6:
            self._sleep(most)
            return
        before = self._in_the_log()
        while not running.over and self._in_the_log() == before:
            time.sleep(0.0002)
        time.sleep(self.random.choice((0, 0, 0.002, 0.02)))

    def _in_the_log(self) -> list[Path]:
        return sorted((self.engine.repository / "log").rglob("*"))


def _unfinished(path: Path) -> bool:
    return any(part.startswith(".aihub-restore-") for part in path.parts)
