"""The life of a repository against a dictionary: backups, changes, crashes, storms, forgetting, damage and healing."""

from __future__ import annotations

import os
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, note, settings
from hypothesis import strategies as some
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from hypothesis.stateful import run_state_machine_as_test as run

from backups.engine import Options, Repository, Secret, Snapshot, check
from backups.engine import format as fmt
from backups.engine.errors import EngineError, ObjectDamaged, TakenOver, Tampered, WrongSecret
from backups.engine.keys import KeyRing
from backups.engine.store import Place
from backups.engine.stores.memory import MemoryStore
from backups.engine.stores.retrying import Patience, RetryingStore
from tests.engine.scenery import INLINE, KEY, archived, files_of, scanned
from tests.faults import Crash, Fault, FaultyStore, Harm

PAPER = Secret("recovery", bytes(range(32)))
CODECS = (("zstd", 1), ("gzip", 1), ("none", 0))


def when(it_holds: Callable[[Any], object]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A rule that does nothing at other times.

    A precondition of Hypothesis would also decide what is drawn next. Times and inodes make packs of other lengths, so
    that a crash at the n-th operation meets another deed: the same draws would lead elsewhere; Hypothesis refuses that.
    """

    def guarded(deed: Callable[..., None]) -> Callable[..., None]:
        @wraps(deed)
        def deed_in_its_time(self: Any, **drawn: Any) -> None:
            if it_holds(self):
                deed(self, **drawn)

        return deed_in_its_time

    return guarded


class History(RuleBasedStateMachine):
    """Model: snapshot id → file name → content. What the model holds must be readable, and nothing else visible."""

    @initialize(seed=some.integers(0, 1 << 32))
    def begin(self, seed: int) -> None:
        note(f"seed {seed}")
        self.random = random.Random(seed)
        self.patch = pytest.MonkeyPatch()  # the same keys, chunks and paths: a life that fails can be lived again
        self.patch.setattr(os, "urandom", self.random.randbytes)
        ring = KeyRing(1, {1: os.urandom(32)}, os.urandom(32), 4711)
        self.patch.setattr(KeyRing, "generate", lambda: ring)
        self.home = Path(tempfile.gettempdir()) / f"history-{os.getpid()}"
        shutil.rmtree(self.home, ignore_errors=True)
        self.home.mkdir()
        self.root = self.home / "data"
        self.root.mkdir()
        self.store = MemoryStore()
        repository = Repository.create(self.store, [(KEY, "app"), (PAPER, "paper")], cache=self.home / "cache")
        self.anchors: list[str] = repository.log.leaves
        self.present: dict[str, bytes] = {}
        self.model: dict[str, Mapping[str, bytes]] = {}
        self.ruined: tuple[str, bytes] | None = None  # the one damaged object, and its right bytes
        self.beside: Repository | None = None  # another writer, who looked some time ago
        self.key = KEY  # of the console whose repository it is
        self.count = 0

    def teardown(self) -> None:
        if hasattr(self, "home"):
            self.patch.undo()
            self.heal()
            assert check(self.opened(), 3).sound
            self.reads_everything()
            shutil.rmtree(self.home)

    # the world outside

    @rule(number=some.integers(0, 8), kind=some.sampled_from(["small", "large", "empty", "gone"]))
    def change_a_file(self, number: int, kind: str) -> None:
        name = f"file {number}"
        (self.root / name).unlink(missing_ok=True)  # other names of its inode keep what they had
        if kind == "gone":
            self.present.pop(name, None)
            return
        size = {"small": 3000, "large": 180_000, "empty": 0}[kind]
        self.present[name] = self.random.randbytes(size // 3) * 3
        (self.root / name).write_bytes(self.present[name])

    @rule()
    def link_a_file(self) -> None:
        if self.present:
            name = self.random.choice(sorted(self.present))
            other = f"{name} again"
            (self.root / other).unlink(missing_ok=True)
            os.link(self.root / name, self.root / other)
            self.present = {**self.present, other: self.present[name]}

    # backups

    @rule(parent=some.booleans(), codec=some.sampled_from(CODECS))
    def back_up(self, parent: bool, codec: tuple[str, int]) -> None:
        self.attempt(self.store, parent, Options(workers=0, codec=codec[0], level=codec[1]))

    @rule(after=some.integers(1, 40), harm=some.sampled_from([Harm.CRASH, Harm.CRASH_AFTER]))
    def crash_in_a_backup(self, after: int, harm: Harm) -> None:
        self.attempt(FaultyStore(self.store, [Fault(harm, at=after)]), parent=True)

    @rule(seed=some.integers(0, 1 << 20))
    def back_up_in_a_storm(self, seed: int) -> None:
        stormy = FaultyStore(self.store, storm=0.2, seed=seed)
        self.attempt(RetryingStore(stormy, Patience(attempts=30), sleep=lambda _: None), parent=True)

    @rule()
    def look_from_beside(self) -> None:
        """A second writer opens the repository and will go on from what it saw."""
        self.beside = self.opened()

    @rule()
    @when(lambda self: self.beside is not None)
    def back_up_from_beside(self) -> None:
        assert self.beside is not None
        self.commit(self.beside, None, INLINE)

    def attempt(self, store: Place, parent: bool, options: Options = INLINE) -> None:
        try:
            repository = self.opened(store)
        except Crash:
            return
        before = self.random.choice([None, *repository.snapshots]) if parent else None
        self.commit(repository, before, options)

    def commit(self, repository: Repository, parent: Snapshot | None, options: Options) -> None:
        """A backup that may fail; whether it came through is asked of the log afterwards, as the watchdog does."""
        self.count += 1
        name, files = f"snapshot {self.count:04}", dict(self.present)
        try:
            archived(repository, scanned(self.root), name, parent=parent, options=options)
        except Crash:
            pass
        except (Tampered, ObjectDamaged):
            assert self.ruined or repository.log.blocked  # who once saw it beheaded writes no more, healed or not
        except TakenOver:
            assert repository.slot != self.opened().log.owner["slot"]
        if name in self.opened().log.live:
            self.model[name] = files
            self.remember()

    # housekeeping

    @rule()
    @when(lambda self: self.model and not self.ruined)
    def forget(self) -> None:
        gone = self.random.choice(sorted(self.model))
        self.opened().log.append("forget", {"forget": [gone], "reason": "story"})
        del self.model[gone]
        self.remember()

    @rule()
    @when(lambda self: not self.ruined)
    def write_a_checkpoint(self) -> None:
        self.opened().log.append_checkpoint()
        self.remember()

    @rule()
    def lose_the_cache(self) -> None:
        shutil.rmtree(self.home / "cache", ignore_errors=True)

    # damage

    @rule(where=some.floats(0, 0.999), gone=some.booleans())
    @when(lambda self: self.ruined is None)
    def ruin_an_object(self, where: float, gone: bool) -> None:
        """One byte, or all of one object; a check names it, and nothing that is wrong is ever read."""
        records = [name for name in self.store.objects if name.startswith("log/")]
        name = self.random.choice(list(self.store.objects))  # by age: what follows from the seed alone
        if gone and records == [name]:
            return  # an empty log opens no more
        data = self.store.objects[name]
        self.ruined = (name, data)
        at = int(where * len(data))
        if gone:
            del self.store.objects[name]
        else:
            self.store.objects[name] = data[:at] + bytes([data[at] ^ 1 << self.random.randrange(8)]) + data[at + 1 :]
        told = {problem.object for problem in check(self.opened(anchored=False), 2).problems}
        unseen = gone and name in self.anchors  # a cut tail; who remembers its name sees it
        index = gone and name.startswith("index/")  # of a killed run: told by the blobs it is missed for, if any
        told_in_part = index and ("" in told or self.all_comes_back())
        assert name in told or unseen or told_in_part or self.is_litter(name), (name, told)
        self.reads_everything()

    @rule()
    @when(lambda self: self.ruined is not None)
    def heal(self) -> None:
        """A copy of the storage has the right bytes."""
        if self.ruined:
            self.store.objects[self.ruined[0]] = self.ruined[1]
            self.ruined = None
            self.remember()

    # what must hold

    @invariant()
    def what_was_committed_is_visible_and_nothing_else(self) -> None:
        if not self.ruined:
            assert self.opened().log.live.keys() == self.model.keys()

    @rule()
    def reads_everything(self) -> None:
        """Every file comes back as it was; with a damaged object around, as it was or not at all."""
        repository = self.opened(anchored=not self.ruined)
        for name, files in self.model.items():
            try:
                snapshot = repository.log.snapshot(name)
                assert files_of(repository, snapshot, self.root) == files
            except EngineError:
                assert self.ruined

    def all_comes_back(self) -> bool:
        """Is nothing lost? What an index object tells may stand in another one too."""
        repository = self.opened(anchored=False)
        snapshots = [(repository.log.snapshot(name), files) for name, files in self.model.items()]
        return all(files_of(repository, snapshot, self.root) == files for snapshot, files in snapshots)

    def is_litter(self, name: str) -> bool:
        """A pack that a killed run left behind: no index tells of it, so nobody can miss it."""
        repository = self.opened(anchored=False)
        packs = {pack.digest.hex() for pack in repository.sync_index().packs()}
        if name.startswith("keys/"):  # a slot whose console was killed before it said so
            return name not in repository.log.keys
        return name.startswith("packs/") and name.rpartition("/")[2] not in packs

    @rule()
    @when(lambda self: self.ruined is None)
    def is_sound(self) -> None:
        assert check(self.opened(), 3).problems == []

    def remember(self) -> None:
        if not self.ruined:
            self.anchors = self.opened().log.leaves

    def opened(self, store: Place | None = None, *, anchored: bool = True) -> Repository:
        anchors = self.anchors if anchored and not self.ruined else []
        cache = self.home / "cache" if anchored and not self.ruined else None  # it remembers leaves too
        try:
            return Repository.open(store or self.store, self.key, cache=cache, anchors=anchors)
        except (WrongSecret, ObjectDamaged):
            assert self.ruined
            assert self.ruined[0].startswith("keys/")
            return Repository.open(store or self.store, PAPER, cache=cache, anchors=anchors)


def test_a_repository_keeps_what_it_was_given_whatever_happens() -> None:
    live_through(15, 25)


def live_through(examples: int, steps: int, factory: type[History] = History) -> None:
    """Many lives of so many steps, with small packs, frames and checkpoints: a short life sees all of them."""
    with pytest.MonkeyPatch.context() as small:
        for name, value in {"FRAME_SIZE": 4000, "PACK_SIZE": 9000, "PACKS_PER_INDEX": 2}.items():
            small.setattr(fmt, name, value)
        small.setattr(fmt, "RECORDS_PER_CHECKPOINT", 6)
        # Times and inodes differ, so that no life repeats exactly: shrinking one would take long and lead nowhere.
        once = (Phase.explicit, Phase.generate)
        run(factory, settings=settings(max_examples=examples, stateful_step_count=steps, deadline=None, phases=once))
